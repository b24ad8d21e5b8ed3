"""Train one epoch of the MNIST CNN on simulated devices, for `test_parallel`.

A case is STRATEGY:DEVICES:MICRO_BATCHES, with the devices of each process.
"""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import lax

from fidle_jax.data.augment import Augmentation
from fidle_jax.data.batches import epoch_order
from fidle_jax.nn import CNN, BatchNorm, Dropout, make_model
from fidle_jax.train.parallel import compile_training, local_positions, make_mesh, replicate
from fidle_jax.train.step import Task, init_state, train_chunk
from tests.train.scripts import write_outcomes

# The small network compiles quickly.
SMALL = "SPREAD_SMALL" in os.environ
SHAPE = (12, 12, 1) if SMALL else (28, 28, 1)
EXAMPLES, BATCH = 1100, 500  # two full batches and one of 100
STEPS = 3
WARP = Augmentation(shift=2.0, rotation=15.0, scaling=0.15, shear=0.1, elastic=2.5)


class Spy(nn.Module):
    """A model that stores its input and a dropout mask as batch statistics."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, *, train=False, example_index=None):
        ones = jnp.ones((x.shape[0], 16))
        mask = Dropout(0.5)(ones, train=train, example_index=example_index)
        seen = jnp.concatenate([x.reshape(x.shape[0], -1), mask], axis=1)
        if self.axis_name and train:
            seen = lax.all_gather(seen, self.axis_name, tiled=True)
        self.variable("batch_stats", "seen", lambda: seen).value = seen
        return nn.Dense(10)(x.reshape(x.shape[0], -1))


class Normed(nn.Module):
    """A model with batch normalization."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, *, train=False, example_index=None):
        x = nn.Dense(8)(x.reshape(x.shape[0], -1))
        x = BatchNorm(self.axis_name)(x, train=train, example_index=example_index)
        return nn.Dense(10)(nn.relu(x))


def _model():
    if SMALL:
        return CNN(blocks=((4,),), hidden=32, dropout=(0.2, 0.5))
    return make_model("cnn", 10, SHAPE)


def _outcome(strategy, devices, micro_batches):
    how = strategy, make_mesh(int(devices)), int(micro_batches)
    first, *_, last = states = list(_train(how, _model()))
    outcome = {
        # Adam's first moment after one step is a tenth of the gradient.
        "gradient": jax.tree.map(lambda mu: 10 * mu, first.opt_state[0].mu),
        "params": first.params,
        "losses": [state.totals.loss / state.totals.examples for state in states],
        "examples": last.totals.examples,
    }
    with jax.enable_x64():
        *_, last = _train(how, _model(), jnp.float64)
        outcome["epoch"] = last.params
        if how[-1] == 1:
            *_, last = _train(how, Normed(), jnp.float64)
            outcome["epoch, normed"] = last.params, last.batch_stats
    if how[-1] == 1:
        padded = -(-BATCH // how[1].size) * how[1].size
        *_, last = _train(how, Spy(), seen=jnp.zeros((padded, SHAPE[0] * SHAPE[1] + 16)))
        outcome["seen"] = last.batch_stats["seen"][:BATCH]
    return outcome


@functools.cache
def _first_state(model):
    """Return the state on the host, because chunks donate it. Cached, because compiling is slow."""
    return jax.device_get(init_state(model, SHAPE, optax.adam(1e-3), seed=3))


def _train(how, model, dtype=jnp.float32, seen=None):
    """Yield the state after each step of an epoch."""
    strategy, mesh, micro_batches = how
    weights = tuple(0.5 + 0.1 * k for k in range(10))
    task = Task(model, optax.adam(1e-3), WARP, class_weights=weights)
    state = _first_state(model)
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), state.params)
    stats = jax.tree.map(lambda leaf: leaf.astype(dtype), state.batch_stats)
    state = state.replace(params=params, batch_stats=stats, opt_state=task.optimizer.init(params))
    if seen is not None:
        state = state.replace(batch_stats={"seen": seen})
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (EXAMPLES, *SHAPE), np.uint8)
    labels = rng.integers(0, 10, EXAMPLES).astype(np.int32)
    order = epoch_order(3, 0, EXAMPLES, BATCH)
    state, *data = replicate(mesh, (state, images, labels, order))
    positions = local_positions(BATCH, micro_batches, mesh)
    arguments = state, *data, 0, 1
    chunk, shard = compile_training(strategy, mesh, task, train_chunk, arguments, (positions,))
    positions = shard(positions)
    for step in range(STEPS):
        state = chunk(state, *data, step, step + 1, positions)
        yield jax.device_get(state)


if __name__ == "__main__":
    write_outcomes(_outcome)
