"""Lesson: a dense and a convolutional network with nearly the same number of parameters on digits."""

from collections.abc import Sequence

import jax
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Float, Int, PyTree, UInt8
from matplotlib.figure import Figure
from scipy import ndimage

from fidle_jax.data import Split, load_dataset, stratified_split
from fidle_jax.lessons.figures import MARKERS, STYLES
from fidle_jax.lessons.flags import DenseVsCNN
from fidle_jax.lessons.page import Lesson
from fidle_jax.nn import CNN, DNN, layer_table
from fidle_jax.report.pictures import draw_gallery
from fidle_jax.report.style import TEXT, finish, new_figure
from fidle_jax.train.evaluation import predict
from fidle_jax.train.fit import fit
from fidle_jax.train.step import Task

BATCH_SIZE = 128
# The course's CNN with 42,358 parameters, and its dense network, narrowed to 42,310 parameters.
NETWORKS: dict[str, nn.Module] = {"DNN": DNN(hidden=(50, 50)), "CNN": CNN()}
TASKS = {name: Task(model, optax.adam(1e-3)) for name, model in NETWORKS.items()}
DIRECTIONS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}  # rows, columns
SHIFTS = range(7)
SHOWN_DIGITS, SHOWN_SHIFTS = (2, 3, 7, 9), (0, 2, 4, 6)

_predict = jax.jit(predict, static_argnames="model")


def training_sizes(examples: int) -> list[int]:
    """Return 100, 300, 1,000, ... up to half of all examples, and all of them."""
    sizes = [digit * 10**power for power in range(2, 9) for digit in (1, 3)]
    return [size for size in sizes if 2 * size <= examples] + [examples]


def shift_images(
    images: UInt8[np.ndarray, "example height width channel"], down: int, right: int
) -> UInt8[np.ndarray, "example height width channel"]:
    """Shift images by whole pixels and fill with zeros."""
    return ndimage.shift(images, (0, down, right, 0), order=0)


def train_network(name: str, train: Split, size: int, steps: int, seed: int) -> PyTree:
    """Train a network of `NETWORKS` on a stratified subset of ``size`` digits. Return its variables.

    The subset is repeated to the size of the whole set. All sizes then need the same number of steps and
    the same compiled function. Training ends after the epoch in which ``steps`` is reached.
    """
    examples = len(train.labels)
    rows = np.arange(examples)
    if size < examples:
        _, rows = stratified_split(train.labels, size / examples, seed)
    rows = np.resize(rows, examples)
    fitted = fit(
        TASKS[name],
        (train.images[rows], train.labels[rows]),
        epochs=-(-steps // -(-examples // BATCH_SIZE)),
        batch_size=BATCH_SIZE,
        seed=seed,
    )
    return fitted.state.variables()


def predicted_classes(
    name: str, variables: PyTree, images: UInt8[np.ndarray, "example height width channel"]
) -> Int[np.ndarray, " example"]:
    """Return the class of each image, predicted by a network of `NETWORKS`."""
    return np.asarray(_predict(NETWORKS[name], variables, images).argmax(-1))


def mean_accuracy(name: str, variables: PyTree, splits: list[Split]) -> float:
    """Return the mean accuracy over several splits."""
    is_correct = [predicted_classes(name, variables, each.images) == each.labels for each in splits]
    return float(np.mean([each.mean() for each in is_correct]))


def teach(flags: DenseVsCNN) -> Lesson:
    """Create the lesson. Raise InputError if the data is not available."""
    steps, seeds = (100, 1) if flags.quick else (flags.steps, flags.seeds)
    dataset = load_dataset(
        "mnist", data=flags.data, archives=flags.archives, data_dir=flags.data_dir
    )
    train, test = dataset.read("train"), dataset.read("test")
    sizes = training_sizes(len(train.labels))
    shifted = [
        [
            Split(shift_images(test.images, down * shift, right * shift), test.labels)
            for down, right in DIRECTIONS.values()
        ]
        for shift in SHIFTS
    ]
    digits = [int(np.flatnonzero(test.labels == k)[0]) for k in SHOWN_DIGITS]
    shown = np.stack([shifted[shift][-1].images[digits] for shift in SHOWN_SHIFTS], axis=1)
    parameters = {
        name: sum(row.parameters for row in layer_table(model, test.images.shape[1:]))
        for name, model in NETWORKS.items()
    }
    by_size = {name: np.zeros((len(sizes), seeds)) for name in NETWORKS}
    by_shift = {name: np.zeros((len(SHIFTS), seeds)) for name in NETWORKS}
    predicted = {}
    for name in NETWORKS:
        for seed in range(seeds):
            for i, size in enumerate(sizes):
                variables = train_network(name, train, size, steps, seed)
                by_size[name][i, seed] = mean_accuracy(name, variables, [test])
            # The last network was trained on all digits.
            by_shift[name][:, seed] = [mean_accuracy(name, variables, each) for each in shifted]
        flat = shown.reshape(-1, *shown.shape[2:])
        predicted[name] = predicted_classes(name, variables, flat).reshape(shown.shape[:2])
    return Lesson(
        values={
            "size": sizes[-1],
            "of_all": {name: 100 * each[-1].mean() for name, each in by_size.items()},
            "shifted": {name: 100 * each[3].mean() for name, each in by_shift.items()},
            "steps": steps,
            "seeds": f"{seeds} seed{'s' if seeds > 1 else ''}",
            "tests": len(test.labels),
        },
        shown={
            "by_training_size": accuracies_figure(sizes, by_size, "training digits", log=True),
            "by_shift": accuracies_figure(SHIFTS, by_shift, "shift, pixels", log=False),
            "shifted_digits": digits_figure(shown, test.labels[digits], predicted),
        },
        numbers={
            "training_digits": sizes,
            "parameters": parameters,
            "test_accuracy": by_size,
            "test_accuracy_by_shift": by_shift,
        },
        cover="by_shift",
    )


def accuracies_figure(
    x: Sequence[int], accuracies: dict[str, Float[np.ndarray, "x seed"]], label: str, log: bool
) -> Figure:
    """Draw the mean test accuracy, with bars from the lowest to the highest accuracy over the seeds."""
    figure = new_figure(height=4.0)
    axes = figure.subplots()
    for (name, each), style, marker in zip(accuracies.items(), STYLES, MARKERS, strict=False):
        mean, low, high = (100 * f(axis=1) for f in (each.mean, each.min, each.max))
        reach = (mean - low, high - mean)
        axes.errorbar(x, mean, reach, marker=marker, capsize=4, lw=2, label=name, **style)
    axes.set_ylim(top=101)
    axes.legend(fontsize=TEXT, frameon=False)
    finish(axes, x=label, y="test accuracy, %")
    axes.set_xscale("log" if log else "linear")
    axes.set_xticks(x, [f"{each:,}" for each in x])
    axes.set_xticks([], minor=True)
    return figure


def digits_figure(
    images: UInt8[np.ndarray, "digit shift height width channel"],
    labels: Int[np.ndarray, " digit"],
    predicted: dict[str, Int[np.ndarray, "digit shift"]],
) -> Figure:
    """Draw a row of shifted images of each digit, with the predictions. Errors are framed."""
    digits, columns = images.shape[:2]
    wrong = {name: classes != labels[:, None] for name, classes in predicted.items()}
    answers = [
        [f"{name}: {predicted[name][at]}{' ✗' if wrong[name][at] else ''}" for name in predicted]
        for at in np.ndindex(digits, columns)
    ]
    framed = np.any(list(wrong.values()), axis=0).ravel()
    return draw_gallery(images.reshape(-1, *images.shape[2:]), answers, framed, columns=columns)
