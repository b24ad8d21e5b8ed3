"""Figures of over-fitting: curves through points, and errors against what lets them grow."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from fidle_jax.report.style import (
    BLUE,
    GREEN,
    GREY,
    LINES,
    SMALL,
    TEXT,
    VERMILLION,
    legend_below,
    new_figure,
)

Curve = Float[np.ndarray, " place"]
Points = tuple[Float[np.ndarray, " point"], Float[np.ndarray, " point"]]


class Scene(NamedTuple):
    """What every curve is drawn over.

    Attributes:
        x: places from left to right.
        true: the function behind the points, at each of them.
        points: those that are learned from.
        noise: standard deviation of the points' distance from the function.
    """

    x: Curve
    true: Curve
    points: Points
    noise: float


class Errors(NamedTuple):
    """Errors on the points that are learned from and on others, at each ``at``: a degree or a step."""

    at: Float[np.ndarray, " place"]
    train: Float[np.ndarray, " place"]
    validation: Float[np.ndarray, " place"]


def side_by_side(scene: Scene, curves: dict[str, Curve]) -> Figure:
    """Fitted curves by name, a panel for each."""
    figure = new_figure(height=3.4)
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False).ravel()
    for axes, (name, curve) in zip(panels, curves.items(), strict=True):
        _draw_curve(axes, scene, curve)
        axes.set_xticks([-1, 0, 1])
        axes.set_title(name, fontsize=TEXT)
    legend_below(figure, columns=3)
    return figure


def errors_by_degree(errors: Errors, best: int, points: int, noise: float) -> Figure:
    """Both errors against the degree, with marks at the ``best`` and where a curve meets all ``points``."""
    figure = new_figure(height=4.4)
    axes = figure.subplots()
    _draw_errors(axes, errors, noise)
    _mark_best(axes, errors, best)
    axes.set_ylim(*error_limits([errors], noise))
    axes.set_xlabel("degree of the polynomial", fontsize=TEXT)
    if points - 1 <= errors.at[-1]:
        axes.axvline(points - 1, color=GREY, linestyle="-.", linewidth=1.5)
        axes.annotate(
            "as many coefficients\nas points",
            (points - 1, 0.03),
            (6, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            fontsize=SMALL,
            color=GREY,
        )
    legend_below(figure, columns=2)
    return figure


def one_degree(scene: Scene, curve: Curve, errors: Errors, place: int) -> Figure:
    """A slide: the curve of one degree, and beside it the errors up to there.

    Args:
        scene: that it is drawn over.
        curve: of this degree.
        errors: of all degrees, so that the axes are the same on every slide.
        place: of this degree among them.
    """
    # Room that is given, not sought, takes a third of the time, and is the same on every slide.
    figure = new_figure(height=3.9, layout="none")
    figure.subplots_adjust(left=0.075, right=0.985, bottom=0.3, top=0.92, wspace=0.27)
    left, right = figure.subplots(1, 2)
    _draw_curve(left, scene, curve)
    left.set_title(f"degree {errors.at[place]}", fontsize=TEXT)
    _draw_errors(right, Errors(*(each[: place + 1] for each in errors)), scene.noise)
    right.plot(errors.at[place], errors.train[place], "o", color=BLUE, markersize=9)
    right.plot(errors.at[place], errors.validation[place], "s", color=VERMILLION, markersize=5)
    right.set_xlim(errors.at[0] - 1, errors.at[-1] + 1)
    right.set_ylim(*error_limits([errors], scene.noise))
    right.set_xlabel("degree", fontsize=TEXT)
    legend_below(figure, columns=3, where="lower center")
    return figure


def network(
    scene: Scene,
    curve: Curve,
    plain: Curve | None,
    errors: Errors,
    limits: tuple[float, float],
) -> Figure:
    """What a network learned, over the points, and beside it its errors during training.

    Args:
        scene: that it is drawn over.
        curve: the network's.
        plain: the curve of the network without a remedy, to compare; None for that network itself.
        errors: after each epoch; they are drawn as of `smoothed`.
        limits: of the errors' axis.
    """
    figure = new_figure(height=3.9)
    left, right = figure.subplots(1, 2)
    if plain is not None:
        left.plot(scene.x, plain, ":", color=VERMILLION, linewidth=2, label="without a remedy")
    _draw_curve(left, scene, curve)
    _draw_errors(right, smoothed(errors), scene.noise)
    _mark_best(right, errors, int(errors.validation.argmin()))
    right.set_xscale("log")
    right.set_ylim(*limits)
    right.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    right.yaxis.set_major_formatter("{x:g}")
    right.yaxis.set_minor_formatter(NullFormatter())
    right.set_xlabel("training steps", fontsize=TEXT)
    legend_below(figure, columns=3)
    return figure


def error_limits(several: list[Errors], noise: float) -> tuple[float, float]:
    """Of an axis for all of these errors.

    A training error of rounding alone, 1e-15, would leave no room to the others: what is far below the
    noise leaves the figure.
    """
    least = min(errors.train.min() for errors in several)
    most = max(max(errors.train.max(), errors.validation.max()) for errors in several)
    return max(0.02 * noise, 0.8 * float(least)), 1.5 * float(most)


def smoothed(errors: Errors, parts: int = 80) -> Errors:
    """The errors' mean squares over neighbours, in ``parts`` at most, each about as wide on a log axis."""
    count = len(errors.at)
    starts = np.unique(np.geomspace(1, count + 1, parts + 1)[:-1].astype(int)) - 1
    sizes = np.diff([*starts, count])
    means = (np.add.reduceat(each, starts) / sizes for each in (errors.at, *np.square(errors[1:])))
    at, train, validation = means
    return Errors(at, np.sqrt(train), np.sqrt(validation))


def _draw_curve(axes: Axes, scene: Scene, curve: Curve) -> None:
    x, y = scene.points
    axes.plot(scene.x, scene.true, "--", color=GREEN, linewidth=2, label="true function")
    axes.plot(scene.x, curve, color=BLUE, linewidth=2, label="fitted")
    size = 2.5 if len(x) > 100 else 4.5
    axes.plot(x, y, "o", color="black", markersize=size, label="training points")
    # By the points: a curve that leaves them far behind leaves the figure.
    both = np.concatenate([scene.true, y])
    axes.set_ylim(both.min() - 0.2 * np.ptp(both), both.max() + 0.2 * np.ptp(both))
    axes.set_xlim(scene.x[0], scene.x[-1])
    axes.set_xlabel("x", fontsize=TEXT)
    _plain(axes)


def _draw_errors(axes: Axes, errors: Errors, noise: float) -> None:
    axes.axhline(noise, color=GREY, linestyle=":", linewidth=2, label="noise of the points")
    axes.plot(errors.at, errors.train, color=BLUE, linewidth=2, label="training error")
    axes.plot(
        errors.at, errors.validation, "--", color=VERMILLION, linewidth=2, label="validation error"
    )
    axes.set_yscale("log")
    axes.set_ylabel("RMSE", fontsize=TEXT)
    axes.grid(color=LINES)
    _plain(axes)


def _mark_best(axes: Axes, errors: Errors, best: int) -> None:
    axes.plot(
        errors.at[best],
        errors.validation[best],
        "D",
        color=VERMILLION,
        markeredgecolor="black",
        markersize=8,
        label="least validation error",
    )


def _plain(axes: Axes) -> None:
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
