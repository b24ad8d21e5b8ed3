"""Standardised columns, and training on a split without looking at the test rows."""

import numpy as np
import optax
import pytest

from fidle_jax.data.tables import Parts
from fidle_jax.lessons.tables import Trial, curves_figure, run_trial, spread_table, standardise
from fidle_jax.nn import DNN
from fidle_jax.train.evaluation import NUMBERS
from fidle_jax.train.step import Task

FEATURES = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
TARGETS = (FEATURES @ np.float32([2, -1]) + 0.5).astype(np.float32)
PARTS = Parts(np.arange(36), np.arange(36, 48), np.arange(48, 60))
LINEAR = Task(DNN(classes=1, hidden=()), optax.adam(0.05), objective=NUMBERS)


def test_only_the_training_rows_determine_the_scale_and_a_constant_column_becomes_0():
    columns = np.float32([[0, 7], [2, 7], [5, 7]])
    found, scaler = standardise(columns, np.array([0, 1]))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[-1, 0], [1, 0], [4, 0]])
    np.testing.assert_allclose(scaler.inverse_transform(found), columns)


def run(features=FEATURES, targets=TARGETS):
    return run_trial(LINEAR, features, targets, PARTS, epochs=40, batch_size=12, seed=0)


@pytest.fixture(scope="module")
def line():
    return run()


def test_a_network_without_hidden_layers_finds_a_line(line):
    assert line.outputs.shape == (12, 1)
    np.testing.assert_allclose(line.outputs[:, 0], TARGETS[PARTS.test], atol=0.05)


def test_the_best_epoch_has_the_lowest_validation_loss(line):
    losses = line.history["validation_loss"]
    assert len(losses) == 40
    assert losses[line.best_epoch - 1] == losses.min()


def test_training_does_not_depend_on_the_test_rows(line):
    features, targets = FEATURES.copy(), TARGETS.copy()
    features[PARTS.test], targets[PARTS.test] = 100, -100
    other = run(features, targets)
    assert other.best_epoch == line.best_epoch
    for name, values in line.history.items():
        np.testing.assert_array_equal(other.history[name], values)
    # The same weights on other features: 100 in each column, times the slopes, plus the intercept.
    np.testing.assert_allclose(other.outputs[:, 0], 200 - 100 + 0.5, atol=3)


FALLING, VALIDATION = np.array([3.0, 2.0, 1.5, 1.4]), np.array([3.1, 2.5, 2.2, 2.3])
HISTORY = {
    "loss": FALLING,
    "validation_loss": VALIDATION,
    "score": FALLING,
    "validation_score": VALIDATION,
}


def test_training_curves_have_titles_and_mark_the_best_epoch():
    figure = curves_figure(Trial(np.zeros((1, 1)), HISTORY, 3), "loss", "MAE")
    assert [axes.get_title() for axes in figure.axes] == ["loss", "MAE"]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["training", "validation", "lowest loss: epoch 3"]
    training, validation, best = figure.axes[0].lines
    np.testing.assert_array_equal(training.get_xdata(), [1, 2, 3, 4])
    np.testing.assert_array_equal(training.get_ydata(), FALLING)
    np.testing.assert_array_equal(validation.get_ydata(), VALIDATION)
    assert best.get_xdata()[0] == 3


def test_a_single_epoch_is_drawn_as_points():
    history = {name: values[:1] for name, values in HISTORY.items()}
    figure = curves_figure(Trial(np.zeros((1, 1)), history, 1), "loss", "MAE")
    assert [line.get_marker() for line in figure.axes[0].lines[:2]] == ["o", "o"]


def test_the_spread_over_splits_is_the_sample_standard_deviation():
    table = spread_table("MAE", {"network": np.array([1.0, 2.0, 3.0])}, digits=2)
    assert table.rows == [["network", "1.00", "2.00", "1.00", "1.00", "3.00"]]
