import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import log_loss

from fidle_jax.inference.calibration import (
    calibration,
    fit_temperature,
    negative_log_likelihoods,
    reliability,
)


def answers(seed=0, examples=4000, classes=5, sharpness=1.0):
    """Logits ``sharpness`` times as large as those that the labels are drawn from."""
    rng = np.random.default_rng(seed)
    honest = 2 * rng.normal(size=(examples, classes))
    drawn = honest + rng.gumbel(size=honest.shape)
    return sharpness * honest, drawn.argmax(axis=1)


def logits_of(probabilities):
    return np.log(np.asarray(probabilities))


def test_a_bin_has_the_examples_of_its_confidence_and_how_many_are_right():
    logits = logits_of([[0.9, 0.1], [0.86, 0.14], [0.3, 0.7], [0.45, 0.55]])
    found = reliability(logits, np.array([0, 1, 1, 1]), bins=10)
    assert found.counts.tolist() == [0, 0, 0, 0, 0, 1, 1, 0, 2, 0]
    np.testing.assert_allclose(found.confidence[[5, 6, 8]], [0.55, 0.7, 0.88])
    np.testing.assert_allclose(found.accuracy[[5, 6, 8]], [1, 1, 0.5])
    assert np.isnan(found.accuracy[[0, 1, 2, 3, 4, 7, 9]]).all()


def test_the_calibration_error_is_the_mean_distance_of_confidence_and_accuracy():
    logits = logits_of([[0.9, 0.1], [0.86, 0.14], [0.3, 0.7], [0.45, 0.55]])
    found = reliability(logits, np.array([0, 1, 1, 1]), bins=10)
    assert found.error() == pytest.approx((0.45 + 0.3 + 2 * 0.38) / 4)


def test_two_classes_never_fall_below_one_half():
    logits, labels = answers(classes=2)
    assert not reliability(logits, labels).counts[:7].any()


def test_a_network_that_is_as_often_right_as_it_is_sure_has_hardly_an_error():
    assert reliability(*answers()).error() < 0.02
    assert reliability(*answers(sharpness=3)).error() > 0.1


@given(seed=st.integers(0, 99), examples=st.integers(1, 40), classes=st.integers(2, 6))
def test_every_example_is_in_one_bin_and_their_order_does_not_count(seed, examples, classes):
    logits, labels = answers(seed, examples, classes)
    found = reliability(logits, labels)
    assert found.counts.sum() == examples
    assert 0 <= found.error() <= 1
    order = np.random.default_rng(seed).permutation(examples)
    assert reliability(logits[order], labels[order]).error() == pytest.approx(found.error())


def test_the_loss_is_the_cross_entropy():
    logits, labels = answers(examples=50)
    expected = log_loss(labels, softmax(logits / 1.7, axis=1))
    assert negative_log_likelihoods(logits, labels, 1.7).mean() == pytest.approx(expected)


@pytest.mark.parametrize("sharpness", [0.2, 1, 5])
def test_the_temperature_undoes_what_made_the_logits_too_large_or_too_small(sharpness):
    assert fit_temperature(*answers(sharpness=sharpness)) == pytest.approx(sharpness, rel=0.08)


@given(seed=st.integers(0, 99), factor=st.floats(0.5, 2))
def test_no_other_temperature_has_a_lower_loss(seed, factor):
    logits, labels = answers(seed, examples=200, sharpness=4)
    best = fit_temperature(logits, labels)
    losses = (
        negative_log_likelihoods(logits, labels, each).mean() for each in (best, factor * best)
    )
    assert next(losses) <= next(losses) + 1e-9


def test_it_lowers_the_error_on_other_examples_and_leaves_the_answers():
    too_sure = answers(1, sharpness=4)
    before = calibration(*too_sure)
    after = calibration(*too_sure, fit_temperature(*answers(2, sharpness=4)))
    assert after.error < before.error / 4
    assert after.loss < before.loss
    right = (
        np.nansum(each.reliability.accuracy * each.reliability.counts) for each in (before, after)
    )
    assert next(right) == pytest.approx(next(right))


def test_without_a_mistake_or_a_clue_there_is_no_best_temperature():
    logits, _ = answers(examples=100)
    assert fit_temperature(logits, logits.argmax(axis=1)) is None
    assert fit_temperature(logits, logits.argmin(axis=1)) is None


def test_huge_float32_logits_have_a_finite_loss():
    logits = np.array([[1e4, 0], [0, 1e4]], np.float32)
    np.testing.assert_allclose(negative_log_likelihoods(logits, np.array([0, 0])), [0, 1e4])


def test_a_single_example_has_no_spread():
    assert calibration(np.array([[1.0, 0.0]]), np.array([0])).standard_error == 0
