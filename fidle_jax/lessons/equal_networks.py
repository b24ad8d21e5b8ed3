"""A dense and a convolutional network of as many parameters, learning from few digits and from many."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Float, Int, PyTree, UInt8

from fidle_jax.data import Split, stratified_split
from fidle_jax.nn import CNN, DNN
from fidle_jax.train.evaluation import predict
from fidle_jax.train.fit import fit
from fidle_jax.train.step import Task

BATCH_SIZE = 128
# The course's CNN with its 42,358 parameters, and its dense network, made narrower until it has 42,310.
NETWORKS: dict[str, nn.Module] = {"DNN": DNN(hidden=(50, 50)), "CNN": CNN()}
_TASKS = {name: Task(model, optax.adam(1e-3)) for name, model in NETWORKS.items()}


def training_sizes(examples: int) -> list[int]:
    """100, 300, 1,000, ... and all; none that is nearly all."""
    sizes = [digit * 10**power for power in range(2, 9) for digit in (1, 3)]
    return [size for size in sizes if 2 * size <= examples] + [examples]


def learn(name: str, train: Split, size: int, steps: int, seed: int) -> PyTree:
    """The variables of the network after so many steps on ``size`` of the digits, stratified by class.

    Whatever the size, the digits are repeated until they are as many as there are in all: the number of
    steps is the same then, and so is the compiled program.

    Args:
        name: of `NETWORKS`.
        train: digits to choose from, one batch or more of them.
        size: how many are chosen, by ``seed``.
        steps: at least; the last pass over the digits is never broken off.
        seed: of the choice and the training.
    """
    everything = len(train.labels)
    rows = np.arange(everything)
    if size < everything:
        _, rows = stratified_split(train.labels, size / everything, seed)
    rows = np.resize(rows, everything)
    batches = -(-everything // BATCH_SIZE)
    fitted = fit(
        _TASKS[name],
        (train.images[rows], train.labels[rows]),
        epochs=-(-steps // batches),
        batch_size=BATCH_SIZE,
        seed=seed,
    )
    return fitted.state.variables()


def answers(
    name: str, variables: PyTree, images: UInt8[np.ndarray, "example height width channel"]
) -> Int[np.ndarray, " example"]:
    """The class that the network takes each image for."""
    return np.asarray(jnp.argmax(_logits(NETWORKS[name], variables, images), -1))


_logits = jax.jit(predict, static_argnames="model")


def accuracy(name: str, variables: PyTree, test: Split) -> float:
    """Share of the images that are taken for what they are."""
    return float(np.mean(answers(name, variables, test.images) == test.labels))


def accuracies_by_shift(
    name: str, variables: PyTree, moved: list[list[Split]]
) -> Float[np.ndarray, " shift"]:
    """The mean accuracy on the splits of each shift."""
    return np.array(
        [np.mean([accuracy(name, variables, split) for split in splits]) for splits in moved]
    )
