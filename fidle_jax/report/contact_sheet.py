"""A sheet of images as a network saw them, each with its answer, how sure that is, and its file's name."""

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

from fidle_jax.report.style import GREY, VERMILLION, WIDTH, longest, short, wrapped
from fidle_jax.report.tiles import LETTER, LINE, letters_of, place, sheet, write

PER_SHEET = 120
UNSURE = 0.5
BRIEF = 3  # letters: such an answer has its probability beside it
HEAD = 0.5  # inches, for the title


def contact_sheet(
    images: UInt8[np.ndarray, "n h w c"],
    names: list[str],
    answers: list[str],
    probabilities: Float[np.ndarray, "n"],
    title: str,
) -> Figure:
    """Up to `PER_SHEET` images; those with an answer of less than `UNSURE` are framed, as the title says.

    Args:
        images: at least one.
        names: of each image; the middle of long ones is left out.
        answers: the class that each is taken for.
        probabilities: of the answers, from 0 to 1.
        title: one line for the top.
    """
    brief = longest(answers) <= BRIEF
    columns = 8 if brief else 6
    cell, letters = WIDTH / columns, letters_of(columns)
    shares = [f"{100 * probability:.1f} %" for probability in probabilities]
    if brief:
        texts = [f"{answer}  {share}" for answer, share in zip(answers, shares, strict=True)]
    else:
        lines = [wrapped(answer, letters, 3) for answer in answers]
        texts = ["\n".join([*line, share]) for line, share in zip(lines, shares, strict=True)]
    tops = _tops(texts, columns)
    figure, axes = sheet(columns, tops[-1], cell)
    unsure = probabilities < UNSURE
    if unsure.any():
        title = f"{title}; framed: less than {100 * UNSURE:.0f} %"
    axes.text(0.05, tops[0] / 2, title, va="center", fontsize=LETTER)
    for number, (image, text) in enumerate(zip(images, texts, strict=True)):
        row, column = divmod(number, columns)
        colour = VERMILLION if unsure[number] else "black"
        place(axes, image, column, tops[row], text, colour, framed=unsure[number])
        below = tops[row] + 1 + (1 + text.count("\n")) * LINE / cell
        write(axes, column + 0.5, below, short(names[number], letters), GREY)
    return figure


def _tops(texts: list[str], columns: int) -> Float[np.ndarray, "row"]:
    """Where each row begins, and the last ends, in widths of a cell; each has room for its texts."""
    rows = [texts[start : start + columns] for start in range(0, len(texts), columns)]
    lines = np.array([2 + max(text.count("\n") for text in row) for row in rows])
    inches = WIDTH / columns + lines * LINE + 0.12
    return np.cumsum([HEAD, *inches]) * columns / WIDTH
