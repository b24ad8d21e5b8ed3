"""The sections on two classes of the page of the lesson on classification, and on how sure all is."""

import numpy as np
from jaxtyping import Float

from fidle_jax.data.tables import DataTable
from fidle_jax.lessons.classification import (
    COMMONEST,
    LINEAR,
    NETWORK,
    Comparison,
    Decisions,
    Ranking,
    cheapest_threshold,
    decide,
    sigmoid,
    standard_error,
)
from fidle_jax.report.lesson import Section, Table, picture
from fidle_jax.report.lessons import classification as figures
from fidle_jax.report.lessons.regression import training_curves

COST = 10  # false alarms that a missed malignant tumour is taken to be worth


def percent(share: float, examples: int) -> str:
    """A share counted on so many examples, with its standard error."""
    return f"{100 * share:.1f} ± {100 * standard_error(share, examples):.1f} %"


def two_classes(
    table: DataTable, compared: Comparison, right: dict[str, Float[np.ndarray, " split"]]
) -> Section:
    """The table of tumours, training, and how many are told right."""
    parts, tested, found = compared.parts, len(compared.labels), compared.trials[NETWORK]
    benign, malignant = np.bincount(table.targets)
    panels = {
        "binary cross-entropy": (found.history["loss"], found.history["validation_loss"]),
        "share told right": (found.history["score"], found.history["validation_score"]),
    }
    return Section(
        "Two classes: is a tumour malignant?",
        text=(
            f"{len(table.targets)} tumours of the breast, {malignant} of them malignant (1, the positive "
            f"class) and {benign} benign (0), each described by {len(table.feature_names)} measures of its "
            f"cells' nuclei. {len(parts.train)} are there to train on, {len(parts.validation)} to choose "
            f"the epoch by, {tested} to test with, once; each part has the same share of malignant ones. "
            "Columns are standardised by the training part alone.\n\n"
            "The network has 64 hidden neurons with ReLU and one logit, whose sigmoid is the probability of "
            f"malignant. With {LINEAR} it is a logistic regression. A model that always says benign is "
            f"right in {100 * right[COMMONEST][0]:.0f} % of the cases and of no use: to be right often is "
            "not enough."
        ),
        shown=[
            picture(
                "tumours_curves",
                "Cross-entropy and accuracy by epoch, tumours",
                f"The weights of epoch {found.best_epoch}, with the least validation loss, are tested. Where "
                "validation loss rises and the share told right does not fall, mistakes grow surer.",
                training_curves(panels, found.best_epoch),
            ),
            right_table(f"{tested} test tumours", right, tested),
        ],
    )


def right_table(head: str, right: dict[str, Float[np.ndarray, " split"]], tested: int) -> Table:
    """By model what is told right of the first split's test part."""
    # The parts hold the classes in the same shares: what says always the same is no matter of chance.
    rows = [
        [name, f"{100 * each[0]:.1f} %" if name == COMMONEST else percent(each[0], tested)]
        for name, each in right.items()
    ]
    return Table([head, "told right"], rows)


def all_thresholds(decided: Decisions, ranked: dict[str, Ranking]) -> Section:
    """The ROC curve, and precision against recall; ``decided`` at threshold 0.5."""
    benign = decided.false_positives + decided.true_negatives
    marks = (
        (decided.false_positives / benign, decided.recall()),
        (decided.recall(), decided.precision()),
    )
    roc = {
        f"{name}, AUC {each.auc:.3f}": (each.false_positive_rate, each.true_positive_rate)
        for name, each in ranked.items()
    }
    precision = {
        f"{name}, AP {each.average_precision:.3f}": (each.recall, each.precision)
        for name, each in ranked.items()
    }
    return Section(
        "All thresholds at once",
        text=(
            "Recall is the share of malignant tumours that are found, precision the share of alarms that "
            "are right. A lower threshold finds more and raises more false alarms. The ROC curve shows "
            "all thresholds; the area under it (AUC) is how often a malignant tumour has a higher logit "
            "than a benign one. Average precision (AP), the area under the other curve, is the stricter "
            "one where positives are rare."
        ),
        shown=[
            picture(
                "roc",
                "ROC curve and precision against recall",
                "Left: the ROC curve, best at the upper left. Right: precision against recall, best at the "
                f"upper right. The dot is the network at threshold 0.5: recall {decided.recall():.3f}, "
                f"precision {decided.precision():.3f}.",
                figures.roc_and_precision(roc, precision, marks),
            )
        ],
    )


def one_threshold(table: DataTable, compared: list[Comparison], network: Ranking) -> Section:
    """What another threshold than 0.5 does, where a miss costs more than a false alarm."""
    low = cheapest_threshold(COST)
    rows, counts = [], {}
    for threshold in (0.5, low):
        found = [
            decide(each.labels, sigmoid(each.trials[NETWORK].outputs[:, 0]), threshold)
            for each in compared
        ]
        missed = np.array([each.false_negatives for each in found])
        alarms = np.array([each.false_positives for each in found])
        spread = [_spread(each) for each in (missed, alarms, COST * missed + alarms)]
        counts[f"threshold {threshold:.2g}"] = found[0].table()
        rows.append([f"{threshold:.2g}", str(missed[0]), str(alarms[0]), *spread])
    marked = {"threshold 0.5": 0.5, f"{low:.2g}: a miss costs {COST} alarms": low}
    splits = f"{len(compared)} splits"
    head = ["threshold", "missed", "false alarms"]
    over = [f"missed, {splits}", f"alarms, {splits}", f"{COST} · missed + alarms"]
    return Section(
        "One threshold: what does a mistake cost?",
        text=(
            "A malignant tumour called benign goes untreated; a benign one called malignant is examined "
            f"again. Say that the first costs {COST} times as much. If the probabilities were true, an "
            f"alarm would be the cheaper from 1 / (1 + {COST}) = {low:.2g} on. This threshold comes from "
            "the costs alone; one that is chosen on the test part would look better there than it is. "
            f"After ± in the table: the standard deviation over {splits} of the table."
        ),
        shown=[
            picture(
                "thresholds",
                "Precision and recall against the threshold",
                "The axis is even in log-odds. To the left, more malignant tumours are found (recall) and "
                "fewer alarms are right (precision).",
                figures.by_threshold(
                    sigmoid(network.thresholds), network.precision, network.recall, marked
                ),
            ),
            picture(
                "decisions",
                "Confusion matrices of both thresholds",
                "Orange: mistakes. Lower left: malignant ones that are missed; upper right: false alarms.",
                figures.two_by_two(counts, table.class_names),
            ),
            Table(head + over, rows),
        ],
    )


def other_splits(right: dict[str, dict[str, Float[np.ndarray, " split"]]]) -> Section:
    """Both tables on other splits: mean and spread."""
    rows = []
    for table, found in right.items():
        for name, each in found.items():
            values = each.mean(), each.std(ddof=1), each.min(), each.max()
            rows.append([f"{table}: {name}", *(f"{100 * x:.1f} %" for x in values)])
    gains = " and ".join(
        f"{_spread(100 * (found[NETWORK] - found[LINEAR]), '+')} points on {table}"
        for table, found in right.items()
    )
    splits = len(right["tumours"][NETWORK])
    return Section(
        "How sure is that?",
        text=(
            "After ± above stands the standard error of a share p of n examples, the root of p (1 − p) / n: "
            f"about what another test part of this size would change. Below all is done again: {splits} "
            "splits, with initial weights of their own. On the same split the hidden layer adds "
            f"{gains}, mean and standard deviation. The splits share rows: they are no independent "
            "experiments."
        ),
        shown=[Table(["told right", "mean", "standard deviation", "least", "most"], rows)],
    )


def _spread(values: Float[np.ndarray, " split"], sign: str = "") -> str:
    return f"{values.mean():{sign}.1f} ± {values.std(ddof=1):.1f}"
