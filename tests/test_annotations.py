"""The annotations of the package are checked while the tests run."""

import jax.numpy as jnp
import jaxtyping
import pytest

from fidle_jax.nn import Dense
from fidle_jax.train.evaluation import example_losses


def test_a_wrong_shape_raises():
    with pytest.raises(jaxtyping.TypeCheckError, match="labels"):
        example_losses(jnp.zeros((3, 10)), jnp.zeros(4, jnp.int32))


def test_a_wrong_type_of_array_raises():
    with pytest.raises(jaxtyping.TypeCheckError, match="labels"):
        example_losses(jnp.zeros((3, 10)), jnp.zeros(3))


def test_the_methods_of_modules_are_checked():
    with pytest.raises(jaxtyping.TypeCheckError, match="x"):
        Dense(2).apply({}, jnp.zeros((3, 2, 1)))
