"""Figures of the network itself: its kernels, and what one example becomes on its way through."""

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fidle_jax.report.style import (
    BLUE,
    SMALL,
    TEXT,
    VERMILLION,
    WIDTH,
    longest,
    new_figure,
    short,
)

MOST_INPUTS, MOST_OUTPUTS = 8, 16
MOST_BARS = 43
BETWEEN = "#9AA0A6"  # grey: white and every colour nearby are taken by weights
TITLE = 0.42  # inches that the heading of a row takes


def learned_kernels(kernels: dict[str, Float[np.ndarray, "k1 k2 c_in c_out"]]) -> Figure:
    """A grid per convolution (one at least): a row per input channel, a column per output channel.

    Red weights are positive, blue negative, white zero; each convolution has its own scale. At
    most the first 8 inputs and 16 outputs are shown.
    """
    grids = {name: _kernel_grid(kernel) for name, kernel in kernels.items()}
    columns = {name: min(max(k.shape[3], 8), MOST_OUTPUTS) for name, k in kernels.items()}
    widths = {name: columns[name] * (4 * k.shape[1] + 1) + 1 for name, k in kernels.items()}
    heights = [TITLE + 0.08 + 0.88 * WIDTH * g.shape[0] / widths[name] for name, g in grids.items()]

    colours = colormaps["RdBu_r"].with_extremes(bad=BETWEEN)
    figure = new_figure(height=sum(heights))
    rows = figure.subplots(len(grids), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axes, (name, grid) in zip(rows, grids.items(), strict=True):
        bound = float(np.nanmax(np.abs(grid))) or 1.0
        image = axes.imshow(
            grid, cmap=colours, vmin=-bound, vmax=bound, aspect="equal", interpolation="nearest"
        )
        axes.set_xlim(-0.5, widths[name] - 0.5)
        axes.set_axis_off()
        axes.set_title(_kernel_title(name, kernels[name].shape), fontsize=TEXT, loc="left")
        bar = figure.colorbar(
            image, ax=axes, fraction=0.05, pad=0.02, ticks=(-bound, 0, bound), panchor=False
        )
        axes.set_anchor("W")
        bar.ax.set_yticklabels([f"−{bound:.2g}", "0", f"{bound:.2g}"], fontsize=SMALL)
    return figure


def _kernel_grid(kernel: np.ndarray) -> np.ndarray:
    """Kernels side by side, NaN around each, every weight four cells wide."""
    shown = kernel[:, :, :MOST_INPUTS, :MOST_OUTPUTS].transpose(2, 3, 0, 1)
    fine = shown.repeat(4, axis=2).repeat(4, axis=3)  # so that the line between them is thin
    return np.pad(_tiles(fine), 1, constant_values=np.nan)


def _tiles(images: Float[np.ndarray, "rows columns h w"]) -> Float[np.ndarray, "height width"]:
    rows, columns, h, w = images.shape
    padded = np.full((rows, columns, h + 1, w + 1), np.nan)
    padded[:, :, :h, :w] = images
    return padded.transpose(0, 2, 1, 3).reshape(rows * (h + 1), columns * (w + 1))[:-1, :-1]


def _kernel_title(name: str, shape: tuple[int, ...]) -> str:
    k1, k2, inputs, outputs = shape
    title = f"{name}: {outputs} kernels of {k1}×{k2}×{inputs}"
    if inputs > MOST_INPUTS or outputs > MOST_OUTPUTS:
        title += f"; shown: {min(inputs, MOST_INPUTS)} inputs, {min(outputs, MOST_OUTPUTS)} outputs"
    return title


def feature_maps(maps: dict[str, np.ndarray], class_names: list[str]) -> Figure:
    """A row per layer (one at least), the input first.

    ``maps`` goes from "01 conv_1" and the like to activations, (h, w, c) or (features,). Pictures show
    at most 16 channels; each layer is scaled from its least to its greatest value. The last layer
    is drawn as bars where it has one value per class.
    """
    last = list(maps)[-1]
    by_class = maps[last].shape == (len(class_names),)
    bars = by_class and len(class_names) <= MOST_BARS
    heights = [_map_height(x) for x in maps.values()]
    if bars:
        heights[-1] = TITLE + 1.1 + 0.07 * min(longest(class_names), 18)

    figure = new_figure(height=sum(heights))
    rows = figure.subplots(len(maps), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axes, (name, x) in zip(rows, maps.items(), strict=True):
        size = "×".join(map(str, x.shape))
        title = f"{_layer_name(name)}: {size}"
        if name == last and bars:
            _draw_bars(axes, x, class_names)
        elif x.ndim == 1:
            axes.imshow(x[None], cmap="viridis", aspect="auto", interpolation="nearest")
            axes.set_axis_off()
        else:
            _draw_maps(axes, x, is_picture=name == next(iter(maps)))
            title += f"; shown: {MOST_OUTPUTS}" if x.shape[2] > MOST_OUTPUTS else ""
        if name == last and by_class:
            title += f", the greatest: {short(class_names[x.argmax()], 30)}"
        axes.set_title(title, fontsize=TEXT, loc="left")
    return figure


def _layer_name(key: str) -> str:
    """Without the number, which keeps the order and says nothing to a reader."""
    return key.split(" ", 1)[-1]


def _columns(x: np.ndarray) -> int:
    return 8 if x.shape[2] <= 8 else MOST_OUTPUTS


def _map_height(x: np.ndarray) -> float:
    if x.ndim == 1:
        return TITLE + 0.4
    return TITLE + WIDTH / _columns(x) * x.shape[0] / x.shape[1]


def _draw_maps(axes: Axes, x: np.ndarray, is_picture: bool) -> None:
    _, w, channels = x.shape
    if is_picture and channels in (1, 3):
        scaled = (x - x.min()) / (np.ptp(x) or 1)
        axes.imshow(scaled.squeeze(), cmap="gray", interpolation="nearest")
    else:
        tiles = _tiles(x[:, :, :MOST_OUTPUTS].transpose(2, 0, 1)[None])
        axes.imshow(tiles, cmap="viridis", interpolation="nearest")
    axes.set_xlim(-0.5, _columns(x) * (w + 1) - 1.5)
    axes.set_anchor("W")
    axes.set_axis_off()


def _draw_bars(axes: Axes, x: np.ndarray, class_names: list[str]) -> None:
    colours = [VERMILLION if i == x.argmax() else BLUE for i in range(len(x))]
    drawn = axes.bar(range(len(x)), x, color=colours)
    axes.axhline(0, color="black", linewidth=0.8)
    names = [short(name, 18) for name in class_names]
    upright = longest(names) * len(names) > 90
    axes.set_xticks(range(len(x)), names, fontsize=SMALL, rotation=90 if upright else 0)
    axes.tick_params(length=0)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.margins(y=0.25)
    if len(x) <= 20:
        axes.bar_label(drawn, fmt="%.1f", fontsize=SMALL, padding=2)
    axes.set_xlim(-0.6, len(x) - 0.4)
