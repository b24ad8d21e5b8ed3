"""Evaluation covers every example once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fidle_jax.lessons.losses import (
    binary_cross_entropy,
    categorical_cross_entropy,
    mean_squared_error,
    sigmoid,
    softmax,
)
from fidle_jax.nn import DNN
from fidle_jax.train.evaluation import BINARY, CLASSES, NUMBERS, evaluate, example_losses, predict

SHAPE = (12, 12, 1)
MODEL = DNN(classes=3)


@pytest.mark.parametrize("examples", [1, 500, 1003])
def test_evaluation_covers_every_example_exactly_once(examples):
    rng = np.random.default_rng(examples)
    images = jnp.asarray(rng.integers(0, 256, (examples, *SHAPE), dtype=np.uint8))
    labels = jnp.asarray(rng.integers(0, 3, examples, dtype=np.int32))
    variables = MODEL.init(jax.random.key(0), images[:1] / 255.0)
    expected = MODEL.apply(variables, images / 255.0)
    np.testing.assert_allclose(predict(MODEL, variables, images), expected, atol=1e-5)
    loss, correct = evaluate(MODEL, variables, images, labels)
    np.testing.assert_allclose(loss, example_losses(expected, labels).mean(), rtol=1e-5)
    assert correct == (expected.argmax(-1) == labels).sum()


FEW = settings(max_examples=25)


def columns(largest):
    return arrays(
        np.float32, (12, 1), elements=st.floats(-largest, largest, width=32, allow_subnormal=False)
    )


LOGITS, LARGE, TARGETS = columns(10), columns(1e4), columns(100).map(lambda x: x[:, 0])
BITS = arrays(np.int32, 12, elements=st.integers(0, 1))
# float32 rounds the target 1 - smoothing / 2, so a smoothing near 6e-8 has no accurate loss.
SMOOTHING = st.just(0.0) | st.floats(0.01, 1)


def test_the_loss_of_each_example_is_the_smoothed_cross_entropy():
    logits, labels = jnp.array([[1.0, 2.0, 0.5], [0.0, 0.0, 0.0]]), jnp.array([0, 2])
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = [-np.log(probabilities[0, 0]), -np.log(probabilities[1, 2])]
    np.testing.assert_allclose(example_losses(logits, labels), expected, rtol=1e-6)
    smooth = 0.7 * np.array(expected) - 0.1 * np.log(probabilities).sum(1)
    np.testing.assert_allclose(example_losses(logits, labels, 0.3), smooth, rtol=1e-6)


@FEW
@given(LOGITS, st.lists(st.integers(0, 2), min_size=4, max_size=4))
def test_the_loss_of_classes_is_the_categorical_cross_entropy_of_the_slides(logits, labels):
    logits, labels = logits.reshape(4, 3), jnp.array(labels)
    expected = categorical_cross_entropy(softmax(logits), jax.nn.one_hot(labels, 3))
    loss = CLASSES.losses(logits, labels, 0.0).mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-6)


@FEW
@given(LOGITS, BITS)
def test_the_loss_of_two_classes_is_the_binary_cross_entropy_of_the_slides(logits, labels):
    expected = binary_cross_entropy(sigmoid(logits[:, 0]), labels.astype(np.float32))
    loss = BINARY.losses(logits, labels, 0.0).mean()
    np.testing.assert_allclose(loss, expected, rtol=2e-3, atol=1e-5)


@FEW
@given(LARGE, TARGETS, st.floats(0, 1))
def test_numbers_have_the_mean_squared_error_of_the_slides_and_the_absolute_error_as_score(
    outputs, targets, smoothing
):
    expected = mean_squared_error(outputs[:, 0], targets)
    loss = NUMBERS.losses(outputs, targets, smoothing).mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    scores = NUMBERS.scores(outputs, targets)
    np.testing.assert_allclose(scores, abs(outputs[:, 0] - targets), rtol=1e-6, atol=1e-30)


@FEW
@given(LARGE, BITS, SMOOTHING)
def test_smoothing_of_two_classes_spreads_a_part_of_the_loss_over_both(logits, labels, smoothing):
    plain, no, yes = (
        BINARY.losses(logits, each, 0.0) for each in (labels, 0 * labels, 0 * labels + 1)
    )
    expected = (1 - smoothing) * plain + smoothing * (no + yes) / 2
    losses = BINARY.losses(logits, labels, smoothing)
    np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-5)


@FEW
@given(LOGITS, BITS, st.floats(0, 0.9))
def test_one_smoothed_logit_is_equivalent_to_two_smoothed_classes(logits, labels, smoothing):
    two = np.concatenate([np.zeros_like(logits), logits], 1)
    expected = CLASSES.losses(two, labels, smoothing)
    losses = BINARY.losses(logits, labels, smoothing)
    np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("objective", [CLASSES, BINARY])
def test_losses_and_gradients_of_huge_logits_are_finite(objective):
    logits = jnp.array([[1e4], [-1e4], [200.0], [-200.0]])
    if objective is CLASSES:
        logits = jnp.concatenate([-logits, logits], 1)
    for label in (0, 1):
        labels = jnp.full(4, label)
        loss, gradient = jax.value_and_grad(
            lambda logits, labels=labels: objective.losses(logits, labels, 0.1).sum()
        )(logits)
        assert np.isfinite(loss)
        assert np.isfinite(gradient).all()
        assert (gradient != 0).any()


def test_the_score_of_classes_is_1_if_the_label_has_the_first_of_the_largest_logits():
    logits = jnp.array([[0.0, 3.0, 1.0], [0.0, 3.0, 1.0], [-1.0, -3.0, -2.0], [5.0, 5.0, 0.0]])
    assert CLASSES.scores(logits, jnp.array([1, 2, 0, 1])).tolist() == [1, 0, 1, 0]


def test_the_score_of_two_classes_is_1_if_a_probability_above_a_half_agrees_with_the_label():
    logits = jnp.array([[0.0], [-0.0], [1e-6], [1e4], [1e4], [-1e4], [-1e4]])
    labels = jnp.array([0, 1, 1, 0, 1, 0, 1])
    assert BINARY.scores(logits, labels).tolist() == [1, 0, 1, 0, 1, 1, 0]
