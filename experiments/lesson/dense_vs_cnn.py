"""Handwritten digits by a dense and a convolutional network of equal size: what a convolution buys."""

import dataclasses
from pathlib import Path
from typing import Any

from _lesson import Flags, Lesson, check_range, main

MOST_SHIFT = 6
SHOWN_SHIFTS = (0, 2, 4, 6)
SHOWN_DIGITS = 4


@dataclasses.dataclass(frozen=True)
class DenseVsCNN(Flags):
    """What is trained on."""

    data: str = "sample"
    """sample: the embedded digits; full: all of MNIST; auto: full if it is prepared or can be had."""
    archives: Path | None = None
    """Folder of the official archive files, for machines without network (or FIDLE_JAX_ARCHIVES)."""
    data_dir: Path | None = None
    """Where prepared data lives (default: that of TFDS, ~/tensorflow_datasets)."""
    steps: int = 400
    """Training steps of 128 digits, as many for each training size."""
    seeds: int = 3
    """Networks of each kind and size, with the seeds 0, 1, ..."""
    quick: bool = False
    """A smaller budget, for a first look: one seed, 100 steps."""


def teach(flags: DenseVsCNN) -> Lesson:
    """The lesson; raises InputError where a flag is wrong or the data cannot be had."""
    check_range("steps", flags.steps, 1, 100_000)
    check_range("seeds", flags.seeds, 1, 100)
    from fidle_jax.data import load_dataset
    from fidle_jax.lessons.equal_networks import training_sizes

    steps, seeds = (100, 1) if flags.quick else (flags.steps, flags.seeds)
    dataset = load_dataset(
        "mnist", data=flags.data, archives=flags.archives, data_dir=flags.data_dir
    )
    train, test = dataset.read("train"), dataset.read("test")
    found = _measure(train, test, training_sizes(len(train.labels)), steps, seeds)
    return _lesson(found, len(test.labels), steps, seeds)


def _measure(train, test, sizes: list[int], steps: int, seeds: int) -> dict[str, Any]:
    """Of each network the parameters, the accuracies by size and by shift, and answers to shifted digits."""
    import numpy as np

    from fidle_jax.data import Split
    from fidle_jax.lessons.equal_networks import NETWORKS, accuracies_by_shift, answers, learn
    from fidle_jax.lessons.equal_networks import accuracy as accuracy_of
    from fidle_jax.lessons.shifts import DIRECTIONS, shifted
    from fidle_jax.nn import layer_table

    moved = [
        [
            Split(shifted(test.images, down * shift, right * shift), test.labels)
            for down, right in DIRECTIONS.values()
        ]
        for shift in range(MOST_SHIFT + 1)
    ]
    right = list(DIRECTIONS).index("right")
    digits = [int(np.flatnonzero(test.labels == k)[0]) for k in (2, 3, 7, 9)[:SHOWN_DIGITS]]
    shown = np.stack([moved[shift][right].images[digits] for shift in SHOWN_SHIFTS], axis=1)
    found: dict[str, Any] = {"sizes": sizes, "shown": shown[..., 0], "labels": test.labels[digits]}
    for part in ("parameters", "by_size", "by_shift", "answers"):
        found[part] = {}
    for name, model in NETWORKS.items():
        rows = layer_table(model, test.images.shape[1:])
        found["parameters"][name] = sum(row.parameters for row in rows)
        by_size, by_shift = np.zeros((len(sizes), seeds)), np.zeros((MOST_SHIFT + 1, seeds))
        for seed in range(seeds):
            for place, size in enumerate(sizes):
                variables = learn(name, train, size, steps, seed)
                by_size[place, seed] = accuracy_of(name, variables, test)
            by_shift[:, seed] = accuracies_by_shift(name, variables, moved)
        found["by_size"][name], found["by_shift"][name] = by_size, by_shift
        flat = shown.reshape(-1, *shown.shape[2:])
        found["answers"][name] = answers(name, variables, flat).reshape(shown.shape[:2])
    return found


def _lesson(found: dict[str, Any], tests: int, steps: int, seeds: int) -> Lesson:
    import numpy as np

    from fidle_jax.report.lesson import Section, Table, picture
    from fidle_jax.report.lessons import dense_vs_cnn as figures

    sizes, parameters = found["sizes"], found["parameters"]
    by_size, by_shift = found["by_size"], found["by_shift"]
    names = list(by_size)
    each = f"{steps:,} steps, {seeds} seed{'s' if seeds > 1 else ''}, {tests:,} test digits"
    return Lesson(
        title="What a convolution buys",
        summary=(
            f"Two networks with the same number of weights, to a tenth of a percent, learn the same "
            f"handwritten digits ({each}). A dense layer has a weight of its own for each pixel; a "
            "convolution looks for the same small pattern everywhere."
        ),
        facts={f"parameters, {name}": f"{parameters[name]:,}" for name in names}
        | {f"of {sizes[-1]:,} digits, {name}": _percent(by_size[name][-1]) for name in names}
        | {f"moved by 3 pixels, {name}": _percent(by_shift[name][3]) for name in names},
        sections=[
            Section(
                "From few digits and from many",
                shown=[
                    picture(
                        "by_training_size",
                        "Test accuracy by the number of training digits",
                        "Test accuracy by how many digits the networks learned from, in as many steps "
                        "each; the bars reach from the lowest to the highest seed. The convolutional "
                        "network needs fewer digits for the same accuracy.",
                        figures.by_training_size(np.array(sizes), by_size),
                    ),
                    Table(
                        ["training digits", *names],
                        [
                            [f"{size:,}", *(_spread(by_size[name][place]) for name in names)]
                            for place, size in enumerate(sizes)
                        ],
                    ),
                ],
            ),
            Section(
                "Digits that have moved",
                text=(
                    "Neither has ever seen a digit that was not centred. The same two networks, trained "
                    "on all digits, are asked about test digits moved up, down, left and right."
                ),
                shown=[
                    picture(
                        "by_shift",
                        "Test accuracy by how far the digits were moved",
                        "Mean over the four directions. A pattern that moves is still found by the "
                        "convolution, and pooling forgives it a pixel or two; the dense layers at the end "
                        "know its place, so that in the end both fail.",
                        figures.by_shift(by_shift),
                    ),
                    picture(
                        "shifted_digits",
                        "Test digits moved to the right, and what the networks say",
                        "Four test digits moved to the right, and below each what the two networks of the "
                        "last seed take it for: blue is right, bold orange is wrong.",
                        figures.shifted_digits(
                            found["shown"],
                            found["labels"],
                            found["answers"],
                            np.array(SHOWN_SHIFTS),
                        ),
                    ),
                    Table(
                        ["shift, pixels", *names],
                        [
                            [str(shift), *(_spread(by_shift[name][shift]) for name in names)]
                            for shift in range(MOST_SHIFT + 1)
                        ],
                    ),
                ],
            ),
        ],
        numbers={
            "training_digits": sizes,
            "parameters": parameters,
            "test_accuracy": {name: values.tolist() for name, values in by_size.items()},
            "test_accuracy_by_shift": {name: values.tolist() for name, values in by_shift.items()},
        },
    )


def _percent(accuracies) -> str:
    return f"{100 * accuracies.mean():.1f} %"


def _spread(accuracies) -> str:
    if len(accuracies) == 1:
        return _percent(accuracies)
    return f"{100 * accuracies.mean():.1f} ± {100 * accuracies.std(ddof=1):.1f} %"


if __name__ == "__main__":
    main("dense_vs_cnn", __doc__, DenseVsCNN(), teach)
