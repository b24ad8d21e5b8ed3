"""Keras 3 on JAX."""

import jax
import jax.numpy as jnp
import keras
import numpy as np

from peers.case import Case, Trainer, made_up_images
from peers.keras_network import make_model


def prepare(case: Case) -> Trainer:
    """Return the compiled step of `fit`, fed with JAX arrays, without the callbacks.

    Keras compiles the step with `jax.jit`. It calls several steps one by one on this backend, so that
    `steps_per_execution` saves nothing.
    """
    model = make_model(case)
    model.optimizer.build(model.trainable_variables)
    state = model._get_jax_state(
        trainable_variables=True,
        non_trainable_variables=True,
        optimizer_variables=True,
        metrics_variables=True,
    )
    batches = _endless_batches(case)

    def train(steps):
        nonlocal state
        for _ in range(steps):
            logs, state = model.train_function(state, batches)
        return float(jax.block_until_ready(logs)["loss"])

    version = f"{keras.__version__}, jax {jax.__version__}"
    return Trainer(train, model.count_params(), "", version)


def _endless_batches(case):
    images, labels = jax.device_put(made_up_images(case))
    rng = np.random.default_rng(0)

    @jax.jit
    def gather(rows):
        return images[rows].astype(jnp.float32) / 255, labels[rows]

    while True:
        order = rng.permutation(len(labels)).astype(np.int32)
        for rows in order[: len(order) - len(order) % case.batch_size].reshape(-1, case.batch_size):
            yield gather(rows)
