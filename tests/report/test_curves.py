import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fidle_jax.report.curves import training_curves
from fidle_jax.report.style import png

SHARES = st.floats(0, 1)


def metrics_of(train, validation):
    return {
        "epoch": np.arange(1.0, len(train) + 1),
        "train_loss": 1 - np.array(train),
        "train_accuracy": np.array(train),
        "validation_loss": 1 - np.array(validation),
        "validation_accuracy": np.array(validation),
    }


def lines_of(axes):
    return {line.get_label().split(":")[0]: line for line in axes.get_lines()}


def test_lines_show_the_metrics_of_the_run():
    train, validation = [0.5, 0.8, 0.9], [0.6, 0.9, 0.85]
    figure = training_curves(metrics_of(train, validation), best_epoch=2, test_accuracy=0.88)
    loss, accuracy = figure.axes
    np.testing.assert_allclose(lines_of(loss)["train"].get_ydata(), [0.5, 0.2, 0.1])
    np.testing.assert_allclose(1 - lines_of(accuracy)["train"].get_ydata(), train)
    np.testing.assert_allclose(1 - lines_of(accuracy)["validation"].get_ydata(), validation)
    np.testing.assert_allclose(lines_of(accuracy)["test, read once"].get_ydata(), 0.12)
    assert lines_of(accuracy)["best epoch"].get_xdata()[0] == 2


def test_the_legend_contains_the_test_accuracy():
    figure = training_curves(metrics_of([0.5], [0.5]), best_epoch=1, test_accuracy=0.9871)
    assert "test, read once: 98.71 %" in [t.get_text() for t in figure.legends[0].get_texts()]


def test_without_validation_there_is_no_validation_line():
    figure = training_curves(metrics_of([0.5, 0.6], [np.nan] * 2), None, test_accuracy=0.5)
    for axes in figure.axes:
        assert not {"validation", "best epoch"} & set(lines_of(axes))


def test_validation_on_the_test_set_has_that_name():
    figure = training_curves(metrics_of([0.5, 0.6], [0.4, 0.7]), 2, 0.7, selected_on_test=True)
    for axes in figure.axes:
        assert "test" in lines_of(axes)
        assert not {"validation", "test, read once"} & set(lines_of(axes))
    assert "test, best epoch" in lines_of(figure.axes[1])


def test_better_is_higher_and_ticks_are_accuracies():
    figure = training_curves(metrics_of([0.5, 0.999], [0.5, 0.99]), 2, test_accuracy=0.99)
    axes = figure.axes[1]
    bottom, top = axes.get_ylim()
    assert bottom > top, "the axis shows errors, so it must be upside down"
    marks = dict(
        zip(axes.get_yticks(), (t.get_text() for t in axes.get_yticklabels()), strict=True)
    )
    assert marks[0.1] == "90 %"
    assert marks[0.01] == "99 %"


@pytest.mark.parametrize("accuracy", [1.0, np.float32(1) - np.float32(6e-8)])
def test_a_perfect_accuracy_is_labelled_100_percent_and_inside_the_axis(accuracy):
    figure = training_curves(metrics_of([0.9, 1.0], [0.9, accuracy]), 2, float(accuracy))
    axes = figure.axes[1]
    place = lines_of(axes)["train"].get_ydata()[1]
    assert axes.get_ylim()[1] < place
    ticks = dict(
        zip((t.get_text() for t in axes.get_yticklabels()), axes.get_yticks(), strict=True)
    )
    assert ticks["100 %"] == pytest.approx(place)


@given(st.lists(st.tuples(SHARES, SHARES | st.just(np.nan)), min_size=1, max_size=5), SHARES)
@settings(max_examples=25, deadline=None)
def test_all_accuracies_are_within_the_axis(rows, test_accuracy):
    train, validation = zip(*rows, strict=True)
    figure = training_curves(metrics_of(train, validation), None, test_accuracy)
    bottom, top = figure.axes[1].get_ylim()
    for line in lines_of(figure.axes[1]).values():
        y = np.asarray(line.get_ydata())
        assert ((y >= top) & (y <= bottom) | np.isnan(y)).all()


def test_a_single_epoch_is_drawn_without_warnings(recwarn):
    png(training_curves(metrics_of([0.7], [0.6]), best_epoch=1, test_accuracy=0.6))
    assert not recwarn.list
