"""Lesson: under-fitting and over-fitting, with polynomials and with a network (Fidle, POLR1)."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.polynomial import legendre

from fidle_jax.lessons.figures import draw_curves, mean_and_std, panels
from fidle_jax.lessons.flags import Overfitting
from fidle_jax.lessons.page import Lesson
from fidle_jax.nn import DNN
from fidle_jax.report.lesson import Slides, Table
from fidle_jax.report.style import (
    BLUE,
    GREEN,
    GREY,
    VERMILLION,
    finish,
    legend_below,
    new_figure,
    png,
)
from fidle_jax.train.evaluation import NUMBERS
from fidle_jax.train.fit import fit
from fidle_jax.train.step import Task

Points = tuple[Float[np.ndarray, " point"], Float[np.ndarray, " point"]]
Curve = Float[np.ndarray, " x"]

DRAWS = 5
MANY = 10  # points of the larger training set, per point of the smaller one
FRESH = 1000  # points to measure errors on
X = np.linspace(-1, 1, 801)  # where curves are drawn
DROPOUT_RATE, DECAY_STRENGTH = 0.2, 3.0  # chosen on draws of another seed
PLAIN, EARLY, DROPOUT = "no regularisation", "early stopping", "dropout"
DECAY, MORE = "weight decay", "ten times the points"

_NETWORK = DNN(classes=1, hidden=(64, 64, 64), activation=jnp.tanh)
_PLAIN = Task(_NETWORK, optax.adam(3e-3), objective=NUMBERS)
_DECAY = optax.adamw(
    3e-3,
    weight_decay=DECAY_STRENGTH,
    mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
)
TASKS = {
    PLAIN: _PLAIN,
    DROPOUT: dataclasses.replace(_PLAIN, model=_NETWORK.clone(dropout=(DROPOUT_RATE,) * 3)),
    DECAY: dataclasses.replace(_PLAIN, optimizer=_DECAY),
    MORE: _PLAIN,
}
_apply = jax.jit(_NETWORK.apply)


class Draw(NamedTuple):
    """Points of one draw.

    ``many`` contains the points of ``few``. ``validation`` and ``fresh`` are independent.
    """

    few: Points
    many: Points
    validation: Points
    fresh: Points


def truth(x: Float[np.ndarray, " point"]) -> Float[np.ndarray, " point"]:
    """Return the true function: sin(4x) + x/2."""
    return np.sin(4 * x) + x / 2


def draw_points(rng: np.random.Generator, count: int, noise: float) -> Points:
    """Draw ``count`` points in [-1, 1], in ascending order, with normal noise around `truth`.

    Divide [-1, 1] into ``count`` equal intervals and draw one uniform x in each. If the x were independent,
    two could be so close that no polynomial in double precision passes through both points.
    """
    x = 2 * (np.arange(count) + rng.uniform(0, 1, count)) / count - 1
    return x, truth(x) + rng.normal(0, noise, count)


def draw(seed: int, number: int, count: int, noise: float) -> Draw:
    """Return the draw with the given number. Each number has different points."""
    rng = np.random.default_rng([seed, number])
    few, *more, validation = (draw_points(rng, count, noise) for _ in range(MANY + 1))
    x, y = map(np.concatenate, zip(few, *more, strict=True))
    return Draw(few, (x, y), validation, draw_points(rng, FRESH, noise))


def basis(x: Float[np.ndarray, " point"], degree: int) -> Float[np.ndarray, "point coefficient"]:
    """Return the orthonormal Legendre polynomials up to ``degree`` at each x.

    Powers of x are nearly linearly dependent. From about degree 20 on, rounding errors would dominate the
    fit.
    """
    return legendre.legvander(x, degree) * np.sqrt(2 * np.arange(degree + 1) + 1)


def fit_polynomial(points: Points, degree: int) -> Float[np.ndarray, " coefficient"]:
    """Return the coefficients in `basis` with the lowest squared error.

    If several have the same error, return those with the lowest sum of squares. Because the basis is
    orthonormal, this polynomial has the lowest mean square on [-1, 1].
    """
    x, y = points
    return np.linalg.lstsq(basis(x, degree), y, rcond=None)[0]


def polynomial_values(
    coefficients: Float[np.ndarray, " coefficient"], x: Float[np.ndarray, " point"]
) -> Float[np.ndarray, " point"]:
    """Evaluate the polynomial of `fit_polynomial` at each x."""
    return basis(x, len(coefficients) - 1) @ coefficients


def rmse(predicted: Float[np.ndarray, " point"], true: Float[np.ndarray, " point"]) -> float:
    """Return the root of the mean squared error."""
    return float(np.sqrt(np.mean(np.square(predicted - true))))


def errors_of_fits(fits: list[Float[np.ndarray, "_"]], points: Points) -> Float[np.ndarray, " fit"]:
    """Return the RMSE of each fitted polynomial on the points."""
    x, y = points
    return np.array([rmse(polynomial_values(fit, x), y) for fit in fits])


class Errors(NamedTuple):
    """Training and validation errors by degree or step."""

    at: Int[np.ndarray, " x"] | Float[np.ndarray, " x"]
    training: Float[np.ndarray, " x"]
    validation: Float[np.ndarray, " x"]


class Learned(NamedTuple):
    """A trained network: its values at `X`, its RMSE on training and fresh points, and its errors."""

    curve: Curve
    train: float
    test: float
    errors: Errors


def learn(draw: Draw, steps: int, seed: int) -> dict[str, Learned]:
    """Train the network without and with each regularisation for ``steps`` steps."""
    found = {}
    for name, task in TASKS.items():
        points, per_epoch = (draw.many, MANY) if name == MORE else (draw.few, 1)
        fitted = fit(
            task,
            _examples(points),
            epochs=steps // per_epoch,
            batch_size=len(draw.few[0]),
            seed=seed,
            validation=_examples(draw.validation),
        )
        losses = fitted.history["loss"], fitted.history["validation_loss"]
        at = per_epoch * np.arange(1, len(losses[0]) + 1)
        errors = Errors(at, *map(np.sqrt, losses))
        found[name] = _evaluate(draw, fitted.state.variables(), points, errors)
        if name == PLAIN:
            found[EARLY] = _evaluate(draw, fitted.best, points, errors)
    return found


def _examples(points: Points):
    x, y = points
    return x.astype(np.float32)[:, None], y.astype(np.float32)


def _evaluate(draw: Draw, variables, points: Points, errors: Errors) -> Learned:
    inputs = np.concatenate([X, points[0], draw.fresh[0]]).astype(np.float32)
    values = np.asarray(_apply(variables, inputs[:, None]))[:, 0]
    curve, on_train, on_test = np.split(values, [len(X), len(X) + len(points[0])])
    return Learned(curve, rmse(on_train, points[1]), rmse(on_test, draw.fresh[1]), errors)


def teach(flags: Overfitting) -> Lesson:
    """Create the lesson."""
    # Use the fresh points of the last draw to select the degree, and those of the other draws to test
    # the networks.
    draws = [draw(flags.seed, i, flags.points, flags.noise) for i in range(DRAWS + 1)]
    steps, used = (1000, 3) if flags.quick else (2000, DRAWS)
    learned = [learn(each, steps, seed) for seed, each in enumerate(draws[:used], flags.seed)]
    # Show the draw with the median final error.
    final = [each[PLAIN].errors.validation[-1] for each in learned]
    middle = sorted(range(used), key=final.__getitem__)[used // 2]
    few = draws[middle].few

    degrees = np.arange(flags.degree_max + 1)
    fits = [fit_polynomial(few, degree) for degree in range(len(degrees))]
    errors = Errors(degrees, errors_of_fits(fits, few), errors_of_fits(fits, draws[-1].fresh))
    curves = [polynomial_values(each, X) for each in fits]
    best = int(errors.validation.argmin())
    shown = sorted({1, best, min(3 * flags.points // 4, flags.degree_max)})
    names = {k: ("under-fitting", "the best", "over-fitting")[np.sign(k - best) + 1] for k in shown}
    every = 0 if flags.quick else flags.points + 1
    slides = {k: f"degree {k}" for k in range(len(degrees)) if k <= every or k % 5 == 0}

    networks = learned[middle]
    train, test = (
        {name: np.array([getattr(each[name], field) for each in learned]) for name in networks}
        for field in ("train", "test")
    )
    best_name = min(set(networks) - {PLAIN}, key=lambda name: test[name].mean())
    plain = networks[PLAIN].errors
    stopped = plain.validation.argmin()
    without = fit_figure(few, networks[PLAIN].curve, plain, flags.noise, "training steps")
    without.axes[1].set_xscale("log")
    return Lesson(
        values={
            "lowest": errors.validation[best],
            "final": errors.validation[-1],
            "best_name": best_name,
            "with_best": test[best_name].mean(),
            "without": test[PLAIN].mean(),
            "steps": steps,
            "draws": used,
            "stopped": plain.at[stopped],
            "stopped_error": plain.validation[stopped],
            "final_error": plain.validation[-1],
        },
        shown={
            "side_by_side": curves_figure(
                few, {f"degree {k}: {name}": curves[k] for k, name in names.items()}
            ),
            "degrees": Slides(
                [
                    png(fit_figure(few, curves[k], errors, flags.noise, "degree", label, k + 1))
                    for k, label in slides.items()
                ],
                list(slides.values()),
            ),
            "table": Table(
                ["network", "training RMSE", "test RMSE", "better than without"],
                [
                    [
                        name,
                        *(mean_and_std(each[name], ".3f") for each in (train, test)),
                        "" if name == PLAIN else f"{np.sum(test[name] < test[PLAIN])} of {used}",
                    ]
                    for name in networks
                ],
            ),
            "without": without,
            "regularised": curves_figure(
                few, {name: each.curve for name, each in networks.items() if name != PLAIN}
            ),
        },
        numbers={
            "polynomials": {
                "best": best,
                "train": errors.training,
                "validation": errors.validation,
            },
            "networks": {k: {"train": train[k], "test": test[k]} for k in networks},
        },
        cover="side_by_side",
    )


def curves_figure(points: Points, curves: dict[str, Curve]) -> Figure:
    """Draw each fitted curve in its own panel. If there are four, use two rows."""
    columns = 2 if len(curves) == 4 else len(curves)
    figure, grid = panels(len(curves), columns, height=2.9, sharex=True, sharey=True)
    for axes, (name, curve) in zip(grid, curves.items(), strict=True):
        _draw_curve(axes, points, curve, name)
        axes.set_xticks([-1, 0, 1])
    legend_below(figure, columns=3)
    return figure


def fit_figure(
    points: Points,
    curve: Curve,
    errors: Errors,
    noise: float,
    x: str,
    title: str = "",
    count: int | None = None,
) -> Figure:
    """Draw a fitted curve and the first ``count`` errors, on axes that fit all errors."""
    # A fixed layout is faster and is the same on every slide.
    figure = new_figure(height=4.3, layout="none")
    figure.subplots_adjust(left=0.075, right=0.985, bottom=0.37, top=0.93, wspace=0.27)
    left, right = figure.subplots(1, 2)
    _draw_curve(left, points, curve, title)
    right.axhline(noise, color=GREY, linestyle=":", linewidth=2, label="noise of the points")
    at, training, validation = (each[:count] for each in errors)
    draw_curves(right, at, {"training error": training, "validation error": validation})
    lowest = validation.argmin()
    style = {"color": VERMILLION, "markeredgecolor": "black", "markersize": 8}
    right.plot(at[lowest], validation[lowest], "D", label="lowest validation error", **style)
    right.set_yscale("log")
    right.set_xlim(errors.at[0] - 0.5, errors.at[-1] + 0.5)
    # Cut off errors far below the noise.
    right.set_ylim(0.02 * noise, 1.5 * np.max(errors[1:]))
    finish(right, x=x, y="RMSE")
    legend_below(figure, columns=3, where="lower center")
    return figure


def _draw_curve(axes: Axes, points: Points, curve: Curve, title: str = "") -> None:
    x, y = points
    axes.plot(X, truth(X), "--", color=GREEN, linewidth=2, label="true function")
    axes.plot(X, curve, color=BLUE, linewidth=2, label="fitted")
    axes.plot(x, y, "o", color="black", markersize=4.5, label="training points")
    # The limits depend on the points only. A curve may leave the figure.
    visible = np.concatenate([truth(X), y])
    margin = 0.2 * np.ptp(visible)
    axes.set(xlim=(-1, 1), ylim=(visible.min() - margin, visible.max() + margin))
    finish(axes, title, "x", grid="")
