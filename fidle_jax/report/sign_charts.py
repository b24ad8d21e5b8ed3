"""Charts of a set of traffic signs: sizes, classes, brightness, tracks, likeness, claims."""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fidle_jax.report.claims import Claim
from fidle_jax.report.style import BLUE, GREEN, GREY, LINES, SMALL, TEXT, VERMILLION, new_figure


def size_histograms(train: Int[np.ndarray, "train 2"], test: Int[np.ndarray, "test 2"]) -> Figure:
    """Shares of photographs by width in pixels, and by width over height."""
    figure = new_figure(height=3.3)
    width, ratio = figure.subplots(1, 2)
    _shares(width, train[:, 0], test[:, 0], np.arange(15, 260, 5))
    width.set_xlabel("width in pixels", fontsize=TEXT)
    train_ratio, test_ratio = (sizes[:, 0] / sizes[:, 1] for sizes in (train, test))
    _shares(ratio, train_ratio, test_ratio, np.arange(0.59, 1.42, 0.02))
    ratio.set_xlabel("width / height", fontsize=TEXT)
    _legend(figure, width)
    return figure


def class_counts(
    train: Int[np.ndarray, "n"], test: Int[np.ndarray, "m"], names: tuple[str, ...]
) -> Figure:
    """Training and test photographs of each class, the commonest first."""
    counts = np.bincount(train, minlength=len(names)), np.bincount(test, minlength=len(names))
    order = np.argsort(-counts[0], kind="stable")
    figure = new_figure(height=0.6 + 0.24 * len(names))
    axes = figure.subplots()
    rows = np.arange(len(names))
    train_bars = axes.barh(rows - 0.2, counts[0][order], 0.4, color=BLUE, label="training")
    axes.barh(rows + 0.2, counts[1][order], 0.4, color=VERMILLION, label="test")
    both = [f"{counts[0][k]:,} / {counts[1][k]:,}" for k in order]
    axes.bar_label(train_bars, both, fontsize=SMALL - 1, padding=3, color=GREY)
    axes.set_yticks(rows, [f"{names[k]}  {k}" for k in order], fontsize=SMALL)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, counts[0].max() * 1.2)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    _tidy(axes, "x")
    axes.tick_params(axis="y", length=0)
    axes.legend(loc="lower right", fontsize=TEXT, frameon=False)
    return figure


def brightness_histogram(train: Float[np.ndarray, "n"], test: Float[np.ndarray, "m"]) -> Figure:
    """Shares of photographs by the mean of their pixels, 0 to 255."""
    figure = new_figure(height=3.1)
    axes = figure.subplots()
    _shares(axes, train, test, np.arange(0, 256, 5))
    axes.set_xlabel("mean of all pixels, 0 to 255", fontsize=TEXT)
    _legend(figure, axes)
    return figure


def growth(widths: Int[np.ndarray, "tracks frames"]) -> Figure:
    """Width of the photographs by their place in the track: median, quartiles, nine tenths of all."""
    figure = new_figure(height=3.1)
    axes = figure.subplots()
    frame = np.arange(1, widths.shape[1] + 1)
    for low, high, shade, label in (
        (5, 95, 0.15, "nine tenths"),
        (25, 75, 0.3, "half of all tracks"),
    ):
        band = np.percentile(widths, (low, high), axis=0)
        axes.fill_between(frame, *band, color=BLUE, alpha=shade, linewidth=0, label=label)
    axes.plot(frame, np.median(widths, axis=0), color=BLUE, label="median")
    axes.set_xlabel("frame of the track", fontsize=TEXT)
    axes.set_ylabel("width in pixels", fontsize=TEXT)
    axes.set_xlim(1, frame[-1])
    axes.set_ylim(bottom=0)
    _tidy(axes, "both")
    axes.legend(loc="upper left", fontsize=TEXT, frameon=False)
    return figure


def likeness_histogram(
    train: Float[np.ndarray, "n"], test: Float[np.ndarray, "m"], threshold: float
) -> Figure:
    """Shares of photographs by the correlation with the most similar training photograph."""
    figure = new_figure(height=3.1)
    axes = figure.subplots()
    _shares(axes, train, test, np.arange(0.4, 1.0001, 0.0125))
    axes.axvline(
        threshold, color=GREY, linestyle=":", label=f"near-duplicates: {threshold:.2f} or more"
    )
    axes.set_xlabel(
        "correlation with the most similar other photograph of the training set", fontsize=TEXT
    )
    axes.set_xlim(0.4, 1)
    _legend(figure, axes, columns=3)
    return figure


def claims_chart(settings: dict[str, list[Claim]]) -> Figure:
    """For each setting of runs what validation claimed and the test found: a point a run, a bar the mean."""
    figure = new_figure(height=1.2 + 0.8 * len(settings))
    axes = figure.subplots()
    for part, colour, up, label in (
        ("validation", VERMILLION, -0.15, "claimed on validation"),
        ("test", GREEN, 0.15, "found on the test"),
    ):
        for row, claims in enumerate(settings.values()):
            shares = 100 * np.array([getattr(claim, part) for claim in claims])
            level = np.full(len(shares), row + up)
            axes.scatter(shares, level, s=26, color=colour, alpha=0.6, linewidth=0)
            mean = shares.mean()
            axes.plot([mean, mean], row + up + np.array([-0.14, 0.14]), color=colour, linewidth=3)
        axes.scatter([], [], s=26, color=colour, label=label)
    words = [",\n".join(what.rsplit(", ", 1)) for what in settings]
    axes.set_yticks(range(len(settings)), words)
    axes.set_ylim(len(settings) - 0.5, -0.5)
    axes.set_xlabel("accuracy, %", fontsize=TEXT)
    _tidy(axes, "x")
    axes.tick_params(axis="y", length=0)
    _legend(figure, axes)
    return figure


def _shares(axes: Axes, train: np.ndarray, test: np.ndarray, edges: np.ndarray) -> None:
    """Both as histograms in percent; what lies outside counts at the ends."""
    for values, colour, label, fill in (
        (train, BLUE, "training", True),
        (test, VERMILLION, "test", False),
    ):
        counts, _ = np.histogram(np.clip(values, edges[0], edges[-1] - 1e-6), edges)
        axes.stairs(
            100 * counts / len(values),
            edges,
            color=colour,
            fill=fill,
            alpha=0.35 if fill else 1,
            linewidth=0 if fill else 1.8,
            label=label,
        )
    axes.set_ylabel("% of the photographs", fontsize=TEXT)
    _tidy(axes, "y")


def _tidy(axes: Axes, grid: Literal["both", "x", "y"]) -> None:
    axes.grid(color=LINES, axis=grid)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(figure: Figure, axes: Axes, columns: int = 2) -> None:
    handles, names = axes.get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside lower center", ncols=columns, fontsize=TEXT, frameon=False
    )
