"""Lesson: one neuron, and a few neurons in a hidden layer, on points of the plane (Fidle, PER57)."""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from sklearn.datasets import make_blobs, make_circles, make_moons

from fidle_jax.lessons.figures import INK, growing_steps, panels
from fidle_jax.lessons.flags import Perceptron
from fidle_jax.lessons.page import Lesson
from fidle_jax.nn import DNN
from fidle_jax.report.html import brief_percent
from fidle_jax.report.lesson import Slides, Table
from fidle_jax.report.style import (
    BLUE,
    GREY,
    LINES,
    SMALL,
    TEXT,
    VERMILLION,
    finish,
    legend_below,
    png,
)
from fidle_jax.train.evaluation import BINARY, apply_model
from fidle_jax.train.fit import fit
from fidle_jax.train.step import Task

Cloud = tuple[Float[np.ndarray, "point 2"], Int[np.ndarray, " point"]]
Line = Float[np.ndarray, "3"]  # weights w and bias c of a neuron; its line is w·x + c = 0

POINTS, BATCH_SIZE = 240, 20
SPAN = 2.4  # The figures show the plane from minus this to this.
START = (-0.6, 1.0, 1.2)  # initial weights and bias of a neuron that is wrong
BORDER_STEPS, BORDER_RATE = 100, 0.5
SOLVED = 0.95  # minimum accuracy of a network that separates the classes
CORNERS = np.array([[-1, -1], [1, 1], [-1, 1], [1, -1]], np.float32)
CORNER_LABELS = np.array([0, 0, 1, 1], np.int32)
# From class 0 to class 1; white where the network is undecided.
SHADES = LinearSegmentedColormap.from_list("two classes", ["#F2B38C", "white", "#8FC3E6"])
CLASSES = ((VERMILLION, "o"), (BLUE, "^"))


Kind = Literal["blobs", "xor", "moons", "rings"]


def make_cloud(kind: Kind, seed: int, count: int = POINTS) -> Cloud:
    """Draw points of two classes.

    blobs: two round clusters that a line separates. xor: a cluster at each corner of a square; opposite
    corners have the same class. moons: two interleaved half circles. rings: a ring around another.
    """
    if kind == "blobs":
        centers = [[-1.1, -0.7], [1.1, 0.7]]
        points, labels = make_blobs(count, centers=centers, cluster_std=0.4, random_state=seed)
    elif kind == "xor":
        corner = np.arange(count) % len(CORNERS)
        noise = np.random.default_rng(seed).normal(scale=0.3, size=(count, 2))
        points, labels = CORNERS[corner] + noise, CORNER_LABELS[corner]
    elif kind == "moons":
        points, labels = make_moons(count, noise=0.12, random_state=seed)
        points = 1.2 * (points - [0.5, 0.25])
    else:
        points, labels = make_circles(count, noise=0.08, factor=0.4, random_state=seed)
        points = 1.6 * points
    return points.astype(np.float32), labels.astype(np.int32)


class Network(NamedTuple):
    """A network with one output: the logit of class 1."""

    model: nn.Module
    params: dict[str, Any]

    def accuracy(self, cloud: Cloud) -> float:
        """Return the fraction of points that are classified correctly."""
        return float(np.mean((np.asarray(self.probabilities(cloud[0])) > 0.5) == (cloud[1] > 0)))

    def probabilities(self, points: Float[np.ndarray, "*shape 2"]) -> Float[Array, "*shape"]:
        """Return the probability of class 1 at each point."""
        return _probabilities(self.model, self.params, points)


@functools.partial(jax.jit, static_argnames="model")
def _probabilities(model, params, points):
    outputs = apply_model(model, {"params": params}, points.reshape(-1, 2))
    return jax.nn.sigmoid(outputs[:, 0]).reshape(points.shape[:-1])


def train_network(
    cloud: Cloud, hidden: tuple[int, ...], optimizer: optax.GradientTransformation, **options: Any
) -> Network:
    """Train a network with hidden layers of tanh neurons, or a single neuron without hidden layers.

    Pass the same optimizer object for equal networks: then training is compiled once. ``options`` are
    ``epochs`` and ``seed`` of `fit`.
    """
    model = DNN(classes=1, hidden=hidden, activation=jnp.tanh)
    task = Task(model, optimizer, objective=BINARY)
    fitted = fit(task, cloud, batch_size=BATCH_SIZE, **options)
    return Network(model, fitted.state.params)


def follow_neuron(
    cloud: Cloud, start: tuple[float, float, float], steps: int, learning_rate: float
) -> list[Network]:
    """Train one neuron from ``start`` on all points at once. Return it before and after each step."""
    *weights, bias = start
    layer = {"kernel": jnp.array(weights)[:, None], "bias": jnp.array([bias])}
    model = DNN(classes=1, hidden=())
    followed = fit(
        Task(model, optax.sgd(learning_rate), objective=BINARY),
        cloud,
        epochs=steps,
        batch_size=len(cloud[1]),
        params={"dense_1": layer},
        follow=True,
    ).path
    leaves, tree = jax.tree.flatten(jax.tree.map(np.asarray, followed))
    return [Network(model, tree.unflatten(step)) for step in zip(*leaves, strict=True)]


def neuron_lines(layer: dict[str, Any]) -> Float[np.ndarray, "neuron 3"]:
    """Return the line (w, c) of each neuron of a layer with two inputs."""
    return np.column_stack([np.transpose(layer["kernel"]), layer["bias"]])


def weighted_sums(
    lines: Float[np.ndarray, "neuron 3"], points: Float[np.ndarray, "*shape 2"]
) -> Float[np.ndarray, "*shape neuron"]:
    """Return w·x + c of each neuron at each point. It is 0 on the neuron's line."""
    return points @ lines[:, :2].T + lines[:, 2]


def teach(flags: Perceptron) -> Lesson:
    """Create the lesson."""
    widths, seeds = ((2, 4), 3) if flags.quick else ((2, 3, 4, 8), 8)
    kinds: tuple[Kind, ...] = ("xor", "moons", "rings")
    clouds = {kind: make_cloud(kind, flags.seed) for kind in kinds}
    cloud, simple = clouds[flags.points], make_cloud("blobs", flags.seed)
    learn = functools.partial(
        train_network, optimizer=optax.sgd(flags.learning_rate), epochs=flags.epochs
    )
    alone = {name: learn(each, (), seed=flags.seed) for name, each in clouds.items()}
    one_neuron = {name: each.accuracy(clouds[name]) for name, each in alone.items()}
    hidden, accuracies = {}, {}
    for width in widths:
        networks = [learn(cloud, (width,), seed=flags.seed + i) for i in range(seeds)]
        accuracies[width] = [each.accuracy(cloud) for each in networks]
        hidden[width] = sorted(networks, key=lambda each: each.accuracy(cloud))
    separated = {
        width: f"{sum(each >= SOLVED for each in found)} of {seeds}"
        for width, found in accuracies.items()
    }
    followed = follow_neuron(simple, START, BORDER_STEPS, BORDER_RATE)
    (first,), last = (neuron_lines(followed[i].params["dense_1"]) for i in (0, -1))
    reach = 1.1 * float(np.abs(weighted_sums(last, simple[0])).max())
    steps = growing_steps(BORDER_STEPS, 8 if flags.quick else 20)
    labels = [
        f"step {step}: {brief_percent(followed[step].accuracy(simple))} correct" for step in steps
    ]
    shown = {"one neuron": alone[flags.points], "2, worst": hidden[2][0]}
    shown |= {f"{width}, best": each[-1] for width, each in hidden.items()}
    rows = [["none", "3", "–", brief_percent(one_neuron[flags.points]), "–"]]
    for width, found in accuracies.items():
        shares = brief_percent(float(np.median(found))), brief_percent(max(found))
        rows.append([str(width), str(4 * width + 1), separated[width], *shares])
    return Lesson(
        values={
            "alone": brief_percent(one_neuron[flags.points]),
            "separated": separated,
            "seeds": seeds,
        },
        shown={
            "neuron": Slides(
                [
                    png(neuron_figure(followed[step], simple, first, reach, label))
                    for step, label in zip(steps, labels, strict=True)
                ],
                labels,
                seconds=0.5,
            ),
            "no_line": planes_figure([(k, each, clouds[k]) for k, each in alone.items()]),
            "hidden": planes_figure([(k, each, cloud) for k, each in shown.items()]),
            "widths": Table(
                ["neurons", "parameters", "seeds that separate", "median accuracy", "best"], rows
            ),
            "folded": folded_figure(hidden[2][-1], cloud),
        },
        numbers={"one_neuron": one_neuron, "hidden": accuracies, "separated_from": SOLVED},
        cover="hidden",
    )


def neuron_figure(
    network: Network, cloud: Cloud, start: Line, reach: float, title: str = ""
) -> Figure:
    """Draw the decision boundary of a neuron, dotted at the start, and its outputs on the sigmoid.

    The weighted sums are drawn from -reach to reach.
    """
    figure, (left, right) = panels(2, 2, height=3.9, extra=0)
    _draw_plane(left, network, cloud)
    _draw_line(left, start, color=GREY, linestyle=":", linewidth=2)
    left.set_title(title, fontsize=TEXT)
    sums = weighted_sums(neuron_lines(network.params["dense_1"]), cloud[0])[:, 0]
    z = np.linspace(-reach, reach, 300)
    right.axhline(0.5, color=LINES)
    right.axvline(0, color=LINES)
    right.plot(z, 1 / (1 + np.exp(-z)), color=GREY, linewidth=1.5)
    outputs = np.asarray(network.probabilities(cloud[0]))
    _draw_points(right, np.column_stack([sums, outputs]), cloud[1], size=6)
    right.set_xlim(-reach, reach)
    finish(right, x="weighted sum  z = w·x + b", y="output  sigmoid(z)", grid="")
    right.legend(fontsize=TEXT, frameon=False, loc="upper left")
    return figure


def planes_figure(shown: list[tuple[str, Network, Cloud]]) -> Figure:
    """Draw several networks by name, with their accuracy and up to four lines of hidden neurons."""
    figure, grid = panels(len(shown), 3, 2.55)
    for axes, (name, network, cloud) in zip(grid, shown, strict=True):
        _draw_plane(axes, network, cloud, size=3)
        title = f"{name}: {brief_percent(network.accuracy(cloud))}"
        axes.set_title(title, fontsize=TEXT)
    # Larger markers for the legend, in which the last axes take precedence.
    _draw_points(grid[-1], np.zeros((0, 2)), np.zeros(0), size=6)
    grid[-1].plot([], [], color=INK, linewidth=2, label="decision boundary")
    legend_below(figure, columns=4)
    return figure


def folded_figure(network: Network, cloud: Cloud) -> Figure:
    """Draw points on the plane, and the outputs of two hidden neurons for the same points."""
    figure, (left, right) = panels(2, 2, height=4.1, extra=0)
    _draw_plane(left, network, cloud)
    left.set_title("the points, two hidden neurons", fontsize=TEXT)
    outputs = np.tanh(weighted_sums(neuron_lines(network.params["dense_1"]), cloud[0]))
    _draw_points(right, outputs, cloud[1], size=6, markeredgecolor="white")
    _draw_line(right, neuron_lines(network.params["dense_2"])[0], color=INK, linewidth=2)
    _set_square(right, 1.2, [-1, 0, 1])
    titles = (f"output of hidden neuron {i}" for i in (1, 2))
    finish(right, "input of the output neuron", *titles, grid="")
    right.spines[:].set_visible(True)
    return figure


def _draw_plane(axes: Axes, network: Network, cloud: Cloud, size: float = 5) -> None:
    """Draw the points, the probability of class 1, the decision boundary, and the lines of hidden neurons."""
    along = np.linspace(-SPAN, SPAN, 121, dtype=np.float32)
    probability = np.asarray(network.probabilities(np.stack(np.meshgrid(along, along), axis=-1)))
    extent = (-SPAN, SPAN, -SPAN, SPAN)
    options = {"cmap": SHADES, "vmin": 0, "vmax": 1, "interpolation": "bilinear"}
    axes.imshow(probability, extent=extent, origin="lower", **options)
    if probability.min() < 0.5 < probability.max():
        axes.contour(
            probability, levels=[0.5], colors=INK, linewidths=2, extent=extent, origin=None
        )
    lines = neuron_lines(network.params["dense_1"])
    for line in lines if 1 < len(lines) <= 4 else ():
        _draw_line(axes, line, color=INK, linestyle="--", linewidth=1, label="a hidden neuron")
    _draw_points(axes, *cloud, size, markeredgecolor="white", markeredgewidth=0.4)
    _set_square(axes, SPAN, [-2, 0, 2])


def _draw_points(axes: Axes, points, labels, size: float, **style) -> None:
    for label, (colour, marker) in enumerate(CLASSES):
        here = points[labels == label].T
        axes.plot(*here, marker, color=colour, markersize=size, label=f"class {label}", **style)


def _set_square(axes: Axes, span: float, ticks: list[float]) -> None:
    axes.set(xlim=(-span, span), ylim=(-span, span), aspect="equal", xticks=ticks, yticks=ticks)
    axes.tick_params(labelsize=SMALL)


def _draw_line(axes: Axes, line: Line, **style) -> None:
    """Draw the line w·x + c = 0. It does not exist if w is 0."""
    weights, constant = line[:2], line[2]
    if np.any(weights):
        foot = -constant * weights / np.sum(weights**2)
        axes.axline(foot, foot + np.array([-weights[1], weights[0]]), **style)
