"""One epoch of the MNIST CNN spread over simulated devices, for `test_parallel` to compare.

A process's number of devices is settled when JAX starts, so this is one:
``python spread.py OUTPUT.npz STRATEGY:DEVICES:PARTS ...``. Arrays are named STRATEGY:DEVICES:PARTS/WHAT.
With SPREAD="HOST:PORT PROCESSES INDEX" in the environment it is one of several, of so many devices each.
"""

import functools
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import lax

from fidle_jax.data.augment import Augmentation
from fidle_jax.data.batches import epoch_order
from fidle_jax.data.warp import Warp
from fidle_jax.nn import BatchNorm, Dropout, make_model
from fidle_jax.train.parallel import compile_chunk, make_mesh, on_all_devices
from fidle_jax.train.state import init_state
from fidle_jax.train.step import Task

SHAPE, EXAMPLES, BATCH = (28, 28, 1), 1100, 500  # two batches that are full, and one of 100
STEPS = 3
WARP = Augmentation(Warp(shift=2.0, rotation=15.0, scaling=0.15, shear=0.1, elastic=2.5))


class Spy(nn.Module):
    """Keeps what it is given, and a dropout's mask, as if they were batch statistics."""

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
    """A network with batch norm."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, *, train=False, example_index=None):
        x = nn.Dense(8)(x.reshape(x.shape[0], -1))
        x = BatchNorm(self.axis_name)(x, train=train, example_index=example_index)
        return nn.Dense(10)(nn.relu(x))


def main(output, *cases):
    """Writes what each of the cases comes to."""
    if "SPREAD" in os.environ:
        coordinator, processes, index = os.environ["SPREAD"].split()
        jax.distributed.initialize(
            coordinator, int(processes), int(index), initialization_timeout=60
        )
    arrays = {}
    for case in cases:
        for what, tree in _outcome(*case.split(":")).items():
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
                arrays[f"{case}/{what}{jax.tree_util.keystr(path)}"] = np.asarray(leaf)
    np.savez(output, **arrays)


def _outcome(strategy, devices, parts):
    how = strategy, make_mesh(int(devices)), int(parts)
    first, *_, last = states = list(_train(how, make_model("cnn", 10, SHAPE)))
    outcome = {
        # Adam's first moment after one step: a tenth of the gradient.
        "gradient": jax.tree.map(lambda mu: 10 * mu, first.opt_state[0].mu),
        "params": first.params,
        "losses": [state.totals.loss / state.totals.examples for state in states],
        "examples": last.totals.examples,
    }
    with jax.enable_x64():
        *_, last = _train(how, make_model("cnn", 10, SHAPE), jnp.float64)
        outcome["epoch"] = last.params
        if how[-1] == 1:
            *_, last = _train(how, Normed(), jnp.float64)
            outcome["epoch, normed"] = last.params, last.batch_stats
    if how[-1] == 1:
        places = -(-BATCH // how[1].size) * how[1].size
        *_, last = _train(how, Spy(), seen=jnp.zeros((places, 28 * 28 + 16)))
        outcome["seen"] = last.batch_stats["seen"][:BATCH]
    return outcome


@functools.cache
def _first_state(model):
    """On the host, as chunks take over what they are given; to compile it takes longer than all else."""
    return jax.device_get(init_state(model, SHAPE, optax.adam(1e-3), seed=3))


def _train(how, model, dtype=jnp.float32, seen=None):
    """The state after each step of an epoch."""
    strategy, mesh, parts = how
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
    state, *data = on_all_devices(mesh, (state, images, labels, order))
    chunk = compile_chunk(strategy, mesh, task, (state, *data, 0, 1), parts)
    for step in range(STEPS):
        state = chunk(state, *data, step, step + 1)
        yield jax.device_get(state)


if __name__ == "__main__":
    main(*sys.argv[1:])
