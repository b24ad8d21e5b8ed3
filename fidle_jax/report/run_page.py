"""The figures and the page of a run. The text of the page is in run_page.html.j2."""

from collections.abc import Hashable
from typing import Any

import pandas as pd

from fidle_jax.report import confusion
from fidle_jax.report.curves import training_curves
from fidle_jax.report.html import load_template
from fidle_jax.report.network import feature_maps, learned_kernels
from fidle_jax.report.pictures import augmented, near_duplicates, predictions, worst_errors
from fidle_jax.report.style import png
from fidle_jax.train.run_content import Run

MOST_ERRORS = 20
MOST_CONFUSIONS = 5
MOST_TAGGED = 3
NOT_SHOWN = ("command", "own_images", "identity", "from_digest")  # entries of config.json


def draw_figures(run: Run) -> dict[str, bytes | None]:
    """Return the PNG of each figure, or None if the run has nothing to draw."""
    data, names = run.evaluation, run.evaluation.class_names
    worst = confusion.select_worst_errors(data, MOST_ERRORS)
    curves = run.metrics, run.chosen_epoch, run.result["test_accuracy"], run.chosen_on_test
    figures = {
        "training_curves": training_curves(*curves) if len(run.metrics["epoch"]) else None,
        "confusion_matrix": confusion.draw_confusion_matrix(
            confusion.count_confusions(data), names
        ),
        "predictions": predictions(data),
        "worst_errors": worst_errors(worst) if len(worst.labels) else None,
        "augmented": augmented(run.augmented, names) if run.augmented else None,
        "near_duplicates": near_duplicates(run.near_duplicates, names)
        if run.near_duplicates
        else None,
        "kernels": learned_kernels(run.kernels) if run.kernels else None,
        "feature_maps": feature_maps(run.maps, names),
    }
    return {name: None if figure is None else png(figure) for name, figure in figures.items()}


def render_run(run: Run, figures: dict[str, bytes | None]) -> str:
    """Return the page as HTML that needs no other files."""
    data, groups = run.evaluation, run.evaluation.groups
    names, wrong = data.class_names, data.predicted != data.labels
    confusions = confusion.commonest_confusions(confusion.count_confusions(data), MOST_CONFUSIONS)
    scores = confusion.class_scores(data)
    lowest = scores["f1"] == scores["f1"].min()
    tagged = lowest & (scores["f1"].min() < 1) & (lowest.sum() <= MOST_TAGGED)
    return load_template("run_page.html.j2").render(
        run=run,
        own=run.config.get("own_images"),
        result=run.result,
        settings={key: value for key, value in run.config.items() if key not in NOT_SHOWN},
        figures=figures,
        wrong=int(wrong.sum()),
        confusions=[(names[i], names[j], count) for i, j, count in confusions],
        scores=_records(scores.assign(tagged=tagged)),
        groups=groups and _records(confusion.group_scores(data, groups)),
        within_group=groups
        and int((groups.of_class[data.labels] == groups.of_class[data.predicted])[wrong].sum()),
    )


def _records(table: pd.DataFrame) -> list[dict[Hashable, Any]]:
    return table.rename_axis("name").reset_index().to_dict("records")
