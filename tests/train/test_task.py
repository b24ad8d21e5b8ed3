"""The task of a config: augmentation, schedules and optimizers by name."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fidle_jax.data.augment import NO_AUGMENTATION
from fidle_jax.errors import InputError
from fidle_jax.nn import DNN
from fidle_jax.train.config import SETTINGS, Config, resolve
from fidle_jax.train.task import make_augmentation, make_optimizer, make_schedule, make_task

LABELS = np.array([0, 0, 0, 1, 1, 2])
CONFIG = resolve(Config(), "full").replace(epochs=10, learning_rate=0.1)
PARAMS = {"kernel": jnp.full((2, 3), 0.5), "bias": jnp.full((3,), 0.5)}

each_optimizer = pytest.mark.parametrize("optimizer", SETTINGS["optimizer"].choices)


def task_of(dataset, **settings):
    config = resolve(Config().replace(**settings), "full")
    return make_task(config, dataset, DNN(3), optax.constant_schedule(1e-3), LABELS)


def one_update(config, grads, params=PARAMS):
    optimizer = make_optimizer(config, make_schedule(config, 5))
    return optimizer.update(grads, optimizer.init(params), params)[0]


def test_class_weights_are_computed_from_the_training_labels(squares):
    assert task_of(squares).class_weights == ()
    inverse = task_of(squares, class_weights="inverse").class_weights
    assert inverse == pytest.approx((2 / 3, 1, 2))
    effective = task_of(squares, class_weights="effective").class_weights
    # With few examples, the effective number is close to the number.
    assert inverse != effective == pytest.approx(inverse, rel=0.01)


def test_lengths_of_the_augmentation_are_fractions_of_the_side(squares):
    assert make_augmentation(resolve(Config(), "full"), squares) == NO_AUGMENTATION
    ranges = task_of(squares, shift=0.25, cutout=0.3).ranges
    assert (ranges.shift, ranges.cutout, ranges.mirrored) == (3.0, 0.3, ())  # 12 pixels


def test_flips_need_a_data_set_with_known_mirror_images(squares):
    with pytest.raises(InputError, match=r"--flips is 0.5; it must be 0, because it is unknown"):
        task_of(squares, flips=0.5)
    known = dataclasses.replace(squares, mirrored=(1, 0, -1))
    assert task_of(known, flips=0.5).ranges.mirrored == (1, 0, -1)
    assert task_of(known).ranges == NO_AUGMENTATION


@each_optimizer
@pytest.mark.parametrize("schedule", SETTINGS["schedule"].choices)
def test_every_optimizer_descends_with_every_schedule(optimizer, schedule):
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    updates = one_update(CONFIG.replace(optimizer=optimizer, schedule=schedule), grads)
    assert all(np.all(leaf < 0) for leaf in jax.tree.leaves(updates))


def test_the_optimizer_of_the_course_is_optax_adam():
    grads = {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.ones(3)}
    adam = optax.adam(0.1)
    expected, _ = adam.update(grads, adam.init(PARAMS), PARAMS)
    chex.assert_trees_all_close(one_update(CONFIG, grads), expected)


def test_muon_orthogonalizes_the_update_of_a_convolution_kernel_and_uses_nadam_for_the_bias():
    params = {"kernel": jnp.zeros((3, 3, 4, 8)), "bias": jnp.zeros(8)}
    grads = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(0), leaf.shape), params)
    updates = one_update(CONFIG.replace(optimizer="muon"), grads, params)
    singular = jnp.linalg.svd(updates["kernel"].reshape(36, 8), compute_uv=False)
    # Five Newton-Schulz iterations are not exact. The larger side of the matrix is 36.
    np.testing.assert_allclose(singular, 0.1 * 0.2 * np.sqrt(36), rtol=0.35)
    nadam = optax.nadam(0.1)
    expected, _ = nadam.update(grads, nadam.init(params), params)
    chex.assert_trees_all_close(updates["bias"], expected["bias"])


def test_a_cosine_schedule_warms_up_to_the_peak_and_ends_at_one_percent_of_it():
    rate = make_schedule(CONFIG.replace(schedule="cosine", warmup_epochs=2.0), 5)
    assert rate(0) == 0
    assert rate(10) == pytest.approx(0.1)
    assert rate(50) == pytest.approx(0.001, rel=1e-4)


def test_a_constant_schedule_is_constant():
    rate = make_schedule(CONFIG, 5)
    assert rate(0) == rate(49) == 0.1


@each_optimizer
def test_weight_decay_shrinks_kernels_but_not_biases(optimizer):
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    updates = one_update(CONFIG.replace(optimizer=optimizer, weight_decay=0.1), zero)
    assert np.all(updates["kernel"] < 0)
    chex.assert_trees_all_equal(updates["bias"], jnp.zeros(3))


def test_a_long_gradient_is_clipped_to_the_norm():
    grads = jax.tree.map(lambda leaf: 100 * jnp.ones_like(leaf), PARAMS)
    updates = one_update(CONFIG.replace(optimizer="sgd", clip_norm=1.0), grads)
    assert optax.tree.norm(updates) == pytest.approx(0.1, rel=1e-5)
