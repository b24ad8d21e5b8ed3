"""Sheets of traffic signs: examples of each class, treatments, tracks, pairs, mirror images."""

import numpy as np
from jaxtyping import Int, UInt8
from matplotlib.figure import Figure

from fidle_jax.report.style import SMALL, WIDTH, short
from fidle_jax.report.tiles import LETTER, LINE, grid, letters_of, place, sheet, write

EXAMPLES = 3  # of each class
FRAMES_A_LINE = 15
GAP = 0.3  # of a cell, between blocks

Images = UInt8[np.ndarray, "n h w c"]


def class_examples(images: Images, labels: Int[np.ndarray, "n"], names: tuple[str, ...]) -> Figure:
    """EXAMPLES photographs of each class, evenly spaced through those it has, with number and name."""
    pictures = [
        list(images[_evenly(np.flatnonzero(labels == label))]) for label in range(len(names))
    ]
    texts = [_two_lines(f"{label} {name}", letters_of(4)) for label, name in enumerate(names)]
    return _blocks(pictures, texts, across=4)


def _evenly(members: Int[np.ndarray, "n"]) -> Int[np.ndarray, "chosen"]:
    places = (np.arange(EXAMPLES) + 0.5) * len(members) / EXAMPLES
    return members[places.astype(int)]


def _blocks(pictures: list[list[np.ndarray]], texts: list[str], across: int) -> Figure:
    """Blocks of pictures side by side, of the same number each, with two lines of words below."""
    wide = len(pictures[0]) + GAP
    columns = across * wide - GAP
    cell = WIDTH / columns
    pitch = 1 + (2 * LINE + 0.12) / cell
    figure, axes = sheet(columns, -(-len(pictures) // across) * pitch, cell)
    for number, (block, text) in enumerate(zip(pictures, texts, strict=True)):
        row, left = number // across, number % across * wide
        for column, image in enumerate(block):
            place(axes, image, left + column, row * pitch)
        write(axes, left + len(block) / 2, row * pitch + 1, text, size=SMALL)
    return figure


def _two_lines(text: str, most: int) -> str:
    """Broken at the space that makes the lines most even, where it is longer than ``most``."""
    if len(text) <= most or " " not in text:
        return text
    spaces = [i for i, letter in enumerate(text) if letter == " "]
    middle = min(spaces, key=lambda i: abs(i - len(text) / 2))
    # Letters of average width are narrower than what `letters_of` allows for.
    return "\n".join(short(line, 11 * most // 10) for line in (text[:middle], text[middle + 1 :]))


def rows_of(images: list[np.ndarray], texts: list[str], columns: int) -> Figure:
    """Pictures in lines, a number and a name below each."""
    figure, axes, pitch = grid(len(images), columns, lines=3)
    for cell, (image, text) in enumerate(zip(images, texts, strict=True)):
        row, column = divmod(cell, columns)
        number, _, name = text.partition("\n")
        broken = _two_lines(name, letters_of(columns))
        place(axes, image, column, row * pitch, f"{number}\n{broken}")
    return figure


def filmstrips(tracks: list[UInt8[np.ndarray, "_ h w c"]], titles: list[str]) -> Figure:
    """Whole tracks, FRAMES_A_LINE a line, each below its title."""
    strips = [-(-len(track) // FRAMES_A_LINE) for track in tracks]
    title, space = 0.62, 0.3  # of a cell, above a strip and below it
    height = sum(strips) + (title + space) * len(tracks)
    figure, axes = sheet(FRAMES_A_LINE, height, WIDTH / FRAMES_A_LINE)
    top = 0.0
    for track, text, lines in zip(tracks, titles, strips, strict=True):
        axes.text(0.05, top + 0.15, text, va="top", fontsize=LETTER)
        for number, frame in enumerate(track):
            line, column = divmod(number, FRAMES_A_LINE)
            place(axes, frame, column, top + title + line)
        top += title + lines + space
    return figure


def treatments_sheet(treated: dict[str, Images]) -> Figure:
    """A row for each set, by name, a column for each sign."""
    signs = len(next(iter(treated.values())))
    columns = signs + 2
    figure, axes = sheet(columns, len(treated), WIDTH / columns)
    for row, (name, images) in enumerate(treated.items()):
        axes.text(1.9, row + 0.5, name, ha="right", va="center", fontsize=LETTER)
        for column, image in enumerate(images):
            place(axes, image, column + 2, row)
    return figure


def pairs_sheet(pairs: list[list[np.ndarray]], names: list[tuple[str, str]]) -> Figure:
    """Pairs side by side, four a line, with the names of both below, or the one that they share."""
    most = letters_of(4)
    texts = [
        _two_lines(first, most)
        if first == second
        else f"{short(first, most)}\n{short(second, most)}"
        for first, second in names
    ]
    return _blocks(pairs, texts, across=4)


def mirrors_sheet(pictures: list[list[np.ndarray]], texts: list[str], across: int) -> Figure:
    """So many blocks a line, of as many pictures each, with words below."""
    return _blocks(pictures, [_two_lines(text, letters_of(across)) for text in texts], across)
