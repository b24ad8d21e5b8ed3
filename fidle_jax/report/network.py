"""Figures of a network: learned kernels, and the activations of one example."""

from itertools import pairwise

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from fidle_jax.report.style import SMALL, TEXT, WIDTH, new_figure, short

MOST_INPUTS, MOST_OUTPUTS = 8, 16
BETWEEN = "#9AA0A6"  # between kernels; weights have no grey
TITLE, BELOW = 0.3, 0.12  # inches above and below a row
KERNELS = 0.86 * WIDTH  # inches, next to a colour scale
MIN_SCALE = 0.5  # inches: a colour scale has three labels


def learned_kernels(
    kernels: dict[str, Float[np.ndarray, "height width inputs outputs"]],
) -> Figure:
    """Draw a grid per convolution, with a row per input channel and a column per output channel.

    Positive weights are red, negative ones blue. Each convolution has its own scale. Only the first 8
    inputs and 16 outputs are drawn.
    """
    grids = {name: _kernel_grid(kernel) for name, kernel in kernels.items()}
    columns = {name: min(max(k.shape[3], 8), MOST_OUTPUTS) for name, k in kernels.items()}
    # Inches per value of the grid.
    sides = {n: KERNELS / (columns[n] * (4 * k.shape[1] + 1) + 1) for n, k in kernels.items()}
    titles, heights = [], []
    for name, kernel in kernels.items():
        height, width, inputs, outputs = kernel.shape
        title = f"{name}: {outputs} kernels of {height}×{width}×{inputs}"
        if inputs > MOST_INPUTS or outputs > MOST_OUTPUTS:
            shown = min(inputs, MOST_INPUTS), min(outputs, MOST_OUTPUTS)
            title += f"; shown: {shown[0]} inputs, {shown[1]} outputs"
        titles.append(title)
        heights.append(max(grids[name].shape[0] * sides[name], MIN_SCALE))
    figure, axes, tops = _rows(titles, heights)
    for name, top, row_height in zip(kernels, tops, heights, strict=True):
        bound = float(np.nanmax(np.abs(grids[name]))) or 1.0
        look = {"cmap": colormaps["RdBu_r"].with_extremes(bad=BETWEEN), "bound": bound}
        height, width = sides[name] * np.array(grids[name].shape)
        _place(axes, grids[name], (0, top, width, height), **look)
        scale = np.linspace(bound, -bound, 256)[:, None]
        _place(axes, scale, (KERNELS + 0.1, top, 0.15, row_height), **look)
        labels = {f"{bound:.2g}": "top", "0": "center", f"−{bound:.2g}": "baseline"}
        for k, (label, place) in enumerate(labels.items()):
            at = KERNELS + 0.3, top + k * row_height / 2
            axes.text(*at, label, va=place, fontsize=SMALL)
    return figure


def _kernel_grid(kernel: np.ndarray) -> Float[np.ndarray, "rows columns"]:
    shown = kernel[:, :, :MOST_INPUTS, :MOST_OUTPUTS].transpose(2, 3, 0, 1)
    fine = shown.repeat(4, axis=2).repeat(4, axis=3)  # the lines between kernels are then thin
    return np.pad(_mosaic(fine), 1, constant_values=np.nan)


def _mosaic(images: Float[np.ndarray, "rows columns _ _"]) -> Float[np.ndarray, "height width"]:
    """Place images in a grid, with one NaN between them."""
    rows, columns, height, width = images.shape
    padded = np.full((rows, columns, height + 1, width + 1), np.nan)
    padded[:, :, :height, :width] = images
    grid = padded.transpose(0, 2, 1, 3).reshape(rows * (height + 1), columns * (width + 1))
    return grid[:-1, :-1]


def feature_maps(maps: dict[str, np.ndarray], class_names: list[str]) -> Figure:
    """Draw a row per layer, the input first.

    Each layer has its own scale. Only the first 16 channels are drawn. If the last layer has one value
    per class, its title names the class with the largest value.

    Args:
        maps: Maps numbered layers such as "01 conv_1" to activations, (height, width, channel) or
            (features,).
        class_names: Names of the classes.
    """
    first, last = next(iter(maps)), list(maps)[-1]
    titles, heights = [], []
    for name, x in maps.items():
        title = f"{name.split(' ', 1)[-1]}: {'×'.join(map(str, x.shape))}"
        title += f"; shown: {MOST_OUTPUTS}" if x.ndim == 3 and x.shape[2] > MOST_OUTPUTS else ""
        if name == last and x.shape == (len(class_names),):
            title += f", the largest: {short(class_names[x.argmax()], 30)}"
        titles.append(title)
        heights.append(0.3 if x.ndim == 1 else _map_side(x) * x.shape[0])
    figure, axes, tops = _rows(titles, heights)
    for (name, x), top, height in zip(maps.items(), tops, heights, strict=True):
        cmap, width = "viridis", WIDTH
        if x.ndim == 1:
            picture = x[None]
        elif name == first and x.shape[2] in (1, 3):
            picture = ((x - x.min()) / (np.ptp(x) or 1)).squeeze()
            cmap, width = "gray", _map_side(x) * x.shape[1]
        else:
            picture = _mosaic(x[:, :, :MOST_OUTPUTS].transpose(2, 0, 1)[None])
            width = _map_side(x) * picture.shape[1]
        _place(axes, picture, (0, top, width, height), cmap)
    return figure


def _map_side(x: np.ndarray) -> float:
    """Return the side of a cell in inches."""
    columns = 8 if x.shape[2] <= 8 else MOST_OUTPUTS
    return WIDTH / (columns * (x.shape[1] + 1) - 1)


def _rows(titles: list[str], heights: list[float]) -> tuple[Figure, Axes, list[float]]:
    """Return a figure with a title above each row, its axes in inches, and the tops of the rows.

    Axes for each row would take most of the drawing time.
    """
    ends = np.cumsum([0, *(TITLE + height + BELOW for height in heights)])
    figure = new_figure(height=ends[-1], layout="none")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(ends[-1], 0))
    axes.set_axis_off()
    for title, start in zip(titles, ends, strict=False):
        axes.text(0, start + TITLE - 0.08, title, fontsize=TEXT)
    return figure, axes, [start + TITLE for start, _ in pairwise(ends)]


def _place(
    axes: Axes,
    picture: np.ndarray,
    box: tuple[float, float, float, float],
    cmap: str | Colormap,
    bound: float | None = None,
) -> None:
    """Draw a picture in a box: left, top, width and height. ``bound`` makes its scale symmetric."""
    left, top, width, height = box
    axes.imshow(
        picture,
        cmap=cmap,
        vmin=None if bound is None else -bound,
        vmax=bound,
        extent=(left, left + width, top + height, top),
        aspect="auto",
        interpolation="nearest",
    )
