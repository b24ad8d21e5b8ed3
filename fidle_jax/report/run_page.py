"""The figures and the page of a run. The text of the page is in run_page.html.j2."""

from typing import Any

from fidle_jax.report import confusion
from fidle_jax.report.curves import training_curves
from fidle_jax.report.html import load_template
from fidle_jax.report.network import feature_maps, learned_kernels
from fidle_jax.report.pictures import augmented, near_duplicates, predictions, worst_errors
from fidle_jax.report.settings import settings_by_origin
from fidle_jax.report.style import png
from fidle_jax.train.run_content import Run

MOST_ERRORS = 20
MOST_CONFUSIONS = 5
MOST_TAGGED = 3
MOST_ROWS = 12  # of the table of classes; a longer one is collapsed
MOST_WEAKEST = 5  # classes that a collapsed table shows


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
    data, groups, result = run.evaluation, run.evaluation.groups, run.result
    names, wrong = data.class_names, data.predicted != data.labels
    counts = confusion.count_confusions(data)
    confusions = confusion.commonest_confusions(counts, MOST_CONFUSIONS)
    scores = _rows(names, confusion.class_scores(counts))
    tested = sorted((row for row in scores if row["support"]), key=lambda row: row["f1"])
    lowest = [row for row in tested if row["f1"] == tested[0]["f1"] < 1]
    held_out = 0 if run.chosen_on_test else result["validation_examples"]
    examples = result.get("available_examples", result["train_examples"] + held_out)
    own = run.config.get("own_images") or {}
    if isinstance(planned := own.get("planned_examples"), int):
        examples = planned
    return load_template("run_page.html.j2").render(
        run=run,
        own=own,
        result=result,
        settings=settings_by_origin(run.config, examples, max(run.model["image_shape"][:2])),
        figures=figures,
        wrong=int(wrong.sum()),
        confusions=[(names[i], names[j], count) for i, j, count in confusions],
        scores=scores,
        weakest=tested[:MOST_WEAKEST] if len(scores) > MOST_ROWS else [],
        tagged=lowest if len(lowest) <= MOST_TAGGED else [],
        groups=groups and _rows(groups.names, confusion.group_scores(counts, groups)),
        within_group=groups
        and int((groups.of_class[data.labels] == groups.of_class[data.predicted])[wrong].sum()),
    )


def _rows(names: list[str], columns: confusion.Scores) -> list[dict[str, Any]]:
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [
        {"name": name, **dict(zip(columns, row, strict=True))}
        for name, row in zip(names, values, strict=True)
    ]
