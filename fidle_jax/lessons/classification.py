"""Classes told from the rows of a table: what thresholds do, and how sure one may be of a small test part."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from fidle_jax.data.tables import DataTable, Parts, three_parts
from fidle_jax.lessons.standardise import scale_of, standardise
from fidle_jax.lessons.trial import Trial, trial
from fidle_jax.train.step import Task

NETWORK, LINEAR, COMMONEST = "network", "no hidden layer", "always the commonest"


class Comparison(NamedTuple):
    """Several models on one split.

    Attributes:
        parts: the split.
        labels: of the test part.
        commonest: the class that training has most of.
        trials: by model.
    """

    parts: Parts
    labels: Int[np.ndarray, " test"]
    commonest: int
    trials: dict[str, Trial]


class Decisions(NamedTuple):
    """Examples counted by what they are and what they are taken for; "positive" is class 1."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    def precision(self) -> float:
        """Share of those taken for positive that are; NaN where there are none."""
        return _share(self.true_positives, self.true_positives + self.false_positives)

    def recall(self) -> float:
        """Share of the positive that are found; NaN where there are none."""
        return _share(self.true_positives, self.true_positives + self.false_negatives)

    def table(self) -> Int[np.ndarray, "2 2"]:
        """The row is the true class, the column what was decided."""
        return np.array(
            [
                [self.true_negatives, self.false_positives],
                [self.false_negatives, self.true_positives],
            ]
        )


class Ranking(NamedTuple):
    """How well outputs sort the positive before the negative, whatever the threshold.

    Attributes:
        false_positive_rate: of each threshold, from the highest on: the axes of the ROC curve.
        true_positive_rate: the same.
        auc: the area below it: how often a positive example is above a negative one.
        precision: of each threshold from the lowest on, and after the last 1.
        recall: the same, and after the last 0.
        thresholds: of these two, as outputs: logits where outputs are logits.
        average_precision: the precision where each positive example is found, on average.
    """

    false_positive_rate: Float[np.ndarray, " point"]
    true_positive_rate: Float[np.ndarray, " point"]
    auc: float
    precision: Float[np.ndarray, " place"]
    recall: Float[np.ndarray, " place"]
    thresholds: Float[np.ndarray, " threshold"]
    average_precision: float


def compare(
    table: DataTable,
    tasks: dict[str, Task],
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    divisor: float | None = None,
) -> Comparison:
    """Each task's network on the split of ``seed``.

    Features are divided by ``divisor``, for those that have one unit, or else standardised by the
    training part.
    """
    parts = three_parts(table, seed)
    if divisor is None:
        features = standardise(table.features, scale_of(table.features[parts.train]))
    else:
        features = table.features / np.float32(divisor)
    how = {"epochs": epochs, "batch_size": batch_size, "seed": seed}
    trials = {
        name: trial(task, features, table.targets, parts, **how) for name, task in tasks.items()
    }
    commonest = int(np.bincount(table.targets[parts.train]).argmax())
    return Comparison(parts, table.targets[parts.test], commonest, trials)


def sigmoid(logits: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Probabilities of class 1, in double precision: none is rounded to 0 or 1 that need not be."""
    from scipy.special import expit

    return expit(np.asarray(logits, np.float64))


def softmax(logits: Float[np.ndarray, "example class"]) -> Float[np.ndarray, "example class"]:
    """Probabilities of the classes, in double precision."""
    from scipy.special import softmax

    return softmax(np.asarray(logits, np.float64), axis=1)


def taken_for(outputs: Float[np.ndarray, "example output"]) -> Int[np.ndarray, " example"]:
    """The class of each example: of one logit 1 where it is above 0, of several the highest's."""
    if outputs.shape[1] == 1:
        return (outputs[:, 0] > 0).astype(int)
    return outputs.argmax(axis=1)


def shares_right(compared: list[Comparison]) -> dict[str, Float[np.ndarray, " split"]]:
    """By model the share of each split's test part that is classified right; first `COMMONEST`'s."""
    right = {COMMONEST: [(each.labels == each.commonest).mean() for each in compared]}
    for name in compared[0].trials:
        right[name] = [
            (taken_for(each.trials[name].outputs) == each.labels).mean() for each in compared
        ]
    return {name: np.array(each) for name, each in right.items()}


def telling_examples(
    labels: Int[np.ndarray, " example"],
    probabilities: Float[np.ndarray, "example class"],
    each: int,
) -> Int[np.ndarray, " place"]:
    """Places of ``each`` of three kinds, no example twice.

    First those whose true class has the least probability, then of the others those whose likeliest
    class has the least, last those whose likeliest has the most.
    """
    of_true = probabilities[np.arange(len(labels)), labels]
    missed = np.argsort(of_true, kind="stable")[:each]
    surest = np.argsort(probabilities.max(axis=1), kind="stable")
    surest = surest[~np.isin(surest, missed)]
    return np.concatenate([missed, surest[:each], surest[each:][-each:]])


def decide(
    labels: Int[np.ndarray, " example"],
    probabilities: Float[np.ndarray, " example"],
    threshold: float = 0.5,
) -> Decisions:
    """The counts where what is above ``threshold`` is taken for positive."""
    taken, positive = probabilities > threshold, labels > 0
    return Decisions(
        true_positives=int((taken & positive).sum()),
        false_positives=int((taken & ~positive).sum()),
        false_negatives=int((~taken & positive).sum()),
        true_negatives=int((~taken & ~positive).sum()),
    )


def cheapest_threshold(cost: float) -> float:
    """Where a missed positive costs as much as ``cost`` false alarms, and probabilities are true.

    To call an example of probability p positive costs 1 - p on average, to call it negative p · cost;
    the two are equal at p = 1 / (1 + cost).
    """
    return 1 / (1 + cost)


def ranking(labels: Int[np.ndarray, " example"], outputs: Float[np.ndarray, " example"]) -> Ranking:
    """The curves of all thresholds; there must be examples of both classes."""
    from sklearn import metrics

    false_positive_rate, true_positive_rate, _ = metrics.roc_curve(labels, outputs)
    precision, recall, thresholds = metrics.precision_recall_curve(labels, outputs)
    return Ranking(
        false_positive_rate,
        true_positive_rate,
        float(metrics.roc_auc_score(labels, outputs)),
        precision,
        recall,
        thresholds,
        float(metrics.average_precision_score(labels, outputs)),
    )


def standard_error(share: float, examples: int) -> float:
    """Of a share that was counted on so many independent examples: that of the binomial distribution."""
    return (share * (1 - share) / examples) ** 0.5


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
