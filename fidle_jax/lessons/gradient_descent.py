"""Lesson: gradient descent on the squared error of a line y = slope · x + intercept (Fidle, GRAD1)."""

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fidle_jax.data.batches import steps_per_epoch
from fidle_jax.lessons.figures import INK, MARKERS, STYLES, growing_steps, number, panels
from fidle_jax.lessons.flags import GradientDescent
from fidle_jax.lessons.page import Lesson
from fidle_jax.nn import DNN
from fidle_jax.report.html import brief_percent
from fidle_jax.report.lesson import Slides, Table
from fidle_jax.report.style import GREY, WIDTH, finish, legend_below, png
from fidle_jax.train.evaluation import NUMBERS
from fidle_jax.train.fit import fit
from fidle_jax.train.step import Task

SLOPE, INTERCEPT, NOISE, POINTS = 1.0, 0.5, 0.7, 100
# x is not centred, so slope and intercept can compensate each other: the surface is a long valley.
LARGEST_X = 4.0
START = (-1.5, 4.2)  # slope and intercept
# Grid of the contour plot.
SLOPES, INTERCEPTS = np.linspace(-3, 4, 201), np.linspace(-1.2, 5.8, 201)
DRAWN_EPOCHS, DRAWN_STEPS = 10, 40
MOMENTUM, ADAM_RATE = 0.9, 0.3
SHARES = (0.02, 0.5, 0.97, 1.03)  # learning rates, as fractions of the largest one that converges
CONTOUR_COLOUR = "#B4BAC1"
MARKED_LINE: dict[str, Any] = {"linewidth": 1.5, "markersize": 9, "markeredgecolor": "white"}


class Problem(NamedTuple):
    """Points on a noisy line, and closed-form properties of their loss."""

    x: Float[np.ndarray, " point"]
    y: Float[np.ndarray, " point"]
    hessian: Float[np.ndarray, "2 2"]  # of the loss; constant, because the loss is quadratic
    minimum: Float[np.ndarray, "2"]  # slope and intercept with the lowest loss

    @property
    def lowest(self) -> float:
        """Loss at the minimum."""
        return float(self.losses(self.minimum))

    @property
    def curvatures(self) -> Float[np.ndarray, "2"]:
        """Eigenvalues of the Hessian in ascending order."""
        return np.linalg.eigvalsh(self.hessian)

    @property
    def limit(self) -> float:
        """Learning rate above which gradient descent diverges.

        A step multiplies the distance from the minimum along an eigenvector by 1 - rate · eigenvalue. The
        absolute value of this factor exceeds 1 if the rate exceeds 2 / eigenvalue.
        """
        return float(2 / self.curvatures[-1])

    def losses(self, lines):
        """Return the mean squared error of each line, an array (..., 2) of slopes and intercepts."""
        errors = lines[..., :1] * self.x + lines[..., 1:] - self.y
        return (errors**2).mean(axis=-1)


def make_problem(count: int, seed: int) -> Problem:
    """Draw ``count`` points with uniform x and normal noise, and solve their least squares problem."""
    random = np.random.default_rng(seed)
    x = random.uniform(0, LARGEST_X, count)
    y = SLOPE * x + INTERCEPT + random.normal(scale=NOISE, size=count)
    x, y = x.astype(np.float32), y.astype(np.float32)
    columns = np.stack([x, np.ones_like(x)], axis=1).astype(np.float64)
    minimum = np.linalg.lstsq(columns, y.astype(np.float64))[0]
    wide = x.astype(np.float64)
    hessian = 2 * np.array([[(wide * wide).mean(), wide.mean()], [wide.mean(), 1.0]])
    return Problem(x, y, hessian, minimum)


class Descent(NamedTuple):
    """A path on the loss surface: the start, and the point after each step."""

    path: Float[np.ndarray, "step 2"]  # slope and intercept
    losses: Float[np.ndarray, " step"]  # over all points
    needed: int | None  # steps until the loss is within 1 % of the lowest, if it ever is

    def text(self, steps_per_epoch: int = 1) -> str:
        """Return the number of epochs that are needed, as text."""
        if self.needed is None:
            return f"more than {(len(self.losses) - 1) // steps_per_epoch:,}"
        return f"{-(-self.needed // steps_per_epoch):,}"


def descend(
    problem: Problem,
    optimizer: optax.GradientTransformation,
    start: tuple[float, float],
    batch_size: int = POINTS,
    **options: Any,
) -> Descent:
    """Train a network with one input, one output and no hidden layer, from a slope and an intercept.

    ``options`` are ``epochs`` and ``seed`` of `fit`.
    """
    slope, intercept = np.asarray(start, np.float32)
    first = {"kernel": jnp.full((1, 1), slope), "bias": jnp.full((1,), intercept)}
    params = fit(
        Task(DNN(classes=1, hidden=()), optimizer, objective=NUMBERS),
        (problem.x[:, None], problem.y),
        batch_size=batch_size,
        params={"dense_1": first},
        follow=True,
        **options,
    ).path
    layer = {name: np.asarray(values, np.float64) for name, values in params["dense_1"].items()}
    path = np.concatenate([layer["kernel"][..., 0], layer["bias"]], axis=-1)
    losses = problem.losses(path)
    return Descent(path, losses, steps_within(losses, problem.lowest))


def steps_within(losses: Float[np.ndarray, " step"], lowest: float) -> int | None:
    """Return the first step with a loss of at most 1.01 times the lowest, or None."""
    within = np.flatnonzero(losses <= 1.01 * lowest)
    return int(within[0]) if len(within) else None


def teach(flags: GradientDescent) -> Lesson:
    """Create the lesson."""
    epochs = min(flags.epochs, 100) if flags.quick else flags.epochs
    rate, seed = flags.learning_rate, flags.seed
    problem = make_problem(POINTS, seed)
    follow = functools.partial(descend, problem, start=START, epochs=epochs, seed=seed)
    sizes = POINTS, flags.batch_size, 1
    batches = {size: follow(optax.sgd(rate), batch_size=size) for size in sizes}
    rates = {share: follow(optax.sgd(share * problem.limit)) for share in SHARES}
    optimizers = {
        "SGD": batches[POINTS],
        "momentum": follow(optax.sgd(rate, momentum=MOMENTUM)),
        "Adam": follow(optax.adam(ADAM_RATE)),
    }
    flat, steep = problem.curvatures
    steps = {size: steps_per_epoch(POINTS, size) for size in sizes}
    # The mean loss of the second half of training, relative to the lowest loss.
    excess = {
        size: brief_percent(each.losses[len(each.losses) // 2 :].mean() / problem.lowest - 1)
        for size, each in batches.items()
    }
    batch_rows = [
        [str(size), str(steps[size]), each.text(), each.text(steps[size]), excess[size]]
        for size, each in batches.items()
    ]
    names = {share: f"{100 * share:.0f} % of the limit" for share in SHARES}
    rate_rows = [
        [
            names[share],
            f"{share * problem.limit:.3g}",
            number(1 - share * problem.limit * steep, ".2f"),
            each.text() if share < 1 else "never",
            number(each.losses[-1], ".3g"),
        ]
        for share, each in rates.items()
    ]
    shown = growing_steps(epochs, 8 if flags.quick else 28)
    return Lesson(
        values={
            "ratio": steep / flat,
            "needed": {name: each.text() for name, each in optimizers.items()},
        },
        shown={
            "surface": surface_figure(problem),
            "batches": paths_figure(
                problem,
                {
                    f"batch of {size}": each.path[: DRAWN_EPOCHS * steps[size] + 1]
                    for size, each in batches.items()
                },
            ),
            "batch_table": Table(
                ["batch", "steps per epoch", "steps to 1 %", "epochs to 1 %", "excess at the end"],
                batch_rows,
            ),
            "rates": paths_figure(
                problem,
                {
                    f"{names[share]}: {share * problem.limit:.3g}": each.path[: DRAWN_STEPS + 1]
                    for share, each in rates.items()
                },
            ),
            "rate_table": Table(
                ["rate", "value", "steep factor", "steps to 1 %", "final loss"], rate_rows
            ),
            "race": Slides(
                [png(race_figure(problem, optimizers, step)) for step in shown],
                [f"step {step}" for step in shown],
                seconds=0.5,
            ),
        },
        numbers={
            "lowest_loss": problem.lowest,
            "curvatures": problem.curvatures,
            "largest_learning_rate": problem.limit,
            "steps_by_batch_size": {size: each.needed for size, each in batches.items()},
            "steps_by_share_of_largest": {share: each.needed for share, each in rates.items()},
            "steps_by_optimizer": {name: each.needed for name, each in optimizers.items()},
        },
        cover="race",
    )


def draw_contours(axes: Axes, problem: Problem) -> None:
    """Draw the loss surface. Each contour is twice as high above the minimum as the next inner one."""
    above = problem.losses(np.stack(np.meshgrid(SLOPES, INTERCEPTS), axis=-1)) - problem.lowest
    levels = above.max() / 2.0 ** np.arange(10, -1, -1)
    axes.contour(SLOPES, INTERCEPTS, above, levels=levels, colors=CONTOUR_COLOUR, linewidths=1)
    axes.set(xlim=SLOPES[[0, -1]], ylim=INTERCEPTS[[0, -1]], aspect="equal")
    finish(axes, x="slope", y="intercept", grid="")
    axes.spines[:].set_visible(True)


def _mark_minimum(axes: Axes, problem: Problem) -> None:
    axes.plot(*problem.minimum, "*", color=INK, markersize=13, markeredgecolor="white")


def surface_figure(problem: Problem) -> Figure:
    """Draw three lines with the data points.

    Draw the same lines as points on the loss surface, with the negative gradient.
    """
    figure, (left, right) = panels(2, 2, height=4.1, extra=0)
    left.plot(problem.x, problem.y, "o", color=CONTOUR_COLOUR, markersize=4)
    draw_contours(right, problem)
    start, ends = np.array(START), np.array([0, problem.x.max()])
    lines = {"start": start, "half-way": (start + problem.minimum) / 2, "minimum": problem.minimum}
    for (name, line), style, marker in zip(lines.items(), STYLES, MARKERS, strict=False):
        left.plot(ends, line[0] * ends + line[1], linewidth=2, **style)
        label = f"{name}: {problem.losses(line):.2f}"
        right.plot(*line, marker, color=style["color"], markersize=9, label=label)
    downhill = problem.hessian @ (problem.minimum - start)
    arrow = {"arrowstyle": "-|>", "color": INK, "linewidth": 2, "shrinkA": 4, "shrinkB": 0}
    head = start + downhill / np.linalg.norm(downhill)
    right.annotate("", (head[0], head[1]), START, arrowprops=arrow)
    finish(left, x="x", y="y", grid="")
    legend_below(figure, columns=3)
    return figure


def paths_figure(problem: Problem, paths: dict[str, Float[np.ndarray, "step 2"]]) -> Figure:
    """Draw each path in its own panel. If a path leaves the panel and does not return, cut it off."""
    columns = 2 if len(paths) == 4 else len(paths)
    figure, grid = panels(len(paths), columns, WIDTH / columns, 0.4, sharex=True, sharey=True)
    for axes, (name, path), style, marker in zip(
        grid, paths.items(), STYLES, MARKERS, strict=False
    ):
        draw_contours(axes, problem)
        low, high = np.transpose([SLOPES[[0, -1]], INTERCEPTS[[0, -1]]])
        inside = np.flatnonzero(((low <= path) & (path <= high)).all(axis=1))
        path = path[: inside.max(initial=0) + 2]
        axes.plot(*path.T, ".-", color=style["color"], linewidth=1, markersize=3)
        axes.plot(*path[0], marker, color=style["color"], markersize=9)
        _mark_minimum(axes, problem)
        axes.set_title(name)
        axes.label_outer()
    return figure


def race_figure(problem: Problem, descents: dict[str, Descent], step: int) -> Figure:
    """Draw the paths and the losses of several optimizers up to ``step``."""
    figure, (left, right) = panels(2, 2, height=4.3, extra=0)
    draw_contours(left, problem)
    # Single precision cannot resolve smaller differences.
    floor = 1e-5 * problem.lowest
    for (name, each), style, marker in zip(descents.items(), STYLES, MARKERS, strict=False):
        line = {"color": style["color"], "marker": marker, "markevery": [step]} | MARKED_LINE
        left.plot(*each.path[: step + 1].T, **line)
        above = np.maximum(each.losses[: step + 1] - problem.lowest, floor)
        right.plot(above, label=name, **line)
    _mark_minimum(left, problem)
    right.axhline(0.01 * problem.lowest, color=GREY, linewidth=1)
    right.set_yscale("log")
    last = max(len(each.losses) for each in descents.values()) - 1
    right.set_xlim(-0.04 * last, 1.04 * last)
    right.set_ylim(floor / 2, 2 * max(each.losses.max() for each in descents.values()))
    finish(right, x="step", y="loss − lowest loss")
    legend_below(figure, columns=3)
    return figure
