"""Gradient descent on a loss of two parameters that one can see: batches, learning rates, optimizers."""

import dataclasses
import functools
from typing import TYPE_CHECKING

from _lesson import Flags, Lesson, check_range, main

if TYPE_CHECKING:
    from fidle_jax.lessons.loss_surface import Descent, Problem
    from fidle_jax.report.lesson import Section
    from fidle_jax.report.lessons.gradient_descent import Surface

POINTS = 100
START = (-1.5, 4.2)  # slope and intercept
DRAWN_EPOCHS, DRAWN_STEPS = 10, 40
MOMENTUM, ADAM_RATE = 0.9, 0.3
SHARES = (0.02, 0.5, 0.97, 1.03)  # of the learning rate that is the limit


@dataclasses.dataclass(frozen=True)
class GradientDescent(Flags):
    """How the line is learned."""

    epochs: int = 300
    """Times that each point is seen; with all points in one batch, steps."""
    batch_size: int = 20
    """Points of a batch, between one and all of them."""
    learning_rate: float = 0.03
    """Of gradient descent, with and without momentum."""
    seed: int = 0
    """Of the points and their order."""
    quick: bool = False
    """A smaller budget, for a first look."""


def teach(flags: GradientDescent) -> Lesson:
    """The lesson; raises InputError where a flag is out of its range."""
    check_range("epochs", flags.epochs, 20, 1000)
    check_range("batch-size", flags.batch_size, 2, POINTS - 1)
    # A step on a single point at x = 4 overshoots for good above 2 / (2 (4² + 1)) = 0.059.
    check_range("learning-rate", flags.learning_rate, 0.001, 0.05)
    check_range("seed", flags.seed, 0, 2**31)
    epochs = min(flags.epochs, 100) if flags.quick else flags.epochs
    import numpy as np
    import optax

    from fidle_jax.lessons.loss_surface import descend, noisy_line
    from fidle_jax.report.lessons.gradient_descent import Surface

    problem = noisy_line(POINTS, flags.seed)
    slopes, intercepts = np.linspace(-3, 4, 201), np.linspace(-1.2, 5.8, 201)
    losses = problem.losses(np.stack(np.meshgrid(slopes, intercepts), axis=-1))
    surface = Surface(slopes, intercepts, losses, problem.least, problem.least_loss)
    rate = flags.learning_rate
    follow = functools.partial(descend, problem, start=START, epochs=epochs, seed=flags.seed)
    sizes = POINTS, flags.batch_size, 1
    batches = {size: follow(optax.sgd(rate), batch_size=size) for size in sizes}
    rates = {share: follow(optax.sgd(share * problem.limit)) for share in SHARES}
    optimizers = {
        "SGD": batches[POINTS],
        "momentum": follow(optax.sgd(rate, momentum=MOMENTUM)),
        "Adam": follow(optax.adam(ADAM_RATE)),
    }
    return Lesson(
        title="Gradient descent on a surface one can see",
        summary=(
            "A straight line has two parameters, its slope and its intercept, so that its loss is a "
            "surface over a plane. Gradient descent walks down it: each step goes against the gradient, as "
            "the points of a batch tell it. How far it gets depends on the batch size, on the learning rate "
            "and on the optimizer."
        ),
        facts={
            "least loss, in closed form": f"{problem.least_loss:.3f}",
            "learning rates that diverge": f"> {problem.limit:.3f}",
            "steepest : flattest curvature": f"{problem.curvatures[1] / problem.curvatures[0]:.0f}",
        }
        | {f"steps to 1 %, {name}": _steps(each) for name, each in optimizers.items()},
        sections=[
            _what_a_surface_is(problem, surface),
            _of_batches(surface, batches, rate),
            _of_rates(problem, surface, rates),
            _race(surface, optimizers, rate, frames=8 if flags.quick else 28),
        ],
        numbers={
            "least_loss": problem.least_loss,
            "curvatures": problem.curvatures.tolist(),
            "largest_learning_rate": problem.limit,
            "steps_by_batch_size": {size: each.needed for size, each in batches.items()},
            "steps_by_share_of_it": {share: each.needed for share, each in rates.items()},
            "steps_by_optimizer": {name: each.needed for name, each in optimizers.items()},
        },
    )


def _what_a_surface_is(problem: "Problem", surface: "Surface") -> "Section":
    import numpy as np

    from fidle_jax.lessons.loss_surface import gradient
    from fidle_jax.report.lesson import Section, picture
    from fidle_jax.report.lessons import gradient_descent as figures

    start = np.array(START)
    lines = {"start": start, "half-way": (start + problem.least) / 2, "least": problem.least}
    named = {f"{name}: {problem.losses(line):.2f}": line for name, line in lines.items()}
    downhill = -gradient(problem.x, problem.y, start)
    return Section(
        "A line is a point of the surface",
        f"The loss is the mean squared error over {POINTS} points. It is a quadratic function of slope and "
        "intercept, and its least value is known in closed form, by least squares: what gradient descent "
        "finds can be held against it. The x of the points are neither centred nor scaled. A larger slope "
        "and a smaller intercept then make up for each other: the surface is a long, narrow valley.",
        [
            picture(
                "surface",
                "Three lines among the points, and the same on the loss surface",
                "Left: the points and three lines. Right: the same lines as points on the surface; each "
                "contour is twice as high above the least loss as the one within it. The legend has their "
                "losses. The arrow goes against the gradient: at a right angle to the contour, which is "
                "not towards the least loss.",
                figures.line_and_surface(problem.x, problem.y, surface, named, downhill),
            )
        ],
    )


def _of_batches(surface: "Surface", batches: "dict[int, Descent]", rate: float) -> "Section":
    from fidle_jax.data.batches import steps_per_epoch
    from fidle_jax.report.html import brief_percent
    from fidle_jax.report.lesson import Section, Table, picture
    from fidle_jax.report.lessons import gradient_descent as figures

    paths, by_epoch, rows = {}, {}, []
    for size, descent in batches.items():
        steps = steps_per_epoch(POINTS, size)
        paths[f"batch of {size}"] = descent.path[: DRAWN_EPOCHS * steps + 1]
        by_epoch[f"batch of {size}"] = descent.losses[::steps]
        later = descent.losses[len(descent.losses) // 2 :].mean() / surface.least_loss - 1
        needed = _steps(descent), _steps(descent, an_epoch=steps)
        rows.append([str(size), str(steps), *needed, brief_percent(later)])
    return Section(
        "Batches and epochs",
        "A step takes one batch of points, whose gradient stands in for that of all of them. An epoch is "
        f"over once every point was seen: with a batch of {POINTS} after one step, with a batch of 1 after "
        f"{POINTS}. A small batch gets further in an epoch, whose arithmetic is about the same; but its "
        "gradient is that of a few points, and errs: the path is never at rest, not even at the least "
        "loss.\n\nThe table has the steps and epochs until the loss is first within 1 % of the least one, "
        "and how far above that it is on average in the second half.",
        [
            picture(
                "batches",
                "Paths of three batch sizes on the same contours",
                f"{DRAWN_EPOCHS} epochs from the same start, with a learning rate of {rate:g}: all three saw "
                f"every point {DRAWN_EPOCHS} times. The star is the least loss, in closed form.",
                figures.paths(surface, paths),
            ),
            picture(
                "batch_losses",
                "Loss against epochs for three batch sizes",
                "The loss over all points after each epoch, less the least; the grey line is 1 % of the "
                "least. Small batches are ahead at first; then their gradients' errors keep them away.",
                figures.losses(by_epoch, surface.least_loss, "epoch"),
            ),
            Table(
                ["batch", "steps an epoch", "steps to 1 %", "epochs to 1 %", "above later"], rows
            ),
        ],
    )


def _of_rates(problem: "Problem", surface: "Surface", rates: "dict[float, Descent]") -> "Section":
    from fidle_jax.report.lesson import Section, Table, picture
    from fidle_jax.report.lessons import gradient_descent as figures

    flat, steep = problem.curvatures
    paths, losses, rows = {}, {}, []
    for share, descent in rates.items():
        rate, name = share * problem.limit, f"{100 * share:.0f} % of the limit"
        paths[f"{name}: {rate:.3g}"] = descent.path[: DRAWN_STEPS + 1]
        losses[name] = descent.losses
        needed = _steps(descent) if share < 1 else "never"
        end = f"{descent.losses[-1]:.3g}"
        rows.append([name, f"{rate:.3g}", f"{1 - rate * steep:.2f}".replace("-", "−"), needed, end])
    return Section(
        "The learning rate",
        "A step multiplies the distance from the least loss, along each axis of the valley, by 1 − rate · "
        "curvature. Where that is negative the path jumps to the other side; where it is below −1 it lands "
        f"further away than it was. The curvature across the valley, an eigenvalue of the Hessian, is "
        f"{steep:.2f}, so that every learning rate above 2 / {steep:.2f} = {problem.limit:.3f} diverges. "
        f"Along the valley it is {flat:.2f}, which would bear a far larger rate: the steep direction sets "
        "the limit, the flat one takes the time.",
        [
            picture(
                "rates",
                "Paths of four learning rates on the same contours",
                f"{DRAWN_STEPS} steps with all points in one batch. Too small a rate creeps. With half the "
                "limit the path is on the valley's floor after one step and follows it. Just below the limit "
                "it jumps from side to side and yet comes in, here even sooner; just above, it leaves.",
                figures.paths(surface, paths),
            ),
            picture(
                "rate_losses",
                "Loss against steps for four learning rates",
                "The loss after each step, less the least; the grey line is 1 % of the least. What is less "
                "than single precision can tell is drawn flat.",
                figures.losses(losses, surface.least_loss, "step"),
            ),
            Table(["rate", "value", "factor across", "steps to 1 %", "loss at the end"], rows),
        ],
    )


def _race(
    surface: "Surface", optimizers: "dict[str, Descent]", rate: float, frames: int
) -> "Section":
    import numpy as np

    from fidle_jax.report.lesson import Section, Slides, Table
    from fidle_jax.report.lessons import gradient_descent as figures
    from fidle_jax.report.style import png

    paths = {name: each.path for name, each in optimizers.items()}
    losses = {name: each.losses for name, each in optimizers.items()}
    # At growing distances, as most happens early.
    steps = sorted({round(step) for step in np.geomspace(1, len(losses["SGD"]), frames) - 1})
    rows = [[name, _steps(each), f"{each.losses[-1]:.4f}"] for name, each in optimizers.items()]
    return Section(
        "Momentum and Adam",
        "Plain gradient descent (SGD) follows the gradient of the moment. Momentum keeps "
        f"{100 * MOMENTUM:.0f} % of its last step and adds the new one: along the valley, where gradients "
        "agree, the steps grow up to tenfold; it shoots past the end and comes back. Adam divides each "
        "parameter's step by the usual size of its gradients: small ones move it as fast as large ones. Its "
        "learning rate is about the length of a step, that of the others a factor of the gradient.",
        [
            Slides(
                "race",
                "SGD, momentum and Adam from the same start",
                f"All points in one batch; a learning rate of {rate:g} for SGD and momentum, of "
                f"{ADAM_RATE:g} for Adam. Left: where the three are on the surface. Right: the loss less "
                "the least; the grey line is 1 % of the least.",
                [png(figures.race(surface, paths, losses, step)) for step in steps],
                [f"step {step}" for step in steps],
                seconds=0.5,
            ),
            Table(["optimizer", "steps to 1 %", "loss at the end"], rows),
        ],
    )


def _steps(descent: "Descent", an_epoch: int = 1) -> str:
    """How many epochs of so many steps it takes to 1 % above the least loss."""
    if descent.needed is None:
        return f"more than {(len(descent.losses) - 1) // an_epoch:,}"
    return f"{-(-descent.needed // an_epoch):,}"


if __name__ == "__main__":
    main("gradient_descent", __doc__, GradientDescent(), teach)
