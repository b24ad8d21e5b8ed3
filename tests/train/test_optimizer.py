"""Optimizers and schedules by name."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fidle_jax.train.config import OPTIMIZERS, SCHEDULES, Config, resolve
from fidle_jax.train.optimizer import make_optimizer, make_schedule

CONFIG = dataclasses.replace(resolve(Config(), "full"), epochs=10, learning_rate=0.1)
PARAMS = {"kernel": jnp.full((2, 3), 0.5), "bias": jnp.full((3,), 0.5)}


def with_config(**changes):
    return dataclasses.replace(CONFIG, **changes)


def one_update(config, grads):
    optimizer = make_optimizer(config, make_schedule(config, 5))
    return optimizer.update(grads, optimizer.init(PARAMS), PARAMS)[0]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_named_choice_descends(optimizer, schedule):
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    updates = one_update(with_config(optimizer=optimizer, schedule=schedule), grads)
    assert all(np.all(leaf < 0) for leaf in jax.tree.leaves(updates))


def test_the_courses_optimizer_is_optax_adam():
    grads = {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.ones(3)}
    adam = optax.adam(0.1)
    expected, _ = adam.update(grads, adam.init(PARAMS), PARAMS)
    chex.assert_trees_all_close(one_update(CONFIG, grads), expected)


@pytest.mark.parametrize("schedule", ["cosine", "exponential", "linear"])
def test_a_schedule_warms_up_to_the_peak_and_ends_at_a_hundredth_of_it(schedule):
    rate = make_schedule(with_config(schedule=schedule, warmup_epochs=2.0), 5)
    assert rate(0) == 0
    assert rate(10) == pytest.approx(0.1)
    assert rate(50) == pytest.approx(0.001, rel=1e-4)


def test_a_constant_schedule_stays():
    rate = make_schedule(CONFIG, 5)
    assert rate(0) == rate(49) == 0.1


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weight_decay_draws_kernels_to_zero_and_leaves_biases(optimizer):
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    updates = one_update(with_config(optimizer=optimizer, weight_decay=0.1), zero)
    assert np.all(updates["kernel"] < 0)
    chex.assert_trees_all_equal(updates["bias"], jnp.zeros(3))


def test_a_long_gradient_is_cut_to_the_norm():
    grads = jax.tree.map(lambda leaf: 100 * jnp.ones_like(leaf), PARAMS)
    updates = one_update(with_config(optimizer="sgd", clip_norm=1.0), grads)
    assert optax.tree.norm(updates) == pytest.approx(0.1, rel=1e-5)
