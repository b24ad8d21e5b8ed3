"""Charts of traffic signs."""

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from fidle_jax.report.style import (
    BLUE,
    GREY,
    SMALL,
    TEXT,
    VERMILLION,
    finish,
    legend_below,
    new_figure,
)

Panel = tuple[str, tuple[np.ndarray, np.ndarray], np.ndarray]


def histograms(panels: list[Panel]) -> Figure:
    """Draw histograms of training and test photographs in percent.

    Args:
        panels: Axis label, training and test values, and bin edges of each panel. The first and the last
            bin include all values outside of the edges.
    """
    figure = new_figure(height=3.2)
    styles = (
        {"color": BLUE, "label": "training", "fill": True, "alpha": 0.35, "lw": 0},
        {"color": VERMILLION, "label": "test", "lw": 1.8},
    )
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (label, both, edges) in zip(all_axes, panels, strict=True):
        for values, style in zip(both, styles, strict=True):
            counts, _ = np.histogram(np.clip(values, edges[0], edges[-1] - 1e-6), edges)
            axes.stairs(100 * counts / len(values), edges, **style)
        axes.set_xlim(edges[0], edges[-1])
        finish(axes, x=label, y="% of the photographs", grid="y")
    legend_below(figure, columns=3)
    return figure


def class_counts(
    train: Int[np.ndarray, " train"], test: Int[np.ndarray, " test"], names: tuple[str, ...]
) -> Figure:
    """Draw the number of training and test photographs of each class, the largest class first."""
    counts = np.stack([np.bincount(labels, minlength=len(names)) for labels in (train, test)])
    order = np.argsort(-counts[0], kind="stable")
    figure = new_figure(height=0.6 + 0.24 * len(names))
    axes = figure.subplots()
    rows = np.arange(len(names))
    bars = axes.barh(rows - 0.2, counts[0, order], 0.4, color=BLUE, label="training")
    axes.barh(rows + 0.2, counts[1, order], 0.4, color=VERMILLION, label="test")
    both = [f"{a:,} / {b:,}" for a, b in counts[:, order].T]
    axes.bar_label(bars, both, fontsize=SMALL - 1, padding=3, color=GREY)
    axes.set_yticks(rows, [f"{names[k]}  {k}" for k in order])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, counts[0].max() * 1.2)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    finish(axes, grid="x")
    axes.tick_params(axis="y", length=0)
    axes.legend(loc="lower right", fontsize=TEXT, frameon=False)
    return figure


def evenly_spaced(
    members: Int[np.ndarray, " n"] | Float[np.ndarray, " n"], most: int
) -> np.ndarray:
    """Return ``most`` evenly spaced elements, the first and last not at the ends."""
    return members[((np.arange(most) + 0.5) * len(members) / most).astype(int)]
