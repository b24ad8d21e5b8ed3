"""Regression models on one split, their scores and figures."""

import numpy as np
import optax
import pytest

from fidle_jax.data.tables import DataTable
from fidle_jax.lessons import regression as lesson
from fidle_jax.lessons.regression import LINEAR, MEAN, NETWORK, RAW, compare, scores
from fidle_jax.nn import DNN
from fidle_jax.train.evaluation import NUMBERS
from fidle_jax.train.step import Task

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal([3000, 5], [800, 1], (80, 2)).astype(np.float32)
TARGETS = (100 - FEATURES[:, 0] / 100 + FEATURES[:, 1]).astype(np.float32)
TABLE = DataTable("cars", FEATURES, ("weight", "doors"), TARGETS, "economy", "mpg")


@pytest.fixture(scope="module")
def compared():
    # Use one task for both models: it is compiled once.
    linear = Task(DNN(classes=1, hidden=()), optax.adam(0.05), objective=NUMBERS)
    return compare(TABLE, linear, linear, epochs=60, batch_size=16, seed=1)


def test_scores_of_the_errors_3_and_minus_1():
    found = scores(np.array([10.0, 20.0]), np.array([13.0, 19.0]))
    assert found["mse"] == pytest.approx(5)
    assert found["rmse"] == pytest.approx(5**0.5)
    assert found["mae"] == pytest.approx(2)
    assert found["standard_error"] == pytest.approx(2**0.5 / 2**0.5)
    assert found["r2"] == pytest.approx(1 - 10 / 50)


def test_the_mean_of_the_same_rows_explains_nothing():
    assert scores(np.array([1.0, 2.0, 6.0]), np.full(3, 3.0))["r2"] == pytest.approx(0)


def test_predictions_have_the_unit_of_the_target(compared):
    np.testing.assert_array_equal(compared.true, TABLE.targets[compared.parts.test])
    assert scores(compared.true, compared.predicted[LINEAR])["mae"] < 0.5


def test_the_mean_is_that_of_the_training_rows(compared):
    mean = TABLE.targets[compared.parts.train].mean()
    np.testing.assert_allclose(compared.predicted[MEAN], mean, rtol=1e-5)
    validation = TABLE.targets[compared.parts.validation]
    assert compared.baseline == pytest.approx(np.abs(validation - mean).mean(), rel=1e-5)


def test_a_history_has_the_unit_of_the_target_and_its_square(compared):
    history = compared.trials[NETWORK].history
    error = scores(compared.true, compared.predicted[NETWORK])["mae"]
    assert history["validation_score"].min() == pytest.approx(error, rel=0.5)
    # A mean square is at least the squared mean, and not much more if the errors are similar.
    assert (history["validation_loss"] >= 0.999 * history["validation_score"] ** 2).all()
    assert (history["validation_loss"] <= 3 * history["validation_score"] ** 2).all()


def test_raw_features_start_with_large_errors(compared):
    first = {name: compared.trials[name].history["score"][0] for name in (NETWORK, RAW)}
    assert first[RAW] > 10 * first[NETWORK]


def test_the_errors_with_and_without_standardised_features_share_one_logarithmic_axis():
    curve = np.array([3.0, 2.0, 1.5])
    figure = lesson.raw_features_figure({"standardised": curve, "raw": 100 * curve}, 2.0, "MAE")
    (axes,) = figure.axes
    assert (axes.get_yscale(), axes.get_ylabel()) == ("log", "MAE")
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["standardised", "raw", "predict the mean"]


def test_the_band_around_the_diagonal_has_a_half_width_of_one_rmse():
    true = np.array([10.0, 20.0, 30.0, 40.0])
    (axes,) = lesson.predictions_figure(true, true + np.array([3, -3, 3, -3]), "mpg").axes
    corners = axes.collections[0].get_paths()[0].vertices
    assert np.abs(corners[:, 1] - corners[:, 0]).max() == pytest.approx(3)
    assert axes.get_xlim() == axes.get_ylim()
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("true (mpg)", "predicted (mpg)")


def test_all_predictions_are_inside_the_axes():
    true, predicted = np.array([0.0, 10.0, 5.0]), np.array([-7.0, 12.0, 30.0])
    low, high = lesson.predictions_figure(true, predicted, "mpg").axes[0].get_xlim()
    assert low < -7
    assert high > 30
