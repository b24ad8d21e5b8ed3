"""Tests that the state is a pytree that depends only on the seed."""

import chex
import jax
import jax.numpy as jnp
import optax

from fidle_jax.nn import CNN
from fidle_jax.train.state import init_state

OPTIMIZER = optax.adam(1e-3)


def make(seed, **options):
    return init_state(
        CNN(blocks=((2,),), hidden=3, dropout=(0, 0)), (8, 8, 1), OPTIMIZER, seed, **options
    )


def test_the_state_depends_on_the_seed():
    chex.assert_trees_all_equal(make(1), make(1))
    kernels = [make(seed).params["conv_1"]["kernel"] for seed in (1, 2)]
    assert jnp.abs(kernels[0] - kernels[1]).max() > 0.01


def test_the_state_is_a_pytree():
    state = make(0)
    chex.assert_trees_all_equal(jax.tree.map(lambda leaf: leaf, state), state)
    assert state.step == 0


def test_evaluation_uses_the_average_if_there_is_one():
    state = make(0, average=True)
    state = state.replace(average=jax.tree.map(jnp.zeros_like, state.average))
    assert not any(leaf.any() for leaf in jax.tree.leaves(state.variables()["params"]))
    plain = make(0)
    chex.assert_trees_all_equal(plain.variables()["params"], plain.params)


def test_a_state_with_an_average_can_be_donated():
    state = make(0, average=True)
    jax.jit(lambda state: state.replace(step=state.step + 1), donate_argnums=0)(state)
