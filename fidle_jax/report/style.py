"""Style that all figures share: colours, sizes, axes, legends, and shortened names."""

import io
import textwrap
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito, "Color Universal Design" (2008): colour-blind people can distinguish them.
BLUE, VERMILLION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#5F6368"
LINES = "#E3E6EA"  # of grids
INK = "#1C2126"
# Colours and line styles of up to four curves. The markers differ too.
STYLES: tuple[dict[str, Any], ...] = (
    {"color": BLUE, "linestyle": "-"},
    {"color": VERMILLION, "linestyle": "--"},
    {"color": GREEN, "linestyle": "-."},
    {"color": INK, "linestyle": ":"},
)
MARKERS = "os^D"

WIDTH = 7.2  # inches: at this resolution as wide as the text of a page
DOTS_PER_INCH = 140
TEXT, SMALL = 12, 10  # points: legible at half the size


def new_figure(
    height: float,
    width: float = WIDTH,
    layout: Literal["constrained", "compressed", "none"] = "constrained",
) -> Figure:
    """Return an empty figure of the given size in inches."""
    return Figure(
        figsize=(width, height),
        facecolor="white",
        layout=layout,  # pyright: ignore[reportArgumentType]  # the stubs lack "none"
    )


def png(figure: Figure) -> bytes:
    """Return the content of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    return buffer.getvalue()


def panels(
    count: int, columns: int, height: float, extra: float = 0.5, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Create a figure of ``count`` axes in rows of ``columns``.

    Args:
        count: Number of axes.
        columns: Axes per row.
        height: Height of a row, in inches.
        extra: Height for a legend, in inches.
        options: Options of `Figure.subplots`, such as ``sharey``.
    """
    rows = -(-count // columns)
    figure = new_figure(height=height * rows + extra)
    axes = figure.subplots(rows, columns, squeeze=False, **options).ravel()
    for unused in axes[count:]:
        unused.remove()
    return figure, list(axes[:count])


def finish(
    axes: Axes,
    title: str = "",
    x: str = "",
    y: str = "",
    grid: Literal["both", "x", "y", ""] = "both",
) -> None:
    """Set title and labels, and draw a pale grid behind the data but no upper and right spine."""
    axes.set_title(title, fontsize=TEXT)
    axes.set_xlabel(x, fontsize=TEXT)
    axes.set_ylabel(y, fontsize=TEXT)
    if grid:
        axes.grid(color=LINES, axis=grid)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)


def legend_below(figure: Figure, columns: int, where: str = "outside lower center") -> None:
    """Draw one legend below all axes of the figure, with each label once."""
    named = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        named.values(),
        named.keys(),
        loc=where,  # pyright: ignore[reportArgumentType]  # the stubs lack "outside ..."
        ncols=columns,
        fontsize=TEXT,
        frameon=False,
    )


def number(value: float | np.number, form: str = "g") -> str:
    """Format a number with a typographic minus; "∞" and "NaN" if it is not finite."""
    text = format(float(value) + 0, form)  # + 0 turns -0 into 0
    return text.replace("-", "−").replace("inf", "∞").replace("nan", "NaN")


def mean_and_std(values: Shaped[np.ndarray, " value"], form: str = ".1f", sign: str = "") -> str:
    """Format the mean ± the standard deviation of a sample."""
    return f"{number(values.mean(), sign + form)} ± {values.std(ddof=1):{form}}"


def growing_steps(last: int, count: int) -> list[int]:
    """Return up to ``count`` steps from 0 to ``last``. Their distance grows: most happens early."""
    return sorted({round(step) for step in np.geomspace(1, last + 1, count) - 1})


def training_and_validation(axes: Axes, x, training, validation, what: str = "", **style) -> None:
    """Draw a training curve and a validation curve; ``what`` follows their names in the legend."""
    for name, values, line in zip(
        ("training", "validation"), (training, validation), STYLES, strict=False
    ):
        axes.plot(x, values, linewidth=2, label=f"{name}{what}", **line, **style)


def short(name: str, most: int) -> str:
    """Shorten a name to ``most`` characters. The middle is cut, because ends often differ."""
    if len(name) <= most:
        return name
    tail = (most - 1) * 6 // 10
    return f"{name[: most - 1 - tail].rstrip()}…{name[len(name) - tail :].lstrip()}"


def wrapped(name: str, width: int, most_lines: int) -> list[str]:
    """Wrap a name into lines of at most ``width`` characters. Shorten it if it needs more lines."""
    for most in range(max(len(name), width), width, -1):
        lines = textwrap.wrap(short(name, most), width)
        if len(lines) <= most_lines:
            return lines
    return [short(name, width)]


def longest(names: Sequence[str]) -> int:
    """Return the length of the longest name."""
    return max(map(len, names))
