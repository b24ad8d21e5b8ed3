"""A network and its remedies on one draw of points."""

import numpy as np
import pytest

from fidle_jax.lessons.polynomials import MANY, PLACES, draw
from fidle_jax.lessons.remedies import DECAY, DROPOUT, EARLY, MORE, PLAIN, learn

pytestmark = pytest.mark.slow

STEPS = 200


@pytest.fixture(scope="module")
def learned():
    return learn(draw(0, 0, 10, 0.3), STEPS, seed=0)


def test_each_remedy_stands_beside_the_network_without(learned):
    assert set(learned) == {PLAIN, EARLY, DROPOUT, DECAY, MORE}
    for each in learned.values():
        assert each.curve.shape == PLACES.shape
        assert np.isfinite([each.train, each.test]).all()


def test_each_takes_as_many_steps_whatever_points_it_has(learned):
    assert {each.steps[-1] for each in learned.values()} == {STEPS}
    assert len(learned[MORE].steps) == STEPS // MANY


def test_early_stopping_is_the_same_training_at_its_least_validation_error(learned):
    plain, early = learned[PLAIN], learned[EARLY]
    np.testing.assert_array_equal(plain.validation_errors, early.validation_errors)
    assert plain.train < early.train
    assert not np.array_equal(plain.curve, early.curve)


def test_weight_decay_and_dropout_keep_the_network_from_the_points(learned):
    assert learned[DECAY].train > learned[PLAIN].train
    assert learned[DROPOUT].train > learned[PLAIN].train
