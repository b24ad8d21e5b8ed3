"""Evaluation covers every example once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fidle_jax.nn import DNN
from fidle_jax.train.evaluation import evaluate, example_losses, predict

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
