"""Classes from rows of numbers: tumours benign or malignant by a sigmoid, and ten digits by a softmax."""

import dataclasses
from typing import TYPE_CHECKING

from _lesson import Flags, Lesson, check_range, main

if TYPE_CHECKING:
    from fidle_jax.data.tables import DataTable
    from fidle_jax.lessons.classification import Comparison
    from fidle_jax.train.objectives import Objective

SPLITS, QUICK_SPLITS, QUICK_EPOCHS = 10, 3, 15
# At the network's learning rate a linear model does not come to its end within the epochs.
LINEAR_FASTER = 10


@dataclasses.dataclass(frozen=True)
class Classification(Flags):
    """How long is learned."""

    epochs: int = 40
    """Times that each row is seen."""
    learning_rate: float = 0.002
    """Of Adam; models without a hidden layer take ten times as much."""
    batch_size: int = 16
    """Rows a step."""
    seed: int = 0
    """Of the splits, the initial weights and the order of the rows."""
    quick: bool = False
    """A smaller budget, for a first look."""


def teach(flags: Classification) -> Lesson:
    """The lesson; raises InputError where a flag is out of its range."""
    check_range("epochs", flags.epochs, 1, 1000)
    check_range("learning-rate", flags.learning_rate, 1e-5, 0.1)
    check_range("batch-size", flags.batch_size, 1, 128)
    check_range("seed", flags.seed, 0, 999_999)
    import _digits_page
    import _tumours_page
    from _tumours_page import percent

    from fidle_jax.data.tables import load_table
    from fidle_jax.lessons.classification import NETWORK, decide, ranking, shares_right, sigmoid
    from fidle_jax.train.objectives import BINARY, CLASSES

    cancer, digits = load_table("cancer"), load_table("digits")
    binary = _compared(cancer, flags, BINARY, outputs=1)
    several = _compared(digits, flags, CLASSES, outputs=10, divisor=16)
    labels, trials = binary[0].labels, binary[0].trials
    ranked = {name: ranking(labels, found.outputs[:, 0]) for name, found in trials.items()}
    decided = decide(labels, sigmoid(trials[NETWORK].outputs[:, 0]))
    right = {"tumours": shares_right(binary), "digits": shares_right(several)}
    return Lesson(
        title="Classification: two classes, and ten",
        summary=(
            "Of two classes one logit tells the probability, by a sigmoid; of several as many logits do, by "
            "a softmax. A probability is no decision yet: where its threshold lies depends on what a "
            "mistake costs. Here malignant is the positive class, that which is to be found."
        ),
        facts={
            "tumours told right": percent(right["tumours"][NETWORK][0], len(labels)),
            "malignant ones missed": f"{decided.false_negatives} of {labels.sum()}",
            "area under the ROC curve": f"{ranked[NETWORK].auc:.3f}",
            "digits told right": percent(right["digits"][NETWORK][0], len(several[0].labels)),
        },
        sections=[
            _tumours_page.two_classes(cancer, binary[0], right["tumours"]),
            _tumours_page.all_thresholds(decided, ranked),
            _tumours_page.one_threshold(cancer, binary, ranked[NETWORK]),
            _digits_page.several_classes(digits, several[0], right["digits"]),
            _digits_page.confusions(digits, several),
            _tumours_page.other_splits(right),
        ],
        numbers={
            "accuracy_by_split": {
                table: {name: each.tolist() for name, each in found.items()}
                for table, found in right.items()
            },
            "auc": {name: each.auc for name, each in ranked.items()},
            "average_precision": {name: each.average_precision for name, each in ranked.items()},
            "decisions": decided._asdict(),
        },
    )


def _compared(
    table: "DataTable",
    flags: Classification,
    objective: "Objective",
    outputs: int,
    divisor: float | None = None,
) -> "list[Comparison]":
    """Of the flags' split first, then of others."""
    import optax

    from fidle_jax.lessons.classification import LINEAR, NETWORK, compare
    from fidle_jax.nn import DNN
    from fidle_jax.train.step import Task

    rate = flags.learning_rate
    models = {NETWORK: ((64,), rate), LINEAR: ((), LINEAR_FASTER * rate)}
    tasks = {
        name: Task(DNN(classes=outputs, hidden=hidden), optax.adam(rate), objective=objective)
        for name, (hidden, rate) in models.items()
    }
    epochs = min(flags.epochs, QUICK_EPOCHS) if flags.quick else flags.epochs
    how = {"epochs": epochs, "batch_size": flags.batch_size, "divisor": divisor}
    seeds = range(flags.seed, flags.seed + (QUICK_SPLITS if flags.quick else SPLITS))
    return [compare(table, tasks, seed=seed, **how) for seed in seeds]


if __name__ == "__main__":
    main("classification", __doc__, Classification(), teach)
