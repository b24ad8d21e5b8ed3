"""The figures and the page of a run. The text of the page is in run_page.html.j2."""

from fidle_jax.report import confusion
from fidle_jax.report.curves import training_curves
from fidle_jax.report.html import page_template
from fidle_jax.report.network import feature_maps, learned_kernels
from fidle_jax.report.pictures import augmented, predictions, worst_errors
from fidle_jax.report.style import png
from fidle_jax.train.run_dir import Run

MOST_ERRORS = 20
MOST_CONFUSIONS = 5
MOST_TAGGED = 3


def draw_figures(run: Run) -> dict[str, bytes | None]:
    """Return the figures as PNG by name, in the order of the page.

    A figure is None if the run has nothing to draw. Runs without groups of classes or without augmentation
    lack those figures.
    """
    data = run.evaluation
    names, labels, predicted = data.class_names, data.labels, data.predicted
    worst = confusion.worst_errors_of(labels, data.probabilities, MOST_ERRORS)
    counts = confusion.confusion_counts(labels, predicted, len(names))
    figures = {
        "training_curves": training_curves(
            run.metrics, run.chosen_epoch, run.result["test_accuracy"], run.chosen_on_test
        )
        if len(run.metrics["epoch"])
        else None,
        "confusion_matrix": confusion.confusion_matrix(counts, names),
    }
    if data.groups is not None:
        group_names = data.groups.names
        errors = confusion.group_errors(labels, predicted, data.groups.of_class, len(group_names))
        figures["group_confusion"] = confusion.group_confusion(errors, group_names)
    figures |= {
        "predictions": predictions(data.images, labels, predicted, names),
        "worst_errors": worst_errors(
            data.images[worst], labels[worst], data.probabilities[worst], names
        )
        if len(worst)
        else None,
    }
    if (found := run.augmented) is not None:
        figures["augmented"] = augmented(
            found.image, found.label, found.versions, found.labels, names
        )
    figures |= {
        "kernels": learned_kernels(run.kernels) if run.kernels else None,
        "feature_maps": feature_maps(run.maps, names),
    }
    return {name: None if figure is None else png(figure) for name, figure in figures.items()}


def render_run(run: Run, figures: dict[str, bytes | None]) -> str:
    """Return the page as HTML that needs no other files."""
    data = run.evaluation
    names, labels, predicted = data.class_names, data.labels, data.predicted
    counts = confusion.confusion_counts(labels, predicted, len(names))
    scores = confusion.class_scores(labels, predicted, names)
    lowest = scores["f1"] == scores["f1"].min()
    tagged = lowest & (scores["f1"].min() < 1) & (lowest.sum() <= MOST_TAGGED)
    groups = data.groups
    return page_template("run_page.html.j2").render(
        run=run,
        result=run.result,
        settings={key: value for key, value in run.config.items() if key != "command"},
        figures=figures,
        wrong=int((predicted != labels).sum()),
        confusions=[
            (names[i], names[j], count)
            for i, j, count in confusion.commonest_confusions(counts, MOST_CONFUSIONS)
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
