"""Figures of a network: learned kernels, and the activations of one example."""

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fidle_jax.report.style import SMALL, TEXT, WIDTH, new_figure, short

MOST_INPUTS, MOST_OUTPUTS = 8, 16
BETWEEN = "#9AA0A6"  # between kernels; weights have no grey
TITLE = 0.42  # height of a title in inches


def learned_kernels(
    kernels: dict[str, Float[np.ndarray, "height width inputs outputs"]],
) -> Figure:
    """Draw a grid per convolution, with a row per input channel and a column per output channel.

    Positive weights are red, negative ones blue. Each convolution has its own scale. Only the first 8
    inputs and 16 outputs are drawn.
    """
    grids = {name: _kernel_grid(kernel) for name, kernel in kernels.items()}
    columns = {name: min(max(k.shape[3], 8), MOST_OUTPUTS) for name, k in kernels.items()}
    widths = {name: columns[name] * (4 * k.shape[1] + 1) + 1 for name, k in kernels.items()}
    heights = [TITLE + 0.08 + 0.88 * WIDTH * g.shape[0] / widths[name] for name, g in grids.items()]
    figure, rows = _rows(heights)
    for axes, (name, grid) in zip(rows, grids.items(), strict=True):
        bound = float(np.nanmax(np.abs(grid))) or 1.0
        colours = colormaps["RdBu_r"].with_extremes(bad=BETWEEN)
        image = axes.imshow(grid, cmap=colours, vmin=-bound, vmax=bound, interpolation="nearest")
        axes.set_xlim(-0.5, widths[name] - 0.5)
        axes.set_axis_off()
        height, width, inputs, outputs = kernels[name].shape
        title = f"{name}: {outputs} kernels of {height}×{width}×{inputs}"
        if inputs > MOST_INPUTS or outputs > MOST_OUTPUTS:
            shown = min(inputs, MOST_INPUTS), min(outputs, MOST_OUTPUTS)
            title += f"; shown: {shown[0]} inputs, {shown[1]} outputs"
        axes.set_title(title, fontsize=TEXT, loc="left")
        bar = figure.colorbar(
            image, ax=axes, fraction=0.05, pad=0.02, ticks=(-bound, 0, bound), panchor=False
        )
        axes.set_anchor("W")
        bar.ax.set_yticklabels([f"−{bound:.2g}", "0", f"{bound:.2g}"], fontsize=SMALL)
    return figure


def _rows(heights: list[float]) -> tuple[Figure, list[Axes]]:
    figure = new_figure(height=sum(heights))
    axes = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)
    return figure, list(axes[:, 0])


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
    figure, rows = _rows([_map_height(x) for x in maps.values()])
    for axes, (name, x) in zip(rows, maps.items(), strict=True):
        title = f"{name.split(' ', 1)[-1]}: {'×'.join(map(str, x.shape))}"
        if x.ndim == 1:
            axes.imshow(x[None], cmap="viridis", aspect="auto", interpolation="nearest")
            axes.set_axis_off()
        else:
            _draw_maps(axes, x, is_input=name == first)
            title += f"; shown: {MOST_OUTPUTS}" if x.shape[2] > MOST_OUTPUTS else ""
        if name == last and x.shape == (len(class_names),):
            title += f", the largest: {short(class_names[x.argmax()], 30)}"
        axes.set_title(title, fontsize=TEXT, loc="left")
    return figure


def _columns(x: np.ndarray) -> int:
    return 8 if x.shape[2] <= 8 else MOST_OUTPUTS


def _map_height(x: np.ndarray) -> float:
    return TITLE + (0.4 if x.ndim == 1 else WIDTH / _columns(x) * x.shape[0] / x.shape[1])


def _draw_maps(axes: Axes, x: np.ndarray, is_input: bool) -> None:
    if is_input and x.shape[2] in (1, 3):
        scaled = (x - x.min()) / (np.ptp(x) or 1)
        axes.imshow(scaled.squeeze(), cmap="gray", interpolation="nearest")
    else:
        maps = x[:, :, :MOST_OUTPUTS].transpose(2, 0, 1)[None]
        axes.imshow(_mosaic(maps), cmap="viridis", interpolation="nearest")
    axes.set_xlim(-0.5, _columns(x) * (x.shape[1] + 1) - 1.5)
    axes.set_anchor("W")
    axes.set_axis_off()
