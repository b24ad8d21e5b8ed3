"""Figures of what padding, strides and pooling make of an image's size."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fidle_jax.kernels.windows import Windows, resolve_windows
from fidle_jax.lessons.layer_costs import Stage
from fidle_jax.report.lesson import Table
from fidle_jax.report.lessons.convolution import (
    PALE,
    PAPER,
    WARM,
    canvas,
    draw_cells,
    outline,
    plain,
)
from fidle_jax.report.style import BLUE, GREY, SMALL, TEXT, VERMILLION

TILES = (PALE, WARM, "#D9EFE4", "#F3E3EE")


class Layout(NamedTuple):
    """A window that slides over a square image.

    Attributes:
        title: what it is, as in 3×3, valid, stride 2.
        side: of the image that is drawn.
        windows: over it.
        example: side of another image, and what becomes of it.
    """

    title: str
    side: int
    windows: Windows
    example: tuple[int, int]


def make_layout(kind: str, size: int, padding: str, stride: int) -> Layout:
    """A window of ``size`` over 7x7, and the size that it makes of a digit's 28.

    Args:
        kind: what slides, before its size in the title; empty for a kernel.
        size: of the window.
        padding: "valid" or "same".
        stride: of the window.
    """
    drawn, digit = (
        resolve_windows((side, side), size, stride, padding=padding) for side in (7, 28)
    )
    title = f"{kind} {size}×{size}, {padding}, stride {stride}".lstrip()
    return Layout(title, 7, drawn, (28, digit.count[0]))


def layouts_figure(layouts: Sequence[Layout]) -> Figure:
    """Two layouts a row: image with its padding and the first two windows, and what comes out."""
    wide, high = 20.0, 13.2
    figure, axes = canvas(2 * wide, high * -(-len(layouts) // 2))
    for number, layout in enumerate(layouts):
        row, column = divmod(number, 2)
        _draw_layout(axes, column * wide + 0.6, row * high, layout)
    return figure


def _draw_layout(axes: Axes, left: float, top: float, layout: Layout) -> None:
    windows, side = layout.windows, layout.side
    (size, _), (stride, _), (count, _) = windows.size, windows.strides, windows.count
    before, after = windows.padding[0]
    before_after = f"{layout.example[0]} → {layout.example[1]}"
    axes.text(left, top + 0.9, layout.title, size=TEXT, weight="bold", va="center")
    axes.text(left, top + 2.4, f"{side} → {count},  {before_after}", size=TEXT, va="center")
    # Room for one value of padding on every side, so that images stand in one line.
    x, y = left + 1, top + 4.4
    covered = (count - 1) * stride + size - before
    for row in range(-before, side + after):
        for column in range(-before, side + after):
            inside = 0 <= row < side and 0 <= column < side
            axes.add_patch(
                Rectangle(
                    (x + column, y + row),
                    1,
                    1,
                    facecolor=PALE if inside and max(row, column) < covered else PAPER,
                    edgecolor=GREY,
                    linewidth=0.8,
                    linestyle="-" if inside else ":",
                )
            )
    if count > 1:
        _dashed(axes, x - before + stride, y - before, size)
    outline(axes, x - before, y - before, size, size)
    axes.annotate(
        "",
        (x + side + 2.6, y + side / 2),
        (x + side + 1.1, y + side / 2),
        arrowprops={"arrowstyle": "-|>", "color": "black"},
    )
    at = x + side + 2.9
    middle = y + (side - count) / 2
    draw_cells(axes, at, middle, [[""] * count] * count, fill=lambda row, column: WARM)
    if count > 1:
        _dashed(axes, at + 1, middle, 1)
    outline(axes, at, middle, 1, 1)


def _dashed(axes: Axes, left: float, top: float, side: float) -> None:
    axes.add_patch(
        Rectangle(
            (left, top),
            side,
            side,
            fill=False,
            edgecolor=BLUE,
            linewidth=2.2,
            linestyle=(0, (3, 1.5)),
            zorder=4,
        )
    )


def pooling_figure(
    image: Float[np.ndarray, "row column"], pooled: Float[np.ndarray, "down along"]
) -> Figure:
    """The tiles of an image, and the largest value of each."""
    (rows, columns), (down, along) = image.shape, pooled.shape
    left, gap = 4.5, 2.4
    figure, axes = canvas(left + columns + gap + along + 4.5, rows + 0.8)
    largest = np.zeros(image.shape, bool)
    for row, column in np.ndindex(pooled.shape):
        tile = image[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        inner = np.unravel_index(tile.argmax(), tile.shape)
        largest[2 * row + inner[0], 2 * column + inner[1]] = True

    def tile_colour(row, column):
        return TILES[(row * along + column) % len(TILES)]

    draw_cells(
        axes,
        left,
        0.4,
        [list(map(plain, row)) for row in image],
        fill=lambda r, c: tile_colour(r // 2, c // 2),
        ink=lambda r, c: "black" if largest[r, c] else "#7A8087",
    )
    for row, column in np.argwhere(largest):
        outline(axes, left + column + 0.12, 0.52 + row, 0.76, 0.76)
    at = left + columns + gap
    axes.annotate(
        "",
        (at - 0.4, 0.4 + rows / 2),
        (at - gap + 0.4, 0.4 + rows / 2),
        arrowprops={"arrowstyle": "-|>", "color": "black"},
    )
    draw_cells(
        axes,
        at,
        0.4 + (rows - down) / 2,
        [list(map(plain, row)) for row in pooled],
        fill=tile_colour,
    )
    return figure


def chain_figure(stages: Sequence[Stage]) -> Figure:
    """Planes as squares of their size, one behind the other, and dense layers as bars.

    Args:
        stages: of `fidle_jax.nn.CNN`, whose convolutions are of 3x3 and poolings of 2x2.
    """
    between = list(map(_layer_text, stages[1:]))
    shift, left, foot = 0.8, 3.0, 44.0
    widths = [_stage_width(stage.shape, shift) for stage in stages]
    gaps = [19.0 if len(stage.shape) == 3 else 24.0 for stage in stages[1:]]
    figure, axes = canvas(2 * left + sum(widths) + sum(gaps), 58)
    for stage, width, gap, words in zip(stages, widths, [*gaps, 0], [*between, ""], strict=True):
        _draw_stage(axes, left, foot, stage.shape, shift)
        axes.text(
            left + width / 2, foot + 2, _shape_text(stage.shape), size=SMALL, ha="center", va="top"
        )
        left += width
        if words:
            axes.annotate(
                "",
                (left + gap - 2, foot - 3),
                (left + 2, foot - 3),
                arrowprops={"arrowstyle": "-|>", "color": GREY},
            )
            axes.text(
                left + gap / 2,
                foot - 6,
                words,
                size=SMALL,
                ha="center",
                va="bottom",
                color=VERMILLION,
            )
        left += gap
    return figure


def chain_table(stages: Sequence[Stage]) -> Table:
    """Each stage with its shape and parameters, and all parameters together."""
    rows = [
        [stage.layer, "×".join(map(str, stage.shape)), f"{stage.params:,}" if stage.params else "–"]
        for stage in stages
    ]
    total = sum(stage.params for stage in stages)
    return Table(["layer", "what it gives", "parameters"], [*rows, ["together", "", f"{total:,}"]])


def _layer_text(stage: Stage) -> str:
    kind = stage.layer.split("_")[0]
    lines = [kind, *{"conv": ["3×3"], "pool": ["2×2"]}.get(kind, [])]
    return "\n".join([*lines, *([f"{stage.params:,}"] if stage.params else [])])


def _shape_text(shape: tuple[int, ...]) -> str:
    return f"{shape[0]}×{shape[1]}\n×{shape[2]}" if len(shape) == 3 else f"{shape[0]}"


def _stage_width(shape: tuple[int, ...], shift: float) -> float:
    return shape[1] + shift * (shape[2] - 1) if len(shape) == 3 else 3.0


def _draw_stage(axes: Axes, left: float, foot: float, shape: tuple[int, ...], shift: float) -> None:
    if len(shape) != 3:
        # By the square root, or a hundred neurons would not fit beside ten.
        height = 2 * shape[0] ** 0.5
        axes.add_patch(Rectangle((left, foot - height), 3, height, facecolor=WARM, edgecolor=GREY))
        return
    height, width, planes = shape
    for plane in reversed(range(planes)):
        corner = (left + shift * plane, foot - height - shift * plane)
        axes.add_patch(
            Rectangle(corner, width, height, facecolor=PALE, edgecolor=BLUE, linewidth=0.5)
        )
