"""Tests of the training step: exact under padding, the same in chunks of any length."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from fidle_jax.data.augment import Augmentation
from fidle_jax.data.batches import epoch_order, padded_order
from fidle_jax.nn import CNN, BatchNorm, Conv, Dense, Flatten
from fidle_jax.train.step import NO_STEP, Task, init_state, train_chunk, train_step, wait_for

SHAPE = (12, 12, 1)
EXAMPLES = 37
MODEL = CNN(classes=3, blocks=((4,),), hidden=32, dropout=(0.2, 0.5))  # compiles quickly
TASK = Task(MODEL, optax.adam(1e-2), Augmentation(shift=1.0, rotation=5.0), ema_decay=0.9)
PLAIN = Task(MODEL.clone(dropout=(0, 0)), optax.sgd(1e-2))


class Linear(nn.Module):
    """A network that compiles quickly."""

    @nn.compact
    def __call__(self, x, *, train=False, example_index=None):
        return nn.Dense(3)(x.reshape(x.shape[0], -1))


LINEAR = Task(Linear(), optax.sgd(1e-2))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (EXAMPLES, *SHAPE), dtype=np.uint8)
    return jnp.asarray(images), jnp.asarray(rng.integers(0, 3, EXAMPLES, dtype=np.int32))


# Each program runs only a few times, so compile it without optimization.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@functools.cache
def compiled(task):
    return jit(functools.partial(train_chunk, task))


@functools.cache
def start(task=TASK, seed=0):
    return init_state(task.model, SHAPE, task.optimizer, seed, average=task.ema_decay > 0)


def chunk(state, data, order, *bounds):
    return compiled(TASK)(state, *data, order, *bounds)


def test_chunks_of_any_length_give_the_same_bits(data):
    order = epoch_order(0, 0, EXAMPLES, 6)
    whole = chunk(start(), data, order, 0, 7)
    parts = start()
    for bounds in ((0, 1), (1, 2), (2, 6), (6, 7)):
        parts = chunk(parts, data, order, *bounds)
    chex.assert_trees_all_equal(whole, parts)
    assert whole.step == 7


class Normed(nn.Module):
    """A convolution and a dense layer, each with a batch norm."""

    @nn.compact
    def __call__(self, x, *, train=False, example_index=None):
        mode = {"train": train, "example_index": example_index}
        x = BatchNorm(name="norm_1")(Conv(2, name="layer_1")(x), **mode)
        return BatchNorm(name="norm_2")(Dense(3, name="layer_2")(Flatten()(x)), **mode)


def test_frozen_layers_keep_every_bit_and_their_norms_use_running_statistics(data):
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2, weight_decay=0.1))
    task = Task(Normed(), optimizer, ema_decay=0.9, frozen=("layer_1", "norm_1"))
    before = init_state(task.model, SHAPE, optimizer, 0, average=True, frozen=("layer_1", "norm_1"))
    after = compiled(task)(before, *data, epoch_order(0, 0, EXAMPLES, 6), 0, 7)
    for tree in ("params", "average", "batch_stats"):
        old, new = getattr(before, tree), getattr(after, tree)
        for layer in old:
            same = jax.tree.map(lambda a, b: bool((a == b).all()), old[layer], new[layer])
            expected = layer.endswith("_1")
            assert set(jax.tree.leaves(same)) == {expected}, (tree, layer)


def test_another_seed_gives_another_result(data):
    order = epoch_order(0, 0, EXAMPLES, 6)
    one = chunk(start(), data, order, 0, 1)
    other = chunk(start().replace(seed=jnp.uint32(1)), data, order, 0, 1)
    assert abs(one.totals.loss - other.totals.loss) > 1e-4


def test_padding_does_not_change_the_step(data):
    images, labels = data
    step = jax.jit(functools.partial(train_step, LINEAR))
    full = step(
        start(LINEAR), images[None, :5], labels[None, :5], jnp.ones((1, 5)), jnp.arange(5)[None]
    )
    weights = (jnp.arange(8) < 5).astype(jnp.float32)
    filled = step(
        start(LINEAR), images[None, :8], labels[None, :8], weights[None], jnp.arange(8)[None]
    )
    chex.assert_trees_all_close(full, filled, rtol=1e-5, atol=1e-7)


def test_micro_batches_give_the_result_of_the_whole_batch(data):
    order = epoch_order(0, 0, EXAMPLES, 6)
    whole = chunk(start(), data, order, 0, 3)
    positions = jnp.arange(6).reshape(3, 2)
    parts = compiled(TASK)(start(), *data, order, 0, 3, positions)
    chex.assert_trees_all_close(parts.opt_state, whole.opt_state, atol=1e-4)
    chex.assert_trees_all_close(parts.totals, whole.totals, rtol=1e-4)


def test_bfloat16_keeps_the_state_in_float32(data):
    half = dataclasses.replace(TASK, compute_dtype="bfloat16")
    order = epoch_order(0, 0, EXAMPLES, 6)
    single, halved = (compiled(task)(start(), *data, order, 0, 3) for task in (TASK, half))
    chex.assert_trees_all_equal_shapes_and_dtypes(single, halved)
    assert single.totals.loss != halved.totals.loss
    assert abs(single.totals.loss / halved.totals.loss - 1) < 0.05


def test_an_epoch_uses_each_example_once(data):
    state = chunk(start(), data, epoch_order(3, 1, EXAMPLES, 6), 0, 7)
    assert state.totals.examples == EXAMPLES
    assert 0 <= state.totals.correct <= EXAMPLES


def test_the_step_follows_the_gradient_of_the_mean_loss(data):
    images, labels = data
    state = start(PLAIN)

    def loss(params):
        logits = PLAIN.model.apply({"params": params}, images / 255.0)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    expected = jax.tree.map(
        lambda p, g: p - 1e-2 * g, state.params, jit(jax.grad(loss))(state.params)
    )
    step = jit(functools.partial(train_step, PLAIN))
    after = step(
        state, images[None], labels[None], jnp.ones((1, EXAMPLES)), jnp.arange(EXAMPLES)[None]
    )
    chex.assert_trees_all_close(after.params, expected, atol=1e-6)


def linear_step(batch, **settings):
    """Return the state before and after a step of the linear network."""
    task = Task(Linear(), optax.sgd(1e-2), **settings)
    return start(task), jax.jit(functools.partial(train_step, task))(start(task), *batch)


@pytest.mark.parametrize("parts", [1, 4])
def test_class_weights_change_the_gradient_but_not_the_reported_loss(data, parts):
    images, labels = data
    filled = np.r_[np.arange(EXAMPLES), 0, 0, 0]
    weights = (np.arange(40) < EXAMPLES).astype(np.float32)
    batch = images[filled], labels[filled], weights, jnp.arange(40)
    batch = [array.reshape(parts, -1, *array.shape[1:]) for array in batch]
    before, after = linear_step(batch, class_weights=(0.5, 3.0, 1.0))

    def losses(params):
        logits = Linear().apply({"params": params}, images / 255.0)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)

    def loss(params):
        return jnp.mean(jnp.array([0.5, 3.0, 1.0])[labels] * losses(params))

    expected = jax.tree.map(lambda p, g: p - 1e-2 * g, before.params, jax.grad(loss)(before.params))
    chex.assert_trees_all_close(after.params, expected, atol=1e-6)
    np.testing.assert_allclose(after.totals.loss, losses(before.params).sum(), rtol=1e-5)


def test_the_class_weight_is_that_of_the_label_after_a_flip(data):
    batch = data[0][None, :8], jnp.zeros((1, 8), jnp.int32), jnp.ones((1, 8)), jnp.arange(8)[None]
    flips = Augmentation(flips=1.0, mirrored=(2, 1, 0))
    before, of_old = linear_step(batch, ranges=flips, class_weights=(1.0, 1.0, 0.0))
    chex.assert_trees_all_equal(of_old.params, before.params)
    _, of_new = linear_step(batch, ranges=flips, class_weights=(0.0, 1.0, 1.0))
    _, plain = linear_step(batch, ranges=flips)
    chex.assert_trees_all_close(of_new, plain, rtol=1e-6)


def test_the_first_step_with_a_loss_that_is_not_finite_is_reported(data):
    images, labels = data
    order = padded_order(jnp.arange(EXAMPLES), 5)
    huge = Task(Linear(), optax.sgd(1e38))
    run = jax.jit(functools.partial(train_chunk, huge))
    assert run(start(huge), images, labels, order, 0, 1).totals.bad_step == NO_STEP
    assert run(start(huge), images, labels, order, 0, 6).totals.bad_step in (2, 3)


def test_weights_that_are_not_finite_after_the_last_step_are_reported(data):
    infinite = Task(Linear(), optax.sgd(jnp.inf))
    run = jax.jit(functools.partial(train_chunk, infinite))
    order = padded_order(jnp.arange(EXAMPLES), 5)
    assert run(start(infinite), *data, order, 0, 1).totals.bad_step == 1


def test_wait_for_does_not_change_the_bits_of_updates():
    updates = {"a": jnp.array([1e-30, -0.0, np.inf, 3e38]), "b": jnp.ones((0, 2))}
    for grads in ([jnp.array([1.0, np.nan])], [jnp.array(3e38), jnp.array([3e38])], []):
        known = jax.jit(wait_for)(grads, updates)
        chex.assert_trees_all_equal(known, updates)
        assert np.signbit(known["a"][1])


def test_a_nan_in_the_gradient_makes_the_updates_nan():
    known = wait_for([jnp.zeros(2), jnp.array([np.nan])], {"a": jnp.ones(3)})
    assert np.isnan(known["a"]).all()


def test_a_step_compiled_for_a_cpu_does_not_copy_the_weights(data):
    if jax.default_backend() != "cpu":
        pytest.skip("other backends schedule otherwise")
    state = start()
    size = "x".join(map(str, state.params["dense_1"]["kernel"].shape)).replace("x", ",")
    loop = jax.jit(functools.partial(train_chunk, TASK), donate_argnums=0)
    program = loop.lower(state, *data, epoch_order(0, 0, EXAMPLES, 6), 0, 1).compile().as_text()
    assert f"f32[{size}]" in program
    assert not [line for line in program.splitlines() if f"f32[{size}]{{1,0}} copy(" in line]


def test_the_moving_average_follows_the_weights(data):
    order = epoch_order(0, 0, EXAMPLES, 6)
    state = chunk(start(), data, order, 0, 1)
    before = start().params
    moved = jax.tree.map(lambda a, b: 0.1 * a + 0.9 * b, before, state.params)
    chex.assert_trees_all_close(state.average, moved, atol=1e-6)


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
