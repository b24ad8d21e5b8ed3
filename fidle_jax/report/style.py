"""What all figures share: colours that colour-blind people can tell apart, sizes, short names."""

import io
import textwrap
from collections.abc import Sequence
from typing import Literal

from matplotlib.figure import Figure

# Okabe and Ito, "Color Universal Design" (2008)
BLUE, VERMILLION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#5F6368"

LINES = "#E3E6EA"  # of grids, pale

WIDTH = 7.2  # inches: at 140 dots an inch as wide as the page's text column
TEXT, SMALL = 12, 10  # points: legible when the figure is shown at half its size
DOTS_PER_INCH = 140


def new_figure(
    height: float,
    width: float = WIDTH,
    layout: Literal["constrained", "compressed", "none"] = "constrained",
) -> Figure:
    """An empty figure of the given size in inches; its subplots make room for their labels."""
    return Figure(
        figsize=(width, height),
        facecolor="white",
        layout=layout,  # pyright: ignore[reportArgumentType]  # the stubs lack "none"
    )


def png(figure: Figure) -> bytes:
    """The figure as a PNG file's bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    return buffer.getvalue()


def legend_below(figure: Figure, columns: int, where: str = "outside lower center") -> None:
    """One legend for all panels of the figure, each name once, under them."""
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


def short(name: str, most: int) -> str:
    """The name in at most ``most`` characters; the middle goes, as ends often differ."""
    if len(name) <= most:
        return name
    tail = (most - 1) * 6 // 10
    return f"{name[: most - 1 - tail].rstrip()}…{name[len(name) - tail :].lstrip()}"


def wrapped(name: str, width: int, most_lines: int) -> list[str]:
    """The name in lines of at most ``width`` characters; where they are too many, its middle goes."""
    for most in range(max(len(name), width), width, -1):
        lines = textwrap.wrap(short(name, most), width)
        if len(lines) <= most_lines:
            return lines
    return [short(name, width)]


def longest(names: Sequence[str]) -> int:
    """How many characters the longest name has."""
    return max(map(len, names))
