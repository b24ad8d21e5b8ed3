"""Lesson: classify table rows, tumours with a sigmoid and digits with a softmax (Fidle, LOGR1)."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from scipy.special import expit, softmax
from sklearn import metrics

from fidle_jax.data.tables import DataTable, Parts, load_table, three_parts
from fidle_jax.lessons.figures import STYLES, mean_and_std, panels
from fidle_jax.lessons.flags import Classification
from fidle_jax.lessons.page import Lesson
from fidle_jax.lessons.tables import (
    Trial,
    curves_figure,
    network_and_linear,
    run_trial,
    seeds_of,
    spread_table,
    standardise,
)
from fidle_jax.report.confusion import draw_confusion_matrix
from fidle_jax.report.lesson import Table
from fidle_jax.report.pictures import worst_errors
from fidle_jax.report.style import GREEN, GREY, SMALL, finish
from fidle_jax.train.evaluation import BINARY, CLASSES
from fidle_jax.train.run_content import Evaluation
from fidle_jax.train.step import Task

NETWORK, LINEAR, COMMONEST = "network", "no hidden layer", "always the most frequent"
QUICK_EPOCHS = 15
SHOWN_DIGITS = 10
COST = 10  # false alarms that are as bad as one missed malignant tumour
# For probability p, an alarm costs 1 - p on average and no alarm costs p · COST. Here both are equal.
THRESHOLD = 1 / (1 + COST)


class Comparison(NamedTuple):
    """Results of all models on one split: labels and logits of the test rows."""

    parts: Parts
    labels: Int[np.ndarray, " test"]
    most_frequent: int
    trials: dict[str, Trial]

    def logits(self, name: str = NETWORK) -> Float[np.ndarray, "test output"]:
        """Return the logits of one model in double precision: fewer probabilities round to 0 or 1."""
        return self.trials[name].outputs.astype(np.float64)

    def predicted(self, name: str = NETWORK) -> Int[np.ndarray, " test"]:
        """Return the predicted classes. Class 1 of two is predicted if its logit is above 0."""
        logits = self.logits(name)
        return (logits[:, 0] > 0).astype(int) if logits.shape[1] == 1 else logits.argmax(axis=1)

    def areas(self) -> list[dict[str, float]]:
        """Return the area under the ROC curve of each model, and the average precision of each."""
        scores = metrics.roc_auc_score, metrics.average_precision_score
        outputs = {name: each.outputs[:, 0] for name, each in self.trials.items()}
        return [{k: score(self.labels, x) for k, x in outputs.items()} for score in scores]


def compare(
    table: DataTable, tasks: dict[str, Task], divisor: float | None = None, **options: int
) -> Comparison:
    """Train a network for each task, on the split of ``seed``.

    Features are divided by ``divisor``, or standardised by default. ``options`` are those of `run_trial`.
    """
    parts = three_parts(table, options["seed"])
    if divisor is None:
        features, _ = standardise(table.features, parts.train)
    else:
        features = table.features / np.float32(divisor)
    trials = {
        name: run_trial(task, features, table.targets, parts, **options)
        for name, task in tasks.items()
    }
    most_frequent = int(np.bincount(table.targets[parts.train]).argmax())
    return Comparison(parts, table.targets[parts.test], most_frequent, trials)


def accuracies(compared: list[Comparison]) -> dict[str, Float[np.ndarray, " split"]]:
    """Return the test accuracy of each split by model, beginning with the most frequent class."""
    found = {COMMONEST: [(each.labels == each.most_frequent).mean() for each in compared]}
    for name in compared[0].trials:
        found[name] = [(each.predicted(name) == each.labels).mean() for each in compared]
    return {name: np.array(each) for name, each in found.items()}


def counts_at(compared: Comparison, threshold: float) -> Int[np.ndarray, "2 2"]:
    """Return the confusion matrix of two classes. Rows are true classes, columns are predictions."""
    positive = expit(compared.logits()[:, 0]) > threshold
    return metrics.confusion_matrix(compared.labels, positive, labels=[0, 1])


def teach(flags: Classification) -> Lesson:
    """Create the lesson."""
    epochs = min(flags.epochs, QUICK_EPOCHS) if flags.quick else flags.epochs

    def compare_all(table, objective, outputs, divisor=None):
        pair = network_and_linear((64,), outputs, flags.learning_rate, objective)
        tasks: dict[str, Task] = dict(zip((NETWORK, LINEAR), pair, strict=True))
        options = {"epochs": epochs, "batch_size": flags.batch_size}
        return [compare(table, tasks, divisor, seed=seed, **options) for seed in seeds_of(flags)]

    cancer, digits = load_table("cancer"), load_table("digits")
    tumours, images = compare_all(cancer, BINARY, 1), compare_all(digits, CLASSES, 10, 16)
    tumour, image = tumours[0], images[0]
    accuracy = {"tumours": accuracies(tumours), "digits": accuracies(images)}
    thresholds = {each: [counts_at(one, each) for one in tumours] for each in (0.5, THRESHOLD)}
    (passed, false_alarms), (missed, found) = thresholds[0.5][0]
    auc, average_precision = tumour.areas()
    probabilities = softmax(image.logits(), axis=1)
    of_label = np.take_along_axis(probabilities, image.labels[:, None], axis=1)[:, 0]
    shown = np.argsort(of_label, kind="stable")[:SHOWN_DIGITS]
    pixels = 255 / 16 * digits.features[image.parts.test][shown]
    worst = Evaluation(
        pixels.astype(np.uint8).reshape(-1, 8, 8, 1),
        image.labels[shown],
        probabilities[shown],
        list(digits.class_names),
    )
    confusions = [metrics.confusion_matrix(each.labels, each.predicted()) for each in images]
    percentages = {f"{k}: {n}": 100 * v for k, each in accuracy.items() for n, v in each.items()}
    gains = [
        mean_and_std(100 * (each[NETWORK] - each[LINEAR]), sign="+") for each in accuracy.values()
    ]
    return Lesson(
        values={
            "accuracy": [
                _percent(accuracy[name][NETWORK][0], len(each.labels))
                for name, each in (("tumours", tumour), ("digits", image))
            ],
            "positives": missed + found,
            "recall": found / (missed + found),
            "precision": found / (found + false_alarms),
            "total": [len(cancer.targets), len(digits.targets)],
            "per_class": np.bincount(cancer.targets),
            "columns": len(cancer.feature_names),
            "parts": {name: len(rows) for name, rows in tumour.parts._asdict().items()},
            "benign": 100 * accuracy["tumours"][COMMONEST][0],
            "best": [each.trials[NETWORK].best_epoch for each in (tumour, image)],
            "splits": len(tumours),
            "tested": sum(len(each.labels) for each in images),
            "gains": gains,
        },
        shown={
            "tumours_curves": curves_figure(
                tumour.trials[NETWORK], "binary cross-entropy", "accuracy"
            ),
            "roc": roc_figure(tumour),
            "decisions": draw_confusion_matrix(thresholds[0.5][0], list(cancer.class_names)),
            "costs": _cost_table(thresholds),
            "digits": worst_errors(worst),
            "confusion": draw_confusion_matrix(
                np.sum(confusions, axis=0), list(digits.class_names)
            ),
            "splits": spread_table("accuracy, %", percentages, digits=1),
        },
        numbers={
            "accuracy_by_split": accuracy,
            "auc": auc,
            "average_precision": average_precision,
            "decisions": {
                "true_positives": found,
                "false_positives": false_alarms,
                "false_negatives": missed,
                "true_negatives": passed,
            },
        },
        cover="roc",
    )


def _percent(share: float, examples: int) -> str:
    """Format a share of independent examples with its binomial standard error."""
    return f"{100 * share:.1f} ± {100 * (share * (1 - share) / examples) ** 0.5:.1f} %"


def _cost_table(thresholds: dict[float, list[Int[np.ndarray, "2 2"]]]) -> Table:
    rows = []
    for threshold, counts in thresholds.items():
        missed, alarms = (np.array([each[i] for each in counts]) for i in ((1, 0), (0, 1)))
        spread = [mean_and_std(each) for each in (missed, alarms, COST * missed + alarms)]
        rows.append([f"{threshold:.2g}", str(missed[0]), str(alarms[0]), *spread])
    splits = f"{len(counts)} splits"
    head = ["threshold", "missed", "false alarms", f"missed, {splits}", f"false alarms, {splits}"]
    return Table([*head, f"{COST} · missed + false alarms"], rows)


def roc_figure(compared: Comparison) -> Figure:
    """Draw the ROC curves and the precision-recall curves, and mark the network's threshold of 0.5."""
    figure, row = panels(2, 2, height=3.8, extra=0)
    auc, average_precision = compared.areas()
    (_, false_alarms), (missed, found) = counts = counts_at(compared, 0.5)
    recall = found / (missed + found)
    marks = (false_alarms / counts[0].sum(), recall), (recall, found / (found + false_alarms))
    row[0].plot([0, 1], [0, 1], ":", color=GREY)
    row[0].text(0.47, 0.4, "by chance", fontsize=SMALL, color=GREY)
    for (name, trial), style in zip(compared.trials.items(), STYLES, strict=False):
        data = compared.labels, trial.outputs[:, 0]
        line: dict[str, Any] = {"linewidth": 2} | style
        x, y, _ = metrics.roc_curve(*data)
        row[0].plot(x, y, label=f"{name}, AUC {auc[name]:.3f}", **line)
        precision, recalls, _ = metrics.precision_recall_curve(*data)
        row[1].plot(recalls, precision, label=f"{name}, AP {average_precision[name]:.3f}", **line)
    labels = ("false positive rate", "true positive rate (recall)"), ("recall", "precision")
    for axes, mark, (x, y) in zip(row, marks, labels, strict=True):
        axes.plot(*mark, "o", color=GREEN, markersize=9)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.legend(fontsize=SMALL, frameon=False, loc="lower right")
        finish(axes, x=x, y=y)
    return figure
