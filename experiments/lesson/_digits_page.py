"""The sections on several classes of the page of the lesson on classification."""

import numpy as np
from _tumours_page import right_table
from jaxtyping import Float

from fidle_jax.data.tables import DataTable
from fidle_jax.lessons.classification import (
    LINEAR,
    NETWORK,
    Comparison,
    softmax,
    taken_for,
    telling_examples,
)
from fidle_jax.report.confusion import confusion_matrix
from fidle_jax.report.lesson import Section, Table, picture
from fidle_jax.report.lessons import classification as figures
from fidle_jax.report.scores import commonest_confusions, confusion_counts


def several_classes(
    table: DataTable, compared: Comparison, right: dict[str, Float[np.ndarray, " split"]]
) -> Section:
    """The digits, how many are told right, and the probabilities of some."""
    found = compared.trials[NETWORK]
    chances = softmax(found.outputs)
    shown = telling_examples(compared.labels, chances, each=2)
    images = table.features[compared.parts.test].reshape(-1, 8, 8)
    return Section(
        "Several classes: which digit is it?",
        text=(
            f"{len(table.targets):,} handwritten digits of 8x8 pixels, as rows of 64 numbers. All have one "
            "unit, so that they are divided by its largest, 16, and not standardised. Ten logits, one a "
            "class; their softmax is ten probabilities of sum 1. The cross-entropy is the logarithm of the "
            f"true class's, negated; it is least after epoch {found.best_epoch}. With {LINEAR} it is a "
            "softmax regression. The same writers stand in all parts, which is easier than new ones."
        ),
        shown=[
            right_table(f"{len(compared.labels)} test digits", right, len(compared.labels)),
            picture(
                "digits",
                "Probabilities of six test digits",
                "Blue: the true class; orange, hatched: what a digit is wrongly taken for. Top: the true "
                "class has the least probability of all; middle: the most doubtful of the others; bottom: "
                "the surest. A network may be sure and wrong.",
                figures.probabilities_of(
                    images[shown], chances[shown], compared.labels[shown], table.class_names
                ),
            ),
        ],
    )


def confusions(table: DataTable, compared: list[Comparison]) -> Section:
    """Which digits are taken for which, on the first split and, by the table, on all."""
    names = list(table.class_names)
    counts = [
        confusion_counts(each.labels, taken_for(each.trials[NETWORK].outputs), len(names))
        for each in compared
    ]
    often = commonest_confusions(sum(counts), 5)
    tested = sum(len(each.labels) for each in compared)
    return Section(
        "Which are confused?",
        shown=[
            picture(
                "confusion",
                "Confusion matrix of the digits",
                "Rows: what a digit is; columns: what it is taken for. Mistakes are orange. They are too few "
                f"to tell much: the table below has those of all {len(compared)} splits, {tested:,} times "
                "a test digit.",
                confusion_matrix(counts[0], names),
            ),
            Table(
                ["the digit", "taken for", f"times, {len(compared)} splits"],
                [[names[i], names[j], str(count)] for i, j, count in often],
            ),
        ],
    )
