"""The figures and the page of a run. The text of the page is in run_page.html.j2."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int
from matplotlib.figure import Figure
from sklearn import metrics

from fidle_jax.report import confusion
from fidle_jax.report.curves import training_curves
from fidle_jax.report.html import load_template
from fidle_jax.report.network import feature_maps, learned_kernels
from fidle_jax.report.pictures import augmented, predictions, worst_errors
from fidle_jax.report.style import png
from fidle_jax.train.run_dir import Run

MOST_ERRORS = 20
MOST_CONFUSIONS = 5
MOST_TAGGED = 3


def _training_curves(run: Run) -> Figure | None:
    if not len(run.metrics["epoch"]):
        return None
    test_accuracy = run.result["test_accuracy"]
    return training_curves(run.metrics, run.chosen_epoch, test_accuracy, run.chosen_on_test)


def _counts(run: Run) -> Int[np.ndarray, "classes classes"]:
    data = run.evaluation
    classes = range(len(data.class_names))
    return metrics.confusion_matrix(data.labels, data.predicted, labels=classes)


def _predictions(run: Run) -> Figure:
    data = run.evaluation
    return predictions(data.images, data.labels, data.predicted, data.class_names)


def _worst_errors(run: Run) -> Figure | None:
    data = run.evaluation
    worst = confusion.worst_errors_of(data.labels, data.probabilities, MOST_ERRORS)
    if not len(worst):
        return None
    of_worst = data.images[worst], data.labels[worst], data.probabilities[worst]
    return worst_errors(*of_worst, data.class_names)


# A figure is None if the run has nothing to draw.
FIGURES: dict[str, Callable[[Run], Figure | None]] = {
    "training_curves": _training_curves,
    "confusion_matrix": lambda run: confusion.draw_confusion_matrix(
        _counts(run), run.evaluation.class_names
    ),
    "predictions": _predictions,
    "worst_errors": _worst_errors,
    "augmented": lambda run: (
        augmented(run.augmented, run.evaluation.class_names) if run.augmented else None
    ),
    "kernels": lambda run: learned_kernels(run.kernels) if run.kernels else None,
    "feature_maps": lambda run: feature_maps(run.maps, run.evaluation.class_names),
}


def draw_figures(run: Run) -> dict[str, bytes | None]:
    """Return the PNG or None of each of the `FIGURES` of a run."""
    figures = {name: draw(run) for name, draw in FIGURES.items()}
    return {name: None if figure is None else png(figure) for name, figure in figures.items()}


def render_run(run: Run, figures: dict[str, bytes | None]) -> str:
    """Return the page as HTML that needs no other files."""
    data, groups = run.evaluation, run.evaluation.groups
    names, labels, predicted = data.class_names, data.labels, data.predicted
    scores = confusion.class_scores(labels, predicted, names)
    lowest = scores["f1"] == scores["f1"].min()
    tagged = lowest & (scores["f1"].min() < 1) & (lowest.sum() <= MOST_TAGGED)
    return load_template("run_page.html.j2").render(
        run=run,
        result=run.result,
        settings={key: value for key, value in run.config.items() if key != "command"},
        figures=figures,
        wrong=int((predicted != labels).sum()),
        confusions=[
            (names[i], names[j], count)
            for i, j, count in confusion.commonest_confusions(_counts(run), MOST_CONFUSIONS)
        ],
        scores=scores.assign(tagged=tagged).rename_axis("name").reset_index().to_dict("records"),
        groups=groups
        and confusion.group_scores(labels, predicted, groups.of_class, groups.names)
        .rename_axis("name")
        .reset_index()
        .to_dict("records"),
        within_group=groups
        and int((groups.of_class[labels] == groups.of_class[predicted])[labels != predicted].sum()),
    )
