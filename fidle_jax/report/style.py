"""Style that all figures share: colours, sizes, axes, legends, and shortened names."""

import functools
import io
import textwrap
import warnings
from collections.abc import Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names
from matplotlib.text import Text

# Okabe and Ito, "Color Universal Design" (2008): colour-blind people can distinguish them.
BLUE, VERMILLION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#5F6368"
LINES = "#E3E6EA"  # of grids

WIDTH = 7.2  # inches: at this resolution as wide as the text of a page
DOTS_PER_INCH = 140
TEXT, SMALL = 12, 10  # points: legible at half the size

# Fonts for class names in other scripts, if they are installed: on Linux, macOS and Windows.
OTHER_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Micro Hei", "Noto Sans Devanagari"),
    *("PingFang SC", "Hiragino Sans", "Arial Unicode MS"),
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Nirmala UI"),
)


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
    """Return the content of a PNG file. A dollar in a name starts no formula.

    Characters that no font contains are drawn as boxes, without a warning.
    """
    for text in figure.findobj(Text):
        # The labels of logarithmic axes are formulas of Matplotlib. Most are still empty here.
        if isinstance(text, Text):
            content = text.get_text()
            text.set_parse_math("$" not in content or content.startswith(r"$\mathdefault"))
            if not content.isascii():
                text.set_fontfamily([*text.get_fontfamily(), *_other_fonts()])
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    return buffer.getvalue()


@functools.cache
def _other_fonts() -> list[str]:
    """Return the installed ones of `OTHER_FONTS`."""
    installed = get_font_names()
    return [name for name in OTHER_FONTS if name in installed]


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
