"""A dense network tells a number from a row of a table: fuel use of cars, or how an illness goes on."""

import dataclasses
from typing import TYPE_CHECKING

from _lesson import Flags, Lesson, check_range, main

from fidle_jax.errors import check_name

if TYPE_CHECKING:
    from fidle_jax.data.tables import DataTable
    from fidle_jax.lessons.regression import Comparison

SPLITS, QUICK_SPLITS, QUICK_EPOCHS = 10, 3, 60
# At the network's learning rate a linear model does not come to its end within the epochs.
LINEAR_FASTER = 10


@dataclasses.dataclass(frozen=True)
class Regression(Flags):
    """What is learned, and how long."""

    table: str = "autompg"
    """autompg: fuel economy of cars; diabetes: how an illness goes on within a year."""
    epochs: int = 150
    """Times that each row is seen."""
    learning_rate: float = 0.001
    """Of Adam; the linear model takes ten times as much."""
    batch_size: int = 16
    """Rows a step."""
    seed: int = 0
    """Of the split, the initial weights and the order of the rows."""
    quick: bool = False
    """A smaller budget, for a first look."""


def teach(flags: Regression) -> Lesson:
    """The lesson; raises InputError where a flag is out of its range."""
    check_name("table", flags.table, ("autompg", "diabetes"))
    check_range("epochs", flags.epochs, 1, 1000)
    check_range("learning-rate", flags.learning_rate, 1e-5, 0.1)
    check_range("batch-size", flags.batch_size, 1, 128)
    check_range("seed", flags.seed, 0, 999_999)
    import _regression_page as page
    import numpy as np

    from fidle_jax.data.tables import load_table
    from fidle_jax.lessons.regression import LINEAR, MEAN, NETWORK, scores

    table = load_table(flags.table)
    compared = _compared(table, flags)
    by_split = {
        name: [scores(each.true, each.predicted[name]) for each in compared]
        for name in compared[0].predicted
    }
    first = {name: each[0] for name, each in by_split.items()}
    errors = {name: np.array([each.mae for each in found]) for name, found in by_split.items()}
    better = int((errors[NETWORK] < errors[LINEAR]).sum())
    told, unit = first[NETWORK], table.unit
    return Lesson(
        title=f"Regression: {table.target_name}",
        summary=(
            "A dense network with no activation at its end tells a number from the "
            f"{table.features.shape[1]} numbers of a row. It is fitted by the mean squared error, read "
            "by the mean absolute error, and held against two simpler models that it has to beat."
        ),
        facts={
            "mean absolute error, test": f"{told.mae:.2f} ± {told.standard_error:.2f} {unit}",
            "of a linear model": f"{first[LINEAR].mae:.2f} {unit}",
            "of predicting the mean": f"{first[MEAN].mae:.2f} {unit}",
            "network better than linear": f"in {better} of {len(compared)} splits",
        },
        sections=[
            page.the_table(table, compared[0]),
            page.learning(compared[0], unit),
            page.the_test(table, compared[0], first),
            page.raw_features(compared[0], errors, unit),
            page.other_splits(errors, unit),
        ],
        numbers={
            "rows": len(table.targets),
            "test": {name: each._asdict() for name, each in first.items()},
            "best_epoch": compared[0].trials[NETWORK].best_epoch,
            "mae_by_split": {name: each.tolist() for name, each in errors.items()},
        },
    )


def _compared(table: "DataTable", flags: Regression) -> "list[Comparison]":
    """Of the flags' split first, then of others."""
    import optax

    from fidle_jax.lessons.regression import compare
    from fidle_jax.nn import DNN
    from fidle_jax.train.objectives import NUMBERS
    from fidle_jax.train.step import Task

    linear, network = (
        Task(DNN(classes=1, hidden=hidden), optax.adam(rate), objective=NUMBERS)
        for hidden, rate in (
            ((), LINEAR_FASTER * flags.learning_rate),
            ((64, 64), flags.learning_rate),
        )
    )
    epochs = min(flags.epochs, QUICK_EPOCHS) if flags.quick else flags.epochs
    how = {"epochs": epochs, "batch_size": flags.batch_size}
    seeds = range(flags.seed, flags.seed + (QUICK_SPLITS if flags.quick else SPLITS))
    return [compare(table, linear, network, seed=seed, **how) for seed in seeds]


if __name__ == "__main__":
    main("regression", __doc__, Regression(), teach)
