"""Figures of the lesson on convolution. Most are drawn in cells, on axes with one unit per cell."""

from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fidle_jax.kernels.geometry import resolve_geometry
from fidle_jax.lessons.figures import finish, number, panels
from fidle_jax.report.style import BLUE, GREY, LINES, SMALL, TEXT, VERMILLION, WIDTH, new_figure

if TYPE_CHECKING:
    from fidle_jax.lessons.convolution import Stage, Step

PALE, WARM, PAPER = "#DCEBF5", "#FBE3D2", "white"
TILES = np.array([[PALE, WARM], ["#D9EFE4", "#F3E3EE"]])
SIGNED = "PuOr"  # a colour map with white at zero, also for colour-blind readers
ARROW = {"arrowstyle": "-|>", "color": "black"}


def _canvas(columns: float, rows: float) -> tuple[Figure, Axes]:
    """Create a figure that is measured in cells, from the upper left corner."""
    figure = new_figure(height=WIDTH * rows / columns, layout="none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, columns), ylim=(rows, 0))
    axes.set_axis_off()
    return figure, axes


def _cells(
    axes: Axes, left: float, top: float, values, fill: Any = PAPER, ink: Any = "black", size=TEXT
) -> None:
    """Draw a grid of numbers. NaN is an empty cell; ``fill`` and ``ink`` are colours, or arrays of them."""
    fill, ink = (np.broadcast_to(each, np.shape(values)) for each in (fill, ink))
    for (row, column), value in np.ndenumerate(values):
        x, y = left + column, top + row
        style = {"facecolor": fill[row, column], "edgecolor": GREY, "linewidth": 0.8}
        axes.add_patch(Rectangle((x, y), 1, 1, **style))
        if not np.isnan(value):
            text = str(Fraction(float(value)).limit_denominator(9)).replace("-", "−")
            _text(axes, x + 0.5, y + 0.53, text, size=size, color=ink[row, column])


def _text(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    axes.text(x, y, text, **{"ha": "center", "va": "center", "size": TEXT} | style)


def _frame(axes: Axes, left: float, top: float, width: float, height: float, **style: Any) -> None:
    options = {"fill": False, "edgecolor": VERMILLION, "linewidth": 3, "zorder": 3} | style
    axes.add_patch(Rectangle((left, top), width, height, **options))


def _dashed_frame(axes: Axes, left: float, top: float, side: float) -> None:
    style = {"edgecolor": BLUE, "linewidth": 2.2, "linestyle": (0, (3, 1.5)), "zorder": 4}
    _frame(axes, left, top, side, side, **style)


def written_sum(step: "Step", kernel: Float[np.ndarray, "*window"]) -> tuple[str, str]:
    """Write the sum of a window with the factors of each product, and with the products."""

    def bracketed(value):
        return number(value) if value >= 0 else f"({number(value)})"

    pairs = zip(step.values.ravel(), kernel.ravel(), strict=True)
    factors = [f"{number(value)}·{bracketed(weight)}" for value, weight in pairs]
    products = map(bracketed, step.products.ravel())
    return " + ".join(factors), f"= {' + '.join(products)} = {number(step.total)}"


def _draw_sum(axes: Axes, top: float, step: "Step", kernel: np.ndarray) -> None:
    for line, text in enumerate(written_sum(step, kernel)):
        _text(axes, np.mean(axes.get_xlim()), top + line, text)


def _draw_result(axes: Axes, left: float, top: float, plane: np.ndarray, last=None) -> None:
    """Draw a plane of the result so far, and frame the ``last`` value."""
    _cells(axes, left, top, plane, fill=np.where(np.isnan(plane), PAPER, WARM))
    if last is not None:
        _frame(axes, left + last[1], top + last[0], 1, 1)


def window_slides(
    image: Float[np.ndarray, "*spatial"],
    kernel: Float[np.ndarray, "*window"],
    steps: Sequence["Step"],
) -> list[Figure]:
    """Draw a figure for each step in 2-D or 3-D: window, kernel, products, sum, and result so far."""
    result = np.full(np.subtract(image.shape, kernel.shape) + 1, np.nan)
    draw = _plane_slide if image.ndim == 2 else _cube_slide
    return [draw(image, kernel, step, result) for step in steps]


def _plane_slide(image, kernel, step, result):
    (rows, columns), (height, width) = image.shape, kernel.shape
    gap, top = 1.3, 1.4
    result[step.start] = step.total
    lefts = np.cumsum([0.5, columns + gap, width + gap, width + gap])
    figure, axes = _canvas(lefts[-1] + result.shape[1] + 0.5, top + rows + 3)
    middle = top + (rows - height) / 2
    y, x = step.start
    counted = np.where(kernel, PALE, PAPER)
    fill, ink = np.full(image.shape, PAPER, "U7"), np.full(image.shape, GREY)
    fill[y : y + height, x : x + width] = counted
    ink[y : y + height, x : x + width] = "black"
    _cells(axes, lefts[0], top, image, fill, ink)
    _frame(axes, lefts[0] + x, top + y, width, height)
    _cells(axes, lefts[1], middle, kernel, counted)
    _cells(axes, lefts[2], middle, step.products, counted, np.where(kernel, "black", GREY))
    _draw_result(axes, lefts[3], middle + (height - len(result)) / 2, result, step.start)
    widths = columns, width, width, result.shape[1]
    for left, title, wide in zip(
        lefts, ("image", "kernel", "products", "result"), widths, strict=True
    ):
        _text(axes, left + wide / 2, 0.75, title, weight="bold")
    for left, sign in zip(lefts[1:], "×=Σ", strict=True):
        _text(axes, left - gap / 2, middle + height / 2, sign, size=TEXT + 4)
    _draw_sum(axes, top + rows + 1, step, kernel)
    return figure


def signal_figure(
    signal: Float[np.ndarray, " width"], kernel: Float[np.ndarray, " kx"], steps: Sequence["Step"]
) -> Figure:
    """Draw all steps of a signal below each other: the kernel under its window, and the sum."""
    left, pitch = 2.4, 1.3
    right = left + len(signal) + 0.7
    figure, axes = _canvas(right + 6.4, pitch * (len(steps) + 2) + 0.8)
    _cells(axes, left, 0.4, signal[None], PALE)
    for row, step in enumerate(steps, start=1):
        top, start = 0.4 + pitch * row, left + step.start[0]
        _cells(axes, start, top, kernel[None])
        _frame(axes, start, top, len(kernel), 1)
        text = f"{written_sum(step, kernel)[0]} = {number(step.total)}"
        _text(axes, right, top + 0.5, text, ha="left")
    top = 0.4 + pitch * (len(steps) + 1)
    _cells(axes, left + (len(kernel) - 1) / 2, top, [[step.total for step in steps]], WARM)
    for y, name in ((0.9, "signal"), (0.9 + pitch, "kernel"), (top + 0.5, "result")):
        _text(axes, left - 0.3, y, name, ha="right", weight="bold")
    return figure


def _cube_slide(cube, kernel, step, result):
    gap, top, left, pitch = 0.4, 2.6, 6.6, cube.shape[2] + 0.4
    result[step.start] = step.total
    z, y, x = step.start
    depth, height, width = kernel.shape
    figure, axes = _canvas(18.2, 12.4)
    space: Any = figure.add_axes((0.01, 0.5, 0.32, 0.45), projection="3d", proj_type="ortho")
    window = np.zeros(cube.shape, bool)
    window[z : z + depth, y : y + height, x : x + width] = True
    # Matplotlib's axes: width to the right, depth to the back, height upwards.
    filled = window.transpose(2, 0, 1)[:, :, ::-1]
    colours = np.where(filled, "#E8813A", "#FFFFFF00")
    space.voxels(np.ones(filled.shape), facecolors=colours, edgecolor="#9AA0A6", linewidth=0.8)
    space.view_init(elev=22, azim=-60)
    space.set_aspect("equal")
    space.set_axis_off()
    space.patch.set_visible(False)
    _text(axes, 3.4, 0.75, "cube", weight="bold")
    _text(axes, left + 1.5 * pitch - 0.2, 0.75, "its slices, from front to back", weight="bold")
    for i, plane in enumerate(cube):
        _cells(axes, left + i * pitch, top, plane)
        _text(axes, left + i * pitch + cube.shape[2] / 2, top - 0.6, str(i + 1), size=SMALL)
        if z <= i < z + depth:
            _frame(axes, left + i * pitch + x, top + y, width, height)
    top, wide, apart = 7.6, depth * (width + gap) - gap, 1.5
    lefts = 1.0 + np.arange(3) * (wide + apart)
    for at, title in zip(lefts, ("kernel", "products", "result"), strict=True):
        _text(axes, at + wide / 2, top - 0.8, title, weight="bold")
    for at, sign in zip(lefts[1:], ("=", "Σ"), strict=True):
        _text(axes, at - apart / 2, top + height / 2, sign, size=TEXT + 4)
    for i in range(depth):
        along = i * (width + gap)
        counted = np.where(kernel[i], PALE, PAPER)
        _cells(axes, lefts[0] + along, top, kernel[i], counted)
        _cells(axes, lefts[1] + along, top, step.products[i], counted)
    for i, plane in enumerate(result):
        last = step.start[1:] if i == z else None
        _draw_result(axes, lefts[2] + i * (result.shape[2] + gap), top, plane, last)
    _draw_sum(axes, top + height + 1.1, step, kernel)
    return figure


def layouts_figure(layouts: Sequence[tuple[int, str, int]], side: int = 7) -> Figure:
    """Draw how windows change the size of an image, two per row.

    Args:
        layouts: Size, padding ("valid", "same", or "pooling" without padding) and stride of each window.
        side: Side of the image.
    """
    wide, high = 20.0, 13.2
    figure, axes = _canvas(2 * wide, high * -(-len(layouts) // 2))
    for i, layout in enumerate(layouts):
        row, column = divmod(i, 2)
        _draw_layout(axes, column * wide + 0.6, row * high, side, *layout)
    return figure


def _draw_layout(axes: Axes, left: float, top: float, side: int, size: int, kind: str, stride: int):
    padding = "valid" if kind == "pooling" else kind
    drawn, digit = (
        resolve_geometry((n, n), size, stride, padding=padding) for n in (side, 28)
    )  # the digits of MNIST have a side of 28
    (count, _), (before, after) = drawn.count, drawn.padding[0]
    what = "pooling " if kind == "pooling" else ""
    title = f"{what}{size}×{size}, {padding}, stride {stride}"
    sizes = f"{side} → {count},  28 → {digit.count[0]}"
    _text(axes, left, top + 0.9, title, ha="left", weight="bold")
    _text(axes, left, top + 2.4, sizes, ha="left")
    # Leave room for one cell of padding on every side, so that all images are aligned.
    x, y = left + 1, top + 4.4
    covered = (count - 1) * stride + size - before
    for row, column in np.ndindex((before + side + after,) * 2):
        row, column = row - before, column - before
        inside = 0 <= row < side and 0 <= column < side
        style = {
            "facecolor": PALE if inside and max(row, column) < covered else PAPER,
            "edgecolor": GREY,
            "linewidth": 0.8,
            "linestyle": "-" if inside else ":",
        }
        axes.add_patch(Rectangle((x + column, y + row), 1, 1, **style))
    _frame(axes, x - before, y - before, size, size)
    middle = y + side / 2
    axes.annotate("", (x + side + 2.6, middle), (x + side + 1.1, middle), arrowprops=ARROW)
    at = x + side + 2.9
    _cells(axes, at, middle - count / 2, np.full((count, count), np.nan), WARM)
    _frame(axes, at, middle - count / 2, 1, 1)
    if count > 1:
        _dashed_frame(axes, x - before + stride, y - before, size)
        _dashed_frame(axes, at + 1, middle - count / 2, 1)


def pooling_figure(
    image: Float[np.ndarray, "height width"], pooled: Float[np.ndarray, "rows columns"]
) -> Figure:
    """Draw the 2x2 tiles of an image, and the maximum of each."""
    (rows, columns), (height, width) = image.shape, pooled.shape
    left, gap = 4.5, 2.4
    figure, axes = _canvas(left + columns + gap + width + 4.5, rows + 0.8)
    largest = np.zeros(image.shape, bool)
    for row, column in np.ndindex(pooled.shape):
        tile = image[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        i, j = np.unravel_index(tile.argmax(), tile.shape)
        largest[2 * row + i, 2 * column + j] = True
    ink = np.where(largest, "black", "#7A8087")
    _cells(axes, left, 0.4, image, TILES.repeat(2, axis=0).repeat(2, axis=1), ink)
    for row, column in np.argwhere(largest):
        _frame(axes, left + column + 0.12, 0.52 + row, 0.76, 0.76)
    at, middle = left + columns + gap, 0.4 + rows / 2
    axes.annotate("", (at - 0.4, middle), (at - gap + 0.4, middle), arrowprops=ARROW)
    _cells(axes, at, middle - height / 2, pooled, TILES)
    return figure


def chain_figure(stages: Sequence["Stage"]) -> Figure:
    """Draw channels as squares of their size, one behind the other, and dense layers as bars.

    Args:
        stages: Stages of `fidle_jax.nn.CNN`, with 3x3 convolutions and 2x2 pooling.
    """
    shift, left, foot = 0.8, 3.0, 44.0
    widths = [w[1] + shift * (w[2] - 1) if len(w) == 3 else 3.0 for _, w, _ in stages]
    gaps = [19.0 if len(stage.shape) == 3 else 24.0 for stage in stages[1:]]
    figure, axes = _canvas(2 * left + sum(widths) + sum(gaps), 58)
    for i, (layer, shape, params) in enumerate(stages):
        if i:
            kind = layer.split("_")[0]
            size = {"conv": "3×3", "pool": "2×2"}.get(kind, "")
            words = "\n".join(filter(None, [kind, size, f"{params:,}" if params else ""]))
            arrow = {"arrowstyle": "-|>", "color": GREY}
            end = left + gaps[i - 1]
            axes.annotate("", (end - 2, foot - 3), (left + 2, foot - 3), arrowprops=arrow)
            style = {"size": SMALL, "va": "bottom", "color": VERMILLION}
            _text(axes, (left + end) / 2, foot - 6, words, **style)
            left = end
        _draw_stage(axes, left, foot, shape, shift)
        text = f"{shape[0]}×{shape[1]}\n×{shape[2]}" if len(shape) == 3 else f"{shape[0]}"
        _text(axes, left + widths[i] / 2, foot + 2, text, size=SMALL, va="top")
        left += widths[i]
    return figure


def _draw_stage(axes: Axes, left: float, foot: float, shape: tuple[int, ...], shift: float) -> None:
    if len(shape) != 3:
        # The height is the square root: a hundred neurons must fit next to ten.
        height = 2 * shape[0] ** 0.5
        axes.add_patch(Rectangle((left, foot - height), 3, height, facecolor=WARM, edgecolor=GREY))
        return
    height, width, planes = shape
    for i in reversed(range(planes)):
        corner = (left + shift * i, foot - height - shift * i)
        style = {"facecolor": PALE, "edgecolor": BLUE, "linewidth": 0.5}
        axes.add_patch(Rectangle(corner, width, height, **style))


def kernels_figure(kernels: Mapping[str, Float[np.ndarray, "kx ky"]]) -> Figure:
    """Draw the values of several kernels: blue if positive, orange if negative."""
    gap, side = 1.0, max(len(kernel) for kernel in kernels.values())
    figure, axes = _canvas(0.8 + len(kernels) * (side + gap) - gap, side + 1.8)
    for i, (name, kernel) in enumerate(kernels.items()):
        left = 0.4 + i * (side + gap)
        fill = np.select([kernel > 0, kernel < 0], [PALE, WARM], PAPER)
        _cells(axes, left, 1.4, kernel, fill, size=SMALL)
        _text(axes, left + side / 2, 0.75, name)
    return figure


def effects_figure(
    results: Mapping[str, Float[np.ndarray, "height width"]], signed: Collection[str]
) -> Figure:
    """Draw the results of several kernels on an image with values from 0 to 1.

    Args:
        results: Results by the name of the kernel.
        signed: Names of the results with both signs. Their colours have zero in the middle and end at the
            99th percentile of the absolute values. The others are grey, from 0 to 1.
    """
    figure, grid = panels(len(results), 3, 2.55, 0.7)
    for axes, (name, result) in zip(grid, results.items(), strict=True):
        limit = float(np.quantile(np.abs(result), 0.99)) or 1.0
        cmap, low, high = (SIGNED, -limit, limit) if name in signed else ("gray", 0, 1)
        axes.imshow(result, cmap=cmap, vmin=low, vmax=high)
        axes.set_title(name, fontsize=TEXT)
        axes.set(xticks=[], yticks=[])
    scale = ScalarMappable(Normalize(-1, 1), SIGNED)
    size = {"fraction": 0.04, "aspect": 40, "shrink": 0.85, "pad": 0.03}
    bar = figure.colorbar(scale, ax=grid, location="bottom", **size)
    bar.set_ticks([-1, 0, 1], labels=["negative", "0", "positive"], fontsize=SMALL + 1)
    return figure


def costs_figure(costs: Mapping[str, tuple[int, int]]) -> Figure:
    """Draw the parameters of convolutional layers and of dense layers, on a logarithmic axis."""
    figure = new_figure(height=0.95 * len(costs) + 1.2)
    axes = figure.subplots()
    convolution, dense = zip(*costs.values(), strict=True)
    for values, shift, colour, hatch, name in (
        (convolution, -0.19, BLUE, "", "convolution"),
        (dense, 0.19, VERMILLION, "//", "dense layer with as many outputs"),
    ):
        # The largest counts exceed NumPy's integers.
        style: Any = {"color": colour, "hatch": hatch, "edgecolor": "white", "label": name}
        bars = axes.barh(np.arange(len(costs)) + shift, list(map(float, values)), 0.36, **style)
        texts = [f"{value:,}" if value < 10**12 else f"{value:.2e}" for value in values]
        axes.bar_label(bars, texts, padding=4, fontsize=SMALL + 1)
    finish(axes, x="parameters", grid=False)
    axes.set_yticks(range(len(costs)), [name.replace(" to ", "\nto ") for name in costs])
    axes.invert_yaxis()
    axes.set_xscale("log")
    # Leave room for the longest number next to its bar.
    axes.set_xlim(1, float(max(10, *convolution, *dense)) ** 1.4)
    axes.grid(axis="x", color=LINES)
    figure.legend(loc="outside upper center", ncols=2, fontsize=TEXT, frameon=False)
    return figure
