"""One neuron, the border that it learns, and what a hidden layer of a few more can do that it cannot."""

import dataclasses
import functools
from typing import TYPE_CHECKING

from _lesson import Flags, Lesson, check_range, main

from fidle_jax.errors import check_name

if TYPE_CHECKING:
    from flax import linen as nn

    from fidle_jax.lessons.perceptron import Network
    from fidle_jax.lessons.point_clouds import Cloud
    from fidle_jax.report.lesson import Section
    from fidle_jax.report.lessons.perceptron import Plane

NOT_PARTED = ("xor", "moons", "rings")  # by a line
POINTS, BATCH_SIZE = 240, 20
SPAN = 2.4  # of the plane that is drawn: from minus this to this
START = (-0.6, 1.0, 1.2)  # weights and bias of a neuron that is wrong, to see it learn
BORDER_STEPS, BORDER_RATE = 100, 0.5
SOLVED = 0.95  # of the points right: such a network is said to part them


@dataclasses.dataclass(frozen=True)
class Perceptron(Flags):
    """What is learned, and how."""

    points: str = "xor"
    """The points for the hidden layers: xor, moons or rings."""
    epochs: int = 200
    """Times that a network sees each of them."""
    learning_rate: float = 0.2
    """Of gradient descent, in batches of 20 points."""
    seed: int = 0
    """Of the points, and of a first network's initial weights; the next network takes the next seed."""
    quick: bool = False
    """A smaller budget, for a first look."""


def teach(flags: Perceptron) -> Lesson:
    """The lesson; raises InputError where a flag is out of its range."""
    check_name("value of --points", flags.points, NOT_PARTED)
    check_range("epochs", flags.epochs, 1, 2000)
    check_range("learning-rate", flags.learning_rate, 0.001, 2)
    check_range("seed", flags.seed, 0, 2**31)
    import optax

    from fidle_jax.lessons.perceptron import train
    from fidle_jax.lessons.point_clouds import CLOUDS, best_line
    from fidle_jax.report.html import brief_percent

    widths, seeds = ((2, 4), 3) if flags.quick else ((2, 3, 4, 8), 8)
    clouds = {name: CLOUDS[name](POINTS, flags.seed) for name in NOT_PARTED}
    cloud = clouds[flags.points]
    optimizer = optax.sgd(flags.learning_rate)
    learn = functools.partial(
        train, optimizer=optimizer, epochs=flags.epochs, batch_size=BATCH_SIZE
    )
    lines = {name: best_line(*each) for name, each in clouds.items()}
    alone = {name: learn(each, (), seed=flags.seed) for name, each in clouds.items()}
    hidden = {
        width: [learn(cloud, (width,), seed=flags.seed + place) for place in range(seeds)]
        for width in widths
    }
    return Lesson(
        title="One neuron, and more than one",
        summary=(
            "A neuron adds its inputs up, each by its weight, adds a bias, and puts the sum through a "
            "sigmoid: it parts the plane by a line. Where no line parts the classes, a single neuron "
            "fails however long it learns. A hidden layer has several lines, and the neuron behind it "
            "parts what they make of the points."
        ),
        facts={
            "parameters of a neuron of two inputs": "3",
            f"right on {flags.points}, the best line": brief_percent(lines[flags.points]),
            f"right on {flags.points}, one neuron": brief_percent(alone[flags.points].accuracy),
        }
        | {
            f"seeds of {width} hidden neurons that part them": _parted(hidden[width])
            for width in (2, 4)
        },
        sections=[
            _one_neuron(flags),
            _no_line(clouds, lines, alone),
            _hidden_layers(flags.points, cloud, alone[flags.points], hidden),
        ],
        numbers={
            "best_line": lines,
            "one_neuron": {name: each.accuracy for name, each in alone.items()},
            "hidden": {width: [each.accuracy for each in hidden[width]] for width in widths},
            "parted_from": SOLVED,
        },
    )


def _plane(model: "nn.Module", params: dict, cloud: "Cloud", title: str, lines=()) -> "Plane":
    import numpy as np

    from fidle_jax.lessons.perceptron import probabilities, square_grid
    from fidle_jax.report.lessons.perceptron import Plane

    probability = np.asarray(probabilities(model, params, square_grid(SPAN, 121)))
    return Plane(*cloud, probability, SPAN, lines, title)


def _one_neuron(flags: Perceptron) -> "Section":
    import jax
    import numpy as np

    from fidle_jax.lessons import perceptron
    from fidle_jax.lessons.point_clouds import blobs
    from fidle_jax.report.html import brief_percent
    from fidle_jax.report.lesson import Section, Slides, picture
    from fidle_jax.report.lessons import perceptron as figures
    from fidle_jax.report.style import png

    model, cloud = perceptron.NEURON, blobs(POINTS, flags.seed)
    followed = perceptron.follow_neuron(cloud, START, BORDER_STEPS, BORDER_RATE)
    path = perceptron.neuron_lines(followed["dense_1"])[:, 0]
    steps = perceptron.evenly_moved(path, 8 if flags.quick else 20)
    frames = []
    for step in steps:
        params = jax.tree.map(lambda each, step=step: each[step], followed)
        right = perceptron.accuracy(perceptron.probabilities(model, params, cloud[0]), cloud[1])
        frames.append(_plane(model, params, cloud, f"step {step}: {brief_percent(right)} right"))
    sums = perceptron.weighted_sums(path[-1:], cloud[0])[:, 0]
    outputs = np.asarray(perceptron.probabilities(model, params, cloud[0]))
    return Section(
        "One neuron",
        "The output of the neuron is sigmoid(w·x + b), a number from 0 to 1 that is read as the "
        "probability of class 1. Where the weighted sum is 0 the output is one half: on the plane this is "
        "a line, the border. The weights w are at a right angle to it, the bias moves it away from the "
        "origin, and the longer w is, the steeper the output changes across it.",
        [
            picture(
                "neuron",
                "A neuron as a line on the plane, and its sigmoid",
                "Left: the border (black), the weights as an arrow of length 1, and the output as the "
                "background, from class 0 (orange) by one half (white) to class 1 (blue). Right: the same "
                "points by their weighted sums; all are on the sigmoid.",
                figures.neuron(frames[-1], path[-1], sums, outputs),
            ),
            Slides(
                "border",
                "The border of a neuron while it learns",
                f"From a wrong start (dotted), {BORDER_STEPS} steps of gradient descent on all points with a "
                f"learning rate of {BORDER_RATE:g}. The border turns within a few steps. Then the weights "
                "grow, and the white band around it narrows.",
                [png(figures.border(frame, path[0])) for frame in frames],
                [frame.title for frame in frames],
                seconds=0.5,
            ),
        ],
    )


def _no_line(clouds: "dict[str, Cloud]", lines: dict, alone: "dict[str, Network]") -> "Section":
    from fidle_jax.report.html import brief_percent
    from fidle_jax.report.lesson import Section, Table, picture
    from fidle_jax.report.lessons import perceptron as figures

    right = {name: brief_percent(each.accuracy) for name, each in alone.items()}
    planes = [
        _plane(each.model, each.params, clouds[name], f"{name}: {right[name]}")
        for name, each in alone.items()
    ]
    return Section(
        "What one neuron cannot do",
        "Exclusive or (xor) is the smallest such task: of a square's four corners, opposite ones are alike. "
        "Every line has a corner on its wrong side, so that no neuron has more than about three in four "
        "right. The one that gradient descent finds does worse: the corners pull its line in opposite "
        "directions, and its weights stay near 0. A ring around another does the same to it.",
        [
            picture(
                "no_line",
                "One neuron on points that no line parts",
                "One neuron, trained on each; above, the share of points that it has right. Where the plane "
                "is almost white the neuron has nothing to say. Of the moons it has most right, and cannot "
                "bend its line for the rest.",
                figures.planes(planes),
            ),
            Table(
                ["points", "right, one neuron", "right, the best line of all"],
                [[name, right[name], brief_percent(lines[name])] for name in alone],
            ),
        ],
    )


def _hidden_layers(
    points: str, cloud: "Cloud", alone: "Network", hidden: "dict[int, list[Network]]"
) -> "Section":
    import numpy as np

    from fidle_jax.lessons.perceptron import neuron_lines, weighted_sums
    from fidle_jax.report.html import brief_percent
    from fidle_jax.report.lesson import Section, Table, picture
    from fidle_jax.report.lessons import perceptron as figures

    ranked = {width: sorted(each, key=lambda one: one.accuracy) for width, each in hidden.items()}
    shown = {"one neuron": alone, "2 at worst": ranked[2][0]}
    shown |= {f"{width} at best": each[-1] for width, each in ranked.items()}
    planes = []
    for name, each in shown.items():
        lines = neuron_lines(each.params["dense_1"])
        lines = lines if 1 < len(lines) <= 4 else ()
        title = f"{name}: {brief_percent(each.accuracy)}"
        planes.append(_plane(each.model, each.params, cloud, title, lines))
    rows = [["none", "3", "–", brief_percent(alone.accuracy), "–"]]
    for width, each in ranked.items():
        right = [one.accuracy for one in each]
        shares = brief_percent(np.median(right)), brief_percent(right[-1])
        rows.append([str(width), str(4 * width + 1), _parted(each), *shares])
    layers = ranked[2][-1].params
    outputs = np.tanh(weighted_sums(neuron_lines(layers["dense_1"]), cloud[0]))
    return Section(
        "What a hidden layer can do",
        "Each neuron of a hidden layer has a line of its own; tanh makes its output about −1 on one side "
        "and 1 on the other. One more neuron parts these outputs. For xor two lines are enough, with one "
        "class between them and the other outside; around a ring it takes three. But gradient descent has "
        "to find them: from some initial weights it ends where no small step helps, the more often the "
        "fewer the neurons. A network is said to part the points where it has "
        f"{100 * SOLVED:.0f} % of them right.",
        [
            picture(
                "hidden",
                "Hidden layers of several sizes on the same points",
                f"The points {points} and hidden layers of so many neurons, at worst and at best of "
                f"{len(ranked[2])} seeds, with the share that is right. Dashed: the lines of the hidden "
                "neurons, where they are few.",
                figures.planes(planes),
            ),
            Table(["neurons", "parameters", "seeds that part them", "right, median", "best"], rows),
            picture(
                "folded",
                "What two hidden neurons make of the points",
                "The network of two hidden neurons that did best. Left: the plane with their two lines. "
                "Right: the same points, each placed by the two neurons' outputs. The hidden layer has "
                "moved the points, and the output neuron parts them by one line, as a single neuron does; "
                "on the left the same border is bent.",
                figures.folded(planes[2], outputs, neuron_lines(layers["dense_2"])[0]),
            ),
        ],
    )


def _parted(networks: "list[Network]") -> str:
    return f"{sum(each.accuracy >= SOLVED for each in networks)} of {len(networks)}"


if __name__ == "__main__":
    main("perceptron", __doc__, Perceptron(), teach)
