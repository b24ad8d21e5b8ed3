"""Which figures the report of a run has, and what each caption tells to look for."""

from fidle_jax.report.confusion import confusion_matrix, group_confusion
from fidle_jax.report.curves import training_curves
from fidle_jax.report.html import Picture
from fidle_jax.report.network import feature_maps, learned_kernels
from fidle_jax.report.pictures import augmented, predictions, worst_errors
from fidle_jax.report.scores import (
    commonest_confusions,
    confusion_counts,
    group_errors,
    worst_errors_of,
)
from fidle_jax.report.style import png
from fidle_jax.train.run_dir import Run

MOST_ERRORS = 20


def draw_pictures(run: Run) -> list[Picture]:
    """The report's figures, in order; one that the run has nothing for says so in its caption."""
    return [
        _training_curves(run),
        _confusion_matrix(run),
        *_group_confusion(run),
        _predictions(run),
        _worst_errors(run),
        *_augmented(run),
        _kernels(run),
        _feature_maps(run),
    ]


def _training_curves(run: Run) -> Picture:
    name, title = "training_curves", "Training curves"
    if not len(run.metrics["epoch"]):
        return Picture(name, title, "The run had no epochs: there is nothing to draw.", None)
    best, on_test = run.chosen_epoch, run.chosen_on_test
    caption = (
        "Training values are averages over an epoch, in which the weights still moved and dropout "
        "and augmentation, if any, were on: they may be worse than validation. A validation loss "
        "that rises while the training loss falls is overfitting. The axis of accuracy is "
        "stretched towards 100 %. "
    )
    if best is None:
        caption += "Nothing was held out for validation: the last weights were kept."
    elif on_test:
        caption += (
            f"The test split, looked at after every epoch, chose the weights of epoch {best}."
        )
    else:
        caption += f"Validation chose the weights of epoch {best}; the test split was read once, with them."
    figure = training_curves(run.metrics, best, run.result["test_accuracy"], on_test)
    return Picture(name, title, caption, png(figure))


def _confusion_matrix(run: Run) -> Picture:
    evaluation, names = run.evaluation, run.evaluation.class_names
    counts = confusion_counts(evaluation.labels, evaluation.predicted, len(names))
    common = [
        f"{names[true]} taken for {names[guess]} ({count})"
        for true, guess, count in commonest_confusions(counts, 5)
    ]
    caption = (
        "A row is a true class, a column what it was taken for. The diagonal (pale blue) is right; "
        "the darker an orange cell, the more often that error was made. "
    )
    caption += f"The commonest: {'; '.join(common)}." if common else "There was no error."
    figure = confusion_matrix(counts, names)
    return Picture("confusion_matrix", "Confusion matrix", caption, png(figure))


def _group_confusion(run: Run) -> list[Picture]:
    evaluation, groups = run.evaluation, run.evaluation.groups
    if groups is None:
        return []
    errors = group_errors(
        evaluation.labels, evaluation.predicted, groups.of_class, len(groups.names)
    )
    caption = (
        f"Of {errors.sum():,} errors, {errors.trace():,} took an image for another class of its own "
        "group (framed in blue), the others for one of another group. The table has the share of each "
        "group's test images that were taken for the right class, and for any of the right group."
    )
    figure = group_confusion(errors, groups.names)
    return [Picture("group_confusion", "Confusion by group", caption, png(figure))]


def _predictions(run: Run) -> Picture:
    evaluation = run.evaluation
    figure = predictions(
        evaluation.images, evaluation.labels, evaluation.predicted, evaluation.class_names
    )
    caption = (
        "Test examples evenly spaced through the split, with the class that the network gave to "
        "each. Wrong ones are framed, and tell their true class."
    )
    return Picture("predictions", "Predictions", caption, png(figure))


def _worst_errors(run: Run) -> Picture:
    name, title = "worst_errors", "Worst errors"
    evaluation = run.evaluation
    worst = worst_errors_of(evaluation.labels, evaluation.probabilities, MOST_ERRORS)
    if not len(worst):
        return Picture(name, title, "No test example was taken for another class.", None)
    caption = (
        "The errors that the network was surest of: the probability that it gave to the wrong "
        "class, and to the true one. Would you have known better? Some labels are wrong."
    )
    figure = worst_errors(
        evaluation.images[worst],
        evaluation.labels[worst],
        evaluation.probabilities[worst],
        evaluation.class_names,
    )
    return Picture(name, title, caption, png(figure))


def _augmented(run: Run) -> list[Picture]:
    found = run.augmented
    if found is None:
        return []
    names = run.evaluation.class_names
    caption = (
        f"A training image (class {names[found.label]}), and {len(found.versions)} versions of it as the "
        "network might meet them in the first step. "
    )
    if (found.labels != found.label).any():
        caption += "A flip gave the framed ones another class. "
    caption += (
        "Of up to a thousand training images, evenly spaced through the split (where images are "
        "flipped, of those whose class a flip changes, if there are any), it has the middle of most "
        "contrast among the sharpest quarter of the brightest quarter."
    )
    figure = augmented(found.image, found.label, found.versions, found.labels, names)
    title = "What augmentation makes of one image"
    return [Picture("augmented", title, caption, png(figure))]


def _kernels(run: Run) -> Picture:
    name, title = "kernels", "Learned kernels"
    if not run.kernels:
        return Picture(name, title, "This network has no convolution.", None)
    caption = (
        "A row per input channel, a column per output channel. Red weights add, blue ones "
        "subtract: red beside blue is a detector of edges across that border."
    )
    return Picture(name, title, caption, png(learned_kernels(run.kernels)))


def _feature_maps(run: Run) -> Picture:
    name, title = "feature_maps", "One example, layer by layer"
    evaluation = run.evaluation
    truth = evaluation.class_names[evaluation.labels[run.digit]]
    caption = (
        f"What test example {run.digit} (class {truth}) becomes on its way through the network; "
        "yellow is the greatest value of a layer, dark blue the least. Each map answers where its "
        "kernel found what it looks for; pooling keeps the answers at half the resolution."
    )
    return Picture(name, title, caption, png(feature_maps(run.maps, evaluation.class_names)))
