import numpy as np
import optax
import pytest

from fidle_jax.data.tables import DataTable
from fidle_jax.lessons.regression import LINEAR, MEAN, NETWORK, RAW, compare, farthest_off, scores
from fidle_jax.nn import DNN
from fidle_jax.train.objectives import NUMBERS
from fidle_jax.train.step import Task

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal([3000, 5], [800, 1], (80, 2)).astype(np.float32)
TABLE = DataTable(
    "cars",
    FEATURES,
    ("weight", "doors"),
    (100 - FEATURES[:, 0] / 100 + FEATURES[:, 1]).astype(np.float32),
    "economy",
    "mpg",
)


@pytest.fixture(scope="module")
def compared():
    # The same task for both: one program less to compile.
    linear = Task(DNN(classes=1, hidden=()), optax.adam(0.05), objective=NUMBERS)
    return compare(TABLE, linear, linear, epochs=60, batch_size=16, seed=1)


def test_scores_of_errors_3_and_minus_1():
    found = scores(np.array([10.0, 20.0]), np.array([13.0, 19.0]))
    assert found.mse == pytest.approx(5)
    assert found.rmse == pytest.approx(5**0.5)
    assert found.mae == pytest.approx(2)
    assert found.standard_error == pytest.approx(2**0.5 / 2**0.5)
    assert found.r2 == pytest.approx(1 - 10 / 50)


def test_predicting_the_mean_of_the_same_rows_explains_nothing():
    true = np.array([1.0, 2.0, 6.0])
    assert scores(true, np.full(3, 3.0)).r2 == pytest.approx(0)


def test_the_farthest_off_come_first_whatever_their_sign():
    true, predicted = np.zeros(4), np.array([1.0, -5.0, 3.0, 0.0])
    assert farthest_off(true, predicted, 2).tolist() == [1, 2]


def test_predictions_are_in_the_unit_of_the_target(compared):
    np.testing.assert_array_equal(compared.true, TABLE.targets[compared.parts.test])
    assert scores(compared.true, compared.predicted[LINEAR]).mae < 0.5


def test_the_mean_is_that_of_the_training_part(compared):
    mean = TABLE.targets[compared.parts.train].mean()
    np.testing.assert_allclose(compared.predicted[MEAN], mean, rtol=1e-5)
    validation = TABLE.targets[compared.parts.validation]
    assert compared.baseline == pytest.approx(np.abs(validation - mean).mean(), rel=1e-5)


def test_a_history_is_in_the_unit_of_the_target_and_its_square(compared):
    history = compared.trials[NETWORK].history
    error = scores(compared.true, compared.predicted[NETWORK]).mae
    assert history["validation_score"].min() == pytest.approx(error, rel=0.5)
    # A mean square is never below the squared mean, nor far above where no error is far from the others.
    assert (history["validation_loss"] >= 0.999 * history["validation_score"] ** 2).all()
    assert (history["validation_loss"] <= 3 * history["validation_score"] ** 2).all()


def test_raw_features_begin_far_off(compared):
    first = {name: compared.trials[name].history["score"][0] for name in (NETWORK, RAW)}
    assert first[RAW] > 10 * first[NETWORK]
