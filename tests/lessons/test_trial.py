import numpy as np
import optax
import pytest

from fidle_jax.data.tables import Parts
from fidle_jax.lessons.trial import trial
from fidle_jax.nn import DNN
from fidle_jax.train.objectives import NUMBERS
from fidle_jax.train.step import Task

FEATURES = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
TARGETS = (FEATURES @ np.float32([2, -1]) + 0.5).astype(np.float32)
PARTS = Parts(np.arange(36), np.arange(36, 48), np.arange(48, 60))
LINEAR = Task(DNN(classes=1, hidden=()), optax.adam(0.05), objective=NUMBERS)


def tried(features=FEATURES, targets=TARGETS):
    return trial(LINEAR, features, targets, PARTS, epochs=40, batch_size=12, seed=0)


@pytest.fixture(scope="module")
def line():
    return tried()


def test_a_line_is_found_by_a_network_without_hidden_layers(line):
    assert line.outputs.shape == (12, 1)
    np.testing.assert_allclose(line.outputs[:, 0], TARGETS[PARTS.test], atol=0.05)


def test_the_best_epoch_is_that_of_the_least_validation_loss(line):
    losses = line.history["validation_loss"]
    assert len(losses) == 40
    assert losses[line.best_epoch - 1] == losses.min()


def test_nothing_that_is_learned_depends_on_the_test_part(line):
    features, targets = FEATURES.copy(), TARGETS.copy()
    features[PARTS.test], targets[PARTS.test] = 100, -100
    other = tried(features, targets)
    assert other.best_epoch == line.best_epoch
    for name, values in line.history.items():
        np.testing.assert_array_equal(other.history[name], values)
    # The same weights on other features: 100 of each, and the line's slopes and intercept.
    np.testing.assert_allclose(other.outputs[:, 0], 200 - 100 + 0.5, atol=3)
