"""Classic kernels on pictures, what layers cost, and the cells that convolutions are drawn with."""

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fidle_jax.lessons.layer_costs import ConvLayer, conv_costs, dense_costs
from fidle_jax.report.lesson import Table
from fidle_jax.report.style import BLUE, GREY, LINES, SMALL, TEXT, VERMILLION, WIDTH, new_figure

PALE, WARM, PAPER = "#DCEBF5", "#FBE3D2", "white"

# Orange below zero, white at zero, purple above: apart for the colour-blind too.
SIGNED = "PuOr"


def plain(value: float | np.number) -> str:
    """A number as one writes it, with a real minus."""
    return f"{value:g}".replace("-", "−")


def canvas(columns: float, rows: float) -> tuple[Figure, Axes]:
    """A figure of the page's width that is measured in cells, from the top left corner."""
    figure = new_figure(height=WIDTH * rows / columns, layout="none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, columns), ylim=(rows, 0))
    axes.set_axis_off()
    return figure, axes


def draw_cells(
    axes: Axes,
    left: float,
    top: float,
    texts: Sequence[Sequence[str]],
    fill: Callable[[int, int], str] = lambda row, column: PAPER,
    ink: Callable[[int, int], str] = lambda row, column: "black",
    size: float = TEXT,
) -> None:
    """A grid of cells of side 1 with a text in each; ``fill`` and ``ink`` give a cell's colours."""
    for row, line in enumerate(texts):
        for column, text in enumerate(line):
            x, y = left + column, top + row
            face = fill(row, column)
            axes.add_patch(Rectangle((x, y), 1, 1, facecolor=face, edgecolor=GREY, linewidth=0.8))
            axes.text(
                x + 0.5, y + 0.53, text, ha="center", va="center", size=size, color=ink(row, column)
            )


def outline(
    axes: Axes,
    left: float,
    top: float,
    width: float | np.number,
    height: float | np.number,
    colour: str = VERMILLION,
) -> None:
    """A thick frame."""
    axes.add_patch(
        Rectangle(
            (left, top),
            float(width),
            float(height),
            fill=False,
            edgecolor=colour,
            linewidth=3,
            zorder=3,
        )
    )


def kernels_figure(kernels: Mapping[str, Float[np.ndarray, "kx ky"]]) -> Figure:
    """The kernels' values side by side; blue where they are above zero, orange where below."""
    gap = 1.0
    side = max(len(kernel) for kernel in kernels.values())
    figure, axes = canvas(0.8 + len(kernels) * (side + gap) - gap, side + 1.8)
    for number, (name, kernel) in enumerate(kernels.items()):
        left = 0.4 + number * (side + gap)
        signs = np.sign(kernel).astype(int)
        colours = {0: PAPER, 1: PALE, -1: WARM}
        draw_cells(
            axes,
            left,
            1.4,
            [list(map(_fraction, row)) for row in kernel],
            fill=lambda row, column, signs=signs, colours=colours: colours[signs[row, column]],
            size=SMALL,
        )
        axes.text(left + side / 2, 0.75, name, size=TEXT, ha="center", va="center")
    return figure


def _fraction(value: float | np.number) -> str:
    return "1/9" if abs(value - 1 / 9) < 1e-6 else plain(float(value))


def effects_figure(
    results: Mapping[str, Float[np.ndarray, "row column"]], signed: Collection[str]
) -> Figure:
    """What each kernel makes of a picture of values from 0 to 1.

    Args:
        results: by the kernel's name.
        signed: names of those with zero in the middle of the colours, whose ends are the size that one
            value in a hundred exceeds; the others are grey, from 0 to 1.
    """
    columns = 3
    rows = -(-len(results) // columns)
    figure = new_figure(height=2.55 * rows + 0.7)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (name, result) in zip(panels, results.items(), strict=False):
        if name in signed:
            most = float(np.quantile(np.abs(result), 0.99)) or 1.0
            axes.imshow(result, cmap=SIGNED, vmin=-most, vmax=most)
        else:
            axes.imshow(result, cmap="gray", vmin=0, vmax=1)
        axes.set_title(name, fontsize=TEXT)
        axes.set(xticks=[], yticks=[])
    for axes in panels[len(results) :]:
        axes.set_visible(False)
    bar = figure.colorbar(
        ScalarMappable(Normalize(-1, 1), SIGNED),
        ax=list(panels),
        location="bottom",
        fraction=0.04,
        aspect=40,
        shrink=0.85,
        pad=0.03,
    )
    bar.set_ticks([-1, 0, 1], labels=["negative", "0", "positive"], fontsize=SMALL + 1)
    return figure


def costs_figure(layers: Sequence[ConvLayer]) -> Figure:
    """Parameters of each layer and of a dense one in its place, on a logarithmic scale."""
    convolution = [conv_costs(layer).params for layer in layers]
    dense = [dense_costs(layer).params for layer in layers]
    figure = new_figure(height=0.95 * len(layers) + 1.2)
    axes = figure.subplots()
    places = np.arange(len(layers))
    for values, shift, colour, hatch, label in (
        (convolution, -0.19, BLUE, "", "convolution"),
        (dense, 0.19, VERMILLION, "//", "dense layer with as many outputs"),
    ):
        # As floats, which go beyond what NumPy's integers hold.
        sizes = list(map(float, values))
        bars = axes.barh(
            places + shift, sizes, 0.36, color=colour, hatch=hatch, edgecolor="white", label=label
        )
        axes.bar_label(bars, list(map(_brief, values)), padding=4, fontsize=SMALL + 1)
    names = [_described(layer).replace(" to ", "\nto ") for layer in layers]
    axes.set_yticks(places, names, fontsize=SMALL + 1)
    axes.invert_yaxis()
    axes.set_xscale("log")
    # Room for the longest number beside its bar.
    axes.set_xlim(1, float(max(*convolution, *dense, 10)) ** 1.4)
    axes.set_xlabel("parameters", fontsize=TEXT)
    axes.tick_params(axis="x", labelsize=SMALL)
    axes.grid(axis="x", color=LINES)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=2, fontsize=TEXT, frameon=False)
    return figure


def costs_tables(layers: Sequence[ConvLayer]) -> tuple[Table, Table]:
    """Parameters, by their formulas, and multiplications: of each layer, and of a dense one in its place."""
    params, multiplications = [], []
    for layer in layers:
        few, many = conv_costs(layer), dense_costs(layer)
        planes, kernels, side = layer.planes, layer.kernels, layer.kernel_size
        params.append(
            [
                _described(layer),
                f"{kernels:,}·({planes:,}·{side}·{side} + 1) = {few.params:,}",
                f"{layer.outputs:,}·({layer.inputs:,} + 1) = {many.params:,}",
            ]
        )
        ratio = many.multiplications / few.multiplications
        multiplications.append(
            [
                _described(layer),
                f"{few.multiplications:,}",
                f"{many.multiplications:,}",
                f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}",
            ]
        )
    return (
        Table(["parameters", "convolution", "dense"], params),
        Table(["multiplications", "convolution", "dense", "ratio"], multiplications),
    )


def _brief(value: int) -> str:
    """All digits, unless they would fill the chart."""
    return f"{value:,}" if value < 10**12 else f"{value:.2e}"


def _described(layer: ConvLayer) -> str:
    side = layer.kernel_size
    image = f"{layer.height}×{layer.width}×{layer.planes}"
    return f"{image} to {layer.kernels} kernel{'s' * (layer.kernels > 1)} of {side}×{side}"
