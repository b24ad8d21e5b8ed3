"""Flax's own layers, which use XLA's convolutions and pooling."""

import functools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.training.train_state import TrainState

from peers.case import LEARNING_RATE, Case, Trainer, made_up_images

SCANNED_STEPS = 2


class Network(nn.Module):
    """Network of the case."""

    case: Case

    @nn.compact
    def __call__(self, x, *, train: bool):
        """Return the logits."""
        for (*inner, last), rate in zip(self.case.blocks, self.case.dropout[:-1], strict=True):
            for features in inner:
                x = nn.relu(nn.Conv(features, (3, 3), padding="SAME")(x))
            x = nn.relu(nn.Conv(last, (3, 3), padding="VALID")(x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
            x = nn.Dropout(rate, deterministic=not train)(x)
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(nn.Dense(self.case.hidden)(x))
        x = nn.Dropout(self.case.dropout[-1], deterministic=not train)(x)
        return nn.Dense(self.case.classes)(x)


def prepare(case: Case) -> Trainer:
    """Return a training loop that calls a jitted step."""
    images, labels, state = _begin(case)
    step = jax.jit(_step, donate_argnums=0)
    rng = np.random.default_rng(0)

    def train(steps):
        nonlocal state
        for rows in _batches(rng, len(labels), case.batch_size, steps):
            state, loss = step(state, images, labels, rows)
        return float(jax.block_until_ready((state, loss))[1])

    return _trainer(train, state)


def prepare_scan(case: Case) -> Trainer:
    """Return a training loop that calls a few steps in `lax.scan`."""
    images, labels, state = _begin(case)
    rng = np.random.default_rng(0)

    @functools.partial(jax.jit, donate_argnums=0)
    def scan(state, images, labels, batches):
        return jax.lax.scan(lambda state, rows: _step(state, images, labels, rows), state, batches)

    def train(steps):
        nonlocal state
        batches = np.stack(_batches(rng, len(labels), case.batch_size, steps))
        for part in batches.reshape(-1, SCANNED_STEPS, case.batch_size):
            state, losses = scan(state, images, labels, part)
        return float(jax.block_until_ready((state, losses))[1][-1])

    return _trainer(train, state, f"{SCANNED_STEPS} steps per scan", SCANNED_STEPS)


def _begin(case):
    images, labels = jax.device_put(made_up_images(case))
    network = Network(case)
    example = jnp.zeros((1, *case.image_shape))
    params = network.init(jax.random.key(0), example, train=False)["params"]
    optimizer = optax.adam(LEARNING_RATE)
    return images, labels, TrainState.create(apply_fn=network.apply, params=params, tx=optimizer)


def _step(state, images, labels, rows):
    x, labels = images[rows].astype(jnp.float32) / 255, labels[rows]
    key = jax.random.fold_in(jax.random.key(0), state.step)

    def loss_fn(params):
        logits = state.apply_fn({"params": params}, x, train=True, rngs={"dropout": key})
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    loss, grads = jax.value_and_grad(loss_fn)(state.params)
    return state.apply_gradients(grads=grads), loss


def _batches(rng, examples, batch_size, steps):
    """Return the row indices of ``steps`` batches. Each example is used once per epoch."""
    batches = []
    while len(batches) < steps:
        order = rng.permutation(examples).astype(np.int32)
        batches += [*order[: examples - examples % batch_size].reshape(-1, batch_size)]
    return batches[:steps]


def _trainer(train, state, setting="", at_once=1):
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    version = f"{flax.__version__}, jax {jax.__version__}"
    return Trainer(train, parameters, setting, version, at_once)
