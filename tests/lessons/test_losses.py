"""The losses of probabilities equal those of logits, as far as float32 can distinguish them."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fidle_jax.lessons import losses

FEW = settings(max_examples=25)
LOGITS = arrays(np.float32, 12, elements=st.floats(-10, 10, width=32, allow_subnormal=False))
ANY_LOGITS = arrays(np.float32, 12, elements=st.floats(-200, 200, width=32, allow_subnormal=False))
BITS = arrays(np.float32, 12, elements=st.sampled_from(np.float32([0, 1])))
X = np.linspace(-2, 2, 5)


def _binary(logits, targets):
    return losses.binary_cross_entropy(losses.sigmoid(logits), targets)


def _categorical(logits, targets):
    return losses.categorical_cross_entropy(losses.softmax(logits), targets)


COMPILED = {
    loss: jax.jit(jax.value_and_grad(loss))
    for loss in (_binary, _categorical, losses.mean_squared_error)
}


@FEW
@given(LOGITS, BITS)
def test_binary_cross_entropy_of_the_sigmoid_equals_that_of_optax(logits, targets):
    loss, gradient = COMPILED[_binary](logits, targets)
    expected = optax.sigmoid_binary_cross_entropy(logits, targets).mean()
    # 1 minus the sigmoid of 10 has lost three of seven digits.
    np.testing.assert_allclose(loss, expected, rtol=2e-3, atol=1e-5)
    p = jax.nn.sigmoid(logits)
    chex.assert_trees_all_close(gradient, (p - targets) / 12, rtol=2e-3, atol=1e-5)


@FEW
@given(LOGITS, st.lists(st.integers(0, 3), min_size=3, max_size=3))
def test_categorical_cross_entropy_of_the_softmax_equals_that_of_optax(logits, labels):
    logits, targets = logits.reshape(3, 4), np.eye(4, dtype=np.float32)[labels]
    loss, gradient = COMPILED[_categorical](logits, targets)
    expected = optax.softmax_cross_entropy(logits, targets).mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-6)
    p = jax.nn.softmax(logits)
    chex.assert_trees_all_close(gradient, (p - targets) / 3, rtol=1e-4, atol=1e-6)


@FEW
@given(ANY_LOGITS, ANY_LOGITS)
def test_mean_squared_error_equals_that_of_optax_and_its_gradient_grows_with_the_error(
    outputs, targets
):
    loss, gradient = COMPILED[losses.mean_squared_error](outputs, targets)
    expected = optax.squared_error(outputs, targets).mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-9)
    chex.assert_trees_all_close(gradient, 2 * (outputs - targets) / 12, rtol=1e-5, atol=1e-9)


def test_losses_are_means_over_the_examples_as_on_the_slides():
    p, y = jnp.array([0.9, 0.2, 0.5]), jnp.array([1.0, 0.0, 1.0])
    expected = -(np.log(0.9) + np.log(0.8) + np.log(0.5)) / 3
    np.testing.assert_allclose(losses.binary_cross_entropy(p, y), expected, rtol=1e-6)
    p, y = jnp.array([[0.7, 0.2, 0.1], [0.25, 0.5, 0.25]]), jnp.array([[1.0, 0, 0], [0, 0, 1]])
    expected = -(np.log(0.7) + np.log(0.25)) / 2
    np.testing.assert_allclose(losses.categorical_cross_entropy(p, y), expected, rtol=1e-6)
    assert losses.mean_squared_error(jnp.array([1.0, 4.0]), jnp.array([2.0, 2.0])) == 2.5


@pytest.mark.parametrize(
    ("p", "y", "loss"), [(0.0, 0.0, 0), (1.0, 1.0, 0), (0.0, 1.0, np.inf), (1.0, 0.0, np.inf)]
)
def test_a_certain_output_has_loss_0_or_infinity(p, y, loss):
    assert losses.binary_cross_entropy(jnp.array([p]), jnp.array([y])) == loss
    both, truth = jnp.array([[p, 1 - p]]), jnp.array([[y, 1 - y]])
    assert losses.categorical_cross_entropy(both, truth) == loss


@FEW
@given(ANY_LOGITS)
def test_the_sigmoid_is_the_softmax_of_a_logit_and_0(logits):
    pairs = jnp.stack([logits, np.zeros(12, np.float32)], -1)
    softmax = losses.stable_softmax(pairs)[:, 0]
    chex.assert_trees_all_close(losses.sigmoid(logits), softmax, atol=1e-6)
    chex.assert_trees_all_close(losses.sigmoid(logits), jax.nn.sigmoid(logits), atol=1e-6)


@FEW
@given(ANY_LOGITS)
def test_the_stable_softmax_is_a_distribution_for_all_logits(logits):
    probabilities = losses.stable_softmax(logits)
    chex.assert_trees_all_close(probabilities, jax.nn.softmax(logits), rtol=1e-5, atol=1e-30)
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert logits[jnp.argmax(probabilities)] == pytest.approx(logits.max(), abs=1e-4)


def test_temperature_equalises_or_separates_the_classes():
    logits = np.float32([2, 1, 0.1])
    cold, plain, warm = (losses.stable_softmax(logits, each) for each in (0.01, 1.0, 1000.0))
    chex.assert_trees_all_close(cold, jnp.array([1.0, 0, 0]), atol=1e-6)
    chex.assert_trees_all_close(plain, jax.nn.softmax(logits))
    chex.assert_trees_all_close(warm, jnp.full(3, 1 / 3), atol=1e-3)


@FEW
@given(ANY_LOGITS, st.sampled_from([0, 1]))
def test_the_loss_of_a_logit_and_its_gradient_are_finite_and_match_the_closed_forms(logits, target):
    signs = np.float64(logits) * (1 - 2 * target)
    expected = np.logaddexp(0, signs), (1 - 2 * target) * np.exp(-np.logaddexp(0, -signs))
    found = losses.curve(losses.stable_binary_loss, logits, target)
    chex.assert_tree_all_finite(found)
    chex.assert_trees_all_close(tuple(found), expected, rtol=2e-5, atol=1e-6)


@FEW
@given(ANY_LOGITS, st.sampled_from([0, 1]))
def test_the_squared_error_of_a_sigmoid_and_its_gradient_match_the_closed_forms(logits, target):
    p, rest = (np.exp(-np.logaddexp(0, sign * np.float64(logits))) for sign in (-1, 1))
    expected = (target - p) ** 2, 2 * (p - target) * p * rest
    found = losses.curve(losses.squared_error_of_sigmoid, logits, target)
    chex.assert_trees_all_close(tuple(found), expected, rtol=1e-4, atol=1e-6)


def test_squared_error_does_not_correct_a_confident_mistake_and_cross_entropy_does():
    logits = np.float32([-10])
    assert losses.curve(losses.stable_binary_loss, logits, 1).gradient[0] < -0.9999
    assert -1e-4 < losses.curve(losses.squared_error_of_sigmoid, logits, 1).gradient[0] < 0


def test_the_loss_from_the_probability_fails_beyond_the_range_of_float32():
    logits = np.float32([-200, -100, -80, 0, 10, 20, 200])
    right = losses.curve(losses.naive_binary_loss, logits, 1)
    wrong = losses.curve(losses.naive_binary_loss, logits, 0)
    assert np.isinf(right.loss).tolist() == [True, True, False, False, False, False, False]
    assert np.isinf(wrong.loss).tolist() == [False] * 5 + [True, True]
    for found in (right, wrong):
        assert np.isfinite(found.gradient[2:5]).all()
        assert np.isnan(found.gradient[[0, 1]]).all()
        assert not np.isfinite(found.gradient[[5, 6]]).any()
    assert losses.curve(losses.naive_binary_loss, np.float32([-60]), 1).gradient[0] == 0


def test_the_worked_example_matches_a_pocket_calculator():
    example = losses.worked_example(np.float32([2, 1, 0.1]), 0)
    np.testing.assert_allclose(example["exponentials"], [7.389056, 2.718282, 1.105171], rtol=1e-6)
    np.testing.assert_allclose(example["probabilities"], [0.659001, 0.242433, 0.098566], atol=1e-6)
    np.testing.assert_array_equal(example["targets"], [1, 0, 0])
    np.testing.assert_allclose(example["parts"], [0.417030, 0, 0], atol=1e-6)
    assert example["argmax"] == 0
    assert example["loss"] == pytest.approx(0.417030, abs=1e-6)


def test_the_loss_of_an_excluded_class_is_its_margin():
    example = losses.worked_example(np.float32([-40, 40]), 0)
    assert example["argmax"] == 1
    assert example["loss"] == pytest.approx(80, rel=1e-4)


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_each_curve_against_the_logit_is_in_the_legend_once():
    curves = {"a": losses.Curve(X, X**2), "b": losses.Curve(2 * X, X)}
    figure = losses.logit_curves_figure(X, curves)
    assert [axes.get_title() for axes in figure.axes] == ["loss", "gradient"]
    assert legend(figure) == ["a", "b"]
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_ydata(), X**2)
    assert len({line.get_linestyle() for line in figure.axes[0].lines}) == 2


def test_values_that_are_not_finite_are_shaded_and_not_drawn():
    naive = losses.Curve(np.array([np.inf, 1.0, 1.0, np.nan, np.nan]), X)
    figure = losses.logit_curves_figure(X, {"stable": losses.Curve(X, X), "naive": naive})
    assert [len(axes.collections) for axes in figure.axes] == [1, 0]
    drawn = figure.axes[0].lines[1].get_ydata()
    assert np.isnan(drawn).tolist() == [True, False, False, True, True]
    assert legend(figure) == ["stable", "naive", "infinite or NaN"]
