"""Deprecation warnings of JAX and Flax are errors in the tests."""

import warnings

import jax
import jax.numpy as jnp
import pytest


def deprecated_function():
    """Warn as JAX does: the warning is attributed to the caller of the deprecated function."""
    warnings.warn("jax.something is deprecated", DeprecationWarning, stacklevel=2)


@pytest.mark.parametrize("category", [DeprecationWarning, PendingDeprecationWarning, FutureWarning])
def test_deprecations_are_errors(category):
    with pytest.raises(category, match="is deprecated"):
        warnings.warn("flax.something is deprecated", category, stacklevel=1)


def test_deprecations_attributed_to_the_caller_are_errors():
    with pytest.raises(DeprecationWarning, match="is deprecated"):
        deprecated_function()


def test_deprecations_inside_a_traced_function_are_errors():
    @jax.jit
    def traced(x):
        deprecated_function()
        return x

    with pytest.raises(DeprecationWarning, match="is deprecated"):
        traced(jnp.ones(()))
