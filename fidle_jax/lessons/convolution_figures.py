"""Figures of the lesson on convolution. Most are drawn in cells, on axes with one unit per cell."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fidle_jax.kernels import max_pool
from fidle_jax.kernels.geometry import resolve_geometry
from fidle_jax.lessons.figures import number, panels
from fidle_jax.report.style import BLUE, GREY, LINES, SMALL, TEXT, VERMILLION, WIDTH, new_figure

PALE, WARM, PAPER = "#DCEBF5", "#FBE3D2", "white"
TILES = np.array([[PALE, WARM], ["#D9EFE4", "#F3E3EE"]])
SIGNED = "PuOr"  # a colour map with white at zero, also for colour-blind readers
ARROW = {"arrowstyle": "-|>", "color": "black"}

Grid = Float[np.ndarray, "*spatial"]  # values of one channel
Window = Float[np.ndarray, "*window"]


class Step(NamedTuple):
    """One position of the window."""

    start: tuple[int, ...]  # index of the window in the image, and of the sum in the result
    values: Window
    products: Window  # values times kernel
    total: float


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
            _text(axes, x + 0.5, y + 0.53, _number(value), size=size, color=ink[row, column])


def _number(value: float | np.floating) -> str:
    return str(Fraction(float(value)).limit_denominator(9)).replace("-", "−")


def _text(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    axes.text(x, y, text, **{"ha": "center", "va": "center", "size": TEXT} | style)


def _frame(axes: Axes, left: float, top: float, width: float, height: float, **style: Any) -> None:
    options = {"fill": False, "edgecolor": VERMILLION, "linewidth": 3, "zorder": 3} | style
    axes.add_patch(Rectangle((left, top), width, height, **options))


def written_sum(step: Step, kernel: Window) -> tuple[str, str]:
    """Write the sum of a window with the factors of each product, and with the products."""

    def bracketed(value):
        return number(value) if value >= 0 else f"({number(value)})"

    pairs = zip(step.values.ravel(), kernel.ravel(), strict=True)
    factors = [f"{number(value)}·{bracketed(weight)}" for value, weight in pairs]
    products = map(bracketed, step.products.ravel())
    return " + ".join(factors), f"= {' + '.join(products)} = {number(step.total)}"


def window_slides(image: Grid, kernel: Window, steps: Sequence[Step]) -> list[Figure]:
    """Draw a figure for each step: window, kernel, products, sum, and result so far.

    A signal is drawn as an image with one row, a cube as its slices from front to back.
    """
    image, kernel = np.atleast_2d(image, kernel)
    result = np.full(np.subtract(image.shape, kernel.shape) + 1, np.nan)
    slides = []
    for step in steps:
        start = (0,) * (image.ndim - len(step.start)) + step.start
        step = step._replace(start=start, products=np.atleast_2d(step.products))
        result[start] = step.total
        slides.append(_slide(image, kernel, step, result))
    return slides


def _slices(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, *values.shape[-2:])


def _slide(image, kernel, step, result):
    window, used = np.zeros((2, *image.shape), bool)
    at = tuple(slice(i, i + k) for i, k in zip(step.start, kernel.shape, strict=True))
    window[at], used[at] = True, kernel != 0
    weights = np.where(kernel, PALE, PAPER)
    groups = {
        "image": (image, np.where(used, PALE, PAPER), np.where(window, "black", GREY)),
        "kernel": (kernel, weights, "black"),
        "products": (step.products, weights, np.where(kernel, "black", GREY)),
        "result": (result, np.where(np.isnan(result), PAPER, WARM), "black"),
    }
    space, gap, top, rows = 0.4, 1.3, 1.4, image.shape[-2]
    pitches = [each.shape[-1] + space for each, _, _ in groups.values()]
    widths = [
        len(_slices(each)) * pitch - space
        for (each, _, _), pitch in zip(groups.values(), pitches, strict=True)
    ]
    lefts = 0.5 + np.cumsum([0, *(width + gap for width in widths)])
    figure, axes = _canvas(lefts[-1] - gap + 0.5, top + rows + 3)
    signs = "", "×", "=", "Σ"
    for (name, arrays), left, pitch, width, sign in zip(
        groups.items(), lefts[:-1], pitches, widths, signs, strict=True
    ):
        _text(axes, left + width / 2, 0.75, name, weight="bold")
        _text(axes, left - gap / 2, top + rows / 2, sign, size=TEXT + 4)
        arrays = np.broadcast_arrays(*arrays)
        middle = top + (rows - arrays[0].shape[-2]) / 2
        for i, slices in enumerate(zip(*map(_slices, arrays), strict=True)):
            _cells(axes, left + i * pitch, middle, *slices, size=TEXT if image.ndim == 2 else SMALL)
    y, x = step.start[-2:]
    first = step.start[0] if image.ndim == 3 else 0
    for i in range(first, first + len(_slices(kernel))):
        _frame(axes, lefts[0] + i * pitches[0] + x, top + y, kernel.shape[-1], kernel.shape[-2])
    middle = top + (rows - result.shape[-2]) / 2
    _frame(axes, lefts[3] + first * pitches[3] + x, middle + y, 1, 1)
    for line, text in enumerate(written_sum(step, kernel)):
        _text(axes, np.mean(axes.get_xlim()), top + rows + 1 + line, text)
    return figure


def layouts_figure(layouts: Sequence[tuple[int, str, int]], side: int = 7) -> Figure:
    """Draw how windows change the size of an image with this side, two per row.

    ``layouts`` are size, padding ("valid", "same", or "pooling" without padding) and stride of each window.
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
    # Cells of the padding are grey. Cells in no window are white.
    at = np.arange(-before, side + after)
    inside, used = (at >= 0) & (at < side), at < covered
    fill = np.where(np.outer(used, used), PALE, PAPER)
    fill[~np.outer(inside, inside)] = LINES
    _cells(axes, x - before, y - before, np.full(fill.shape, np.nan), fill)
    _frame(axes, x - before, y - before, size, size)
    middle = y + side / 2
    axes.annotate("", (x + side + 2.6, middle), (x + side + 1.1, middle), arrowprops=ARROW)
    left_of_result = x + side + 2.9
    _cells(axes, left_of_result, middle - count / 2, np.full((count, count), np.nan), WARM)
    _frame(axes, left_of_result, middle - count / 2, 1, 1)
    if count > 1:
        style = {"edgecolor": BLUE, "linewidth": 2.2, "linestyle": (0, (3, 1.5)), "zorder": 4}
        _frame(axes, x - before + stride, y - before, size, size, **style)
        _frame(axes, left_of_result + 1, middle - count / 2, 1, 1, **style)


def pooling_figure(image: Float[np.ndarray, "height width"]) -> Figure:
    """Draw the 2x2 tiles of an image, and the maximum of each."""
    pooled = np.asarray(max_pool(image[None, ..., None]))[0, ..., 0]
    (rows, columns), (height, width) = image.shape, pooled.shape
    left, gap = 4.5, 2.4
    figure, axes = _canvas(left + columns + gap + width + 4.5, rows + 0.8)
    largest = image == pooled.repeat(2, axis=0).repeat(2, axis=1)
    ink = np.where(largest, "black", "#7A8087")
    _cells(axes, left, 0.4, image, TILES.repeat(2, axis=0).repeat(2, axis=1), ink)
    for row, column in np.argwhere(largest):
        _frame(axes, left + column + 0.12, 0.52 + row, 0.76, 0.76)
    at, middle = left + columns + gap, 0.4 + rows / 2
    axes.annotate("", (at - 0.4, middle), (at - gap + 0.4, middle), arrowprops=ARROW)
    _cells(axes, at, middle - height / 2, pooled, TILES)
    return figure


def effects_figure(
    kernels: Mapping[str, Float[np.ndarray, "kx ky"]],
    results: Mapping[str, Float[np.ndarray, "height width"]],
) -> Figure:
    """Draw the results of several kernels on an image with values from 0 to 1.

    The results of kernels with sum 0 have both signs. Their colours have zero in the middle and end at the
    99th percentile of the absolute values.
    """
    figure, grid = panels(len(results), 3, 3.2, 0.7)
    for axes, (name, result) in zip(grid, results.items(), strict=True):
        limit = float(np.quantile(np.abs(result), 0.99)) or 1.0
        signed = abs(kernels[name].sum()) < 1e-6
        cmap, low, high = (SIGNED, -limit, limit) if signed else ("gray", 0, 1)
        axes.imshow(result, cmap=cmap, vmin=low, vmax=high)
        rows = [" ".join(_number(value).rjust(3) for value in row) for row in kernels[name]]
        axes.set_title("\n".join([name, *rows]), fontsize=SMALL, family="monospace")
        axes.set(xticks=[], yticks=[])
    scale = ScalarMappable(Normalize(-1, 1), SIGNED)
    size = {"fraction": 0.04, "aspect": 40, "shrink": 0.85, "pad": 0.03}
    bar = figure.colorbar(scale, ax=grid, location="bottom", **size)
    bar.set_ticks([-1, 0, 1], labels=["negative", "0", "positive"], fontsize=SMALL + 1)
    return figure
