"""Training steps of the course's networks in several frameworks, each in its fastest configuration.

A function per framework builds the network and returns a `Trainer`. It imports its framework, so
that one that is not installed can be left out.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

LEARNING_RATE = 1e-3
EXAMPLES = 8192
STEPS = 4  # steps per call, for all frameworks, because some can run several steps at once
# Title, model, image shape, usual batch size, classes.
NETWORKS = {
    "mnist": ("MNIST CNN", "cnn", (28, 28, 1), 512, 10),
    "v1": ("GTSRB v1", "v1", (24, 24, 1), 64, 43),
    "v2": ("GTSRB v2", "v2", (48, 48, 3), 64, 43),
    "compact": ("GTSRB compact", "compact", (32, 32, 3), 128, 43),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """Network to train, described by numbers that any framework can build it from."""

    model: str  # name in `fidle_jax.nn.MODELS`
    image_shape: tuple[int, int, int]  # height, width, channels
    batch_size: int
    classes: int
    # Kernels of each 3x3 convolution, block by block. All convolutions but the last of a block are
    # padded. Max pooling over 2x2 and dropout end a block.
    blocks: tuple[tuple[int, ...], ...]
    hidden: int  # units of the dense layer before the last one
    dropout: tuple[float, ...]  # rates after each block and after the hidden layer

    def images(self) -> tuple[np.ndarray, np.ndarray]:
        """Return uint8 images and int32 labels, always the same."""
        examples = max(EXAMPLES, 2 * self.batch_size)
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (examples, *self.image_shape), dtype=np.uint8)
        return images, rng.integers(0, self.classes, examples, dtype=np.int32)

    def batches(self, examples: int) -> Iterator[np.ndarray]:
        """Yield the row indices of each batch, endlessly. Shuffle before each epoch."""
        rng = np.random.default_rng(0)
        while True:
            order = rng.permutation(examples).astype(np.int32)
            yield from order[: examples - examples % self.batch_size].reshape(-1, self.batch_size)


def make_case(name: str, batch_size: int | None = None) -> Case:
    """Return the case of a network. The default batch size is the usual one."""
    from fidle_jax.nn import MODELS  # imports JAX

    _, model, image_shape, usual_batch_size, classes = NETWORKS[name]
    ours = MODELS[model]
    numbers = ours.blocks, ours.hidden, ours.dropout
    return Case(model, image_shape, batch_size or usual_batch_size, classes, *numbers)


@dataclasses.dataclass(frozen=True)
class Trainer:
    """Network in training."""

    train: Callable[[int], Any]  # trains for a number of calls and waits for the result
    parameters: int
    setting: str = ""  # chosen configuration, if the framework leaves a choice


def pick_fastest(trainers: list[Trainer]) -> Trainer:
    """Time the trainers alternately and return the one with the shortest time."""
    from fidle_jax.kernels.turns import time_in_turns  # imports JAX

    for trainer in trainers:
        trainer.train(1)  # compile
    runs = {trainer.setting: trainer.train for trainer in trainers}
    turns = time_in_turns(runs, rounds=3, turn=0.3)
    return min(trainers, key=lambda trainer: min(turns[trainer.setting]))


def train_fidle(case: Case, **settings) -> Trainer:
    """Run the compiled loop of this project on all devices. ``settings`` are fields of its config."""
    import jax

    from fidle_jax.data import Dataset, Split
    from fidle_jax.data.signs import MIRRORED
    from fidle_jax.nn import MODELS
    from fidle_jax.train.compiled_steps import compile_steps
    from fidle_jax.train.config import Config, resolve
    from fidle_jax.train.parallel import make_mesh
    from fidle_jax.train.step import init_state
    from fidle_jax.train.task import make_schedule, make_task

    data = {"dataset": "mnist" if case.classes == 10 else "32x32-RGB", "model": case.model}
    usual = {"recipe": "course", "learning_rate": LEARNING_RATE, "batch_size": case.batch_size}
    config = resolve(Config().replace(**data | usual | settings), "full")
    images, labels = case.images()
    split, names = Split(images, labels), tuple(map(str, range(case.classes)))
    counts, reads = (len(labels), 0), (lambda name: split, lambda name: split)
    dataset = Dataset("made up", "full", names, case.image_shape, *counts, *reads, MIRRORED)
    model = MODELS[case.model].clone(classes=case.classes, dropout=case.dropout)
    schedule = make_schedule(config, len(labels) // case.batch_size)
    task = make_task(config, dataset, model, schedule, labels)
    options = config.optimisation
    state = init_state(
        model, case.image_shape, task.optimizer, options.seed, average=options.ema_decay > 0
    )
    splits = split, Split(images[:0], labels[:0])
    steps = compile_steps(task, schedule, make_mesh(None), state, *splits, config)
    state, order = steps.replicate(state), steps.batches(0, 0)

    def train(calls):
        nonlocal state
        for start in range(0, calls * STEPS, len(order)):
            state = steps.train(state, order, 0, min(calls * STEPS - start, len(order)))
        jax.block_until_ready(state)

    return Trainer(train, sum(leaf.size for leaf in jax.tree.leaves(state.params)))


def make_flax_network(case: Case):
    """Return the network of Flax's own layers, in training mode."""
    from flax import linen as nn

    pool = functools.partial(nn.max_pool, window_shape=(2, 2), strides=(2, 2))
    dropout = functools.partial(nn.Dropout, deterministic=False)
    layers = []
    for (*inner, last), rate in zip(case.blocks, case.dropout[:-1], strict=True):
        for features in inner:
            layers += [nn.Conv(features, (3, 3), padding="SAME"), nn.relu]
        layers += [nn.Conv(last, (3, 3), padding="VALID"), nn.relu, pool, dropout(rate)]
    layers += [lambda x: x.reshape(len(x), -1), nn.Dense(case.hidden), nn.relu]
    return nn.Sequential([*layers, dropout(case.dropout[-1]), nn.Dense(case.classes)])


def train_flax(case: Case, scan: bool = False) -> Trainer:
    """Call a jitted step, or several steps in `lax.scan`, with XLA's convolutions and pooling."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax.training.train_state import TrainState

    images, labels = jax.device_put(case.images())
    network, batches = make_flax_network(case), case.batches(len(labels))
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    params = network.init(keys, jnp.zeros((1, *case.image_shape)))["params"]
    optimizer = optax.adam(LEARNING_RATE)
    state = TrainState.create(apply_fn=network.apply, params=params, tx=optimizer)

    def step(data, state, rows):
        x, y = data[0][rows].astype(jnp.float32) / 255, data[1][rows]
        key = jax.random.fold_in(jax.random.key(0), state.step)

        def loss_fn(params):
            logits = state.apply_fn({"params": params}, x, rngs={"dropout": key})
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        loss, grads = jax.value_and_grad(loss_fn)(state.params)
        return state.apply_gradients(grads=grads), loss

    def scan_steps(data, state, rows):
        return jax.lax.scan(functools.partial(step, data), state, rows)

    compiled = jax.jit(scan_steps if scan else step, donate_argnums=1)

    def train(calls):
        nonlocal state
        rows = list(itertools.islice(batches, calls * STEPS))
        for each in np.stack(rows).reshape(calls, STEPS, -1) if scan else rows:
            state, loss = compiled((images, labels), state, each)
        jax.block_until_ready((state, loss))

    parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    return Trainer(train, parameters, f"{STEPS} steps per scan" if scan else "")


def make_keras_network(case: Case):
    """Return the Keras network, from the images to the logits."""
    import keras

    layers = keras.layers
    network = [layers.Input(case.image_shape)]
    for (*inner, last), rate in zip(case.blocks, case.dropout[:-1], strict=True):
        for features in inner:
            network.append(layers.Conv2D(features, 3, padding="same", activation="relu"))
        network.append(layers.Conv2D(last, 3, activation="relu"))
        network += [layers.MaxPooling2D(2), layers.Dropout(rate)]
    network += [layers.Flatten(), layers.Dense(case.hidden, activation="relu")]
    network += [layers.Dropout(case.dropout[-1]), layers.Dense(case.classes)]
    return keras.Sequential(network)


def _compile_keras(case, **settings):
    import keras

    model = make_keras_network(case)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(LEARNING_RATE), loss, **settings)
    model.make_train_function()
    return model


def train_keras_tf(case: Case) -> Trainer:
    """Call the compiled step of `fit`, fed as `fit` feeds it from arrays, without the callbacks.

    Keras can run several steps in one execution. The faster number is chosen. `jit_compile` is off
    because TensorFlow's XLA is many times slower on a CPU. oneDNN is on by default, and faster.
    """
    import tensorflow as tf

    images, labels = case.images()
    images, labels = tf.constant(images / np.float32(255)), tf.constant(labels)
    steps = len(labels) // case.batch_size

    def shuffle(_):
        rows = tf.random.shuffle(tf.range(len(labels)))[: steps * case.batch_size]
        return tf.data.Dataset.from_tensor_slices(tf.reshape(rows, (steps, case.batch_size)))

    def make_trainer(steps_per_execution):
        setting = {"steps_per_execution": steps_per_execution}
        model = _compile_keras(case, jit_compile=False, **setting)
        batches = tf.data.Dataset.range(1).repeat().flat_map(shuffle)
        batches = batches.map(lambda rows: (tf.gather(images, rows), tf.gather(labels, rows)))
        batches = iter(batches.prefetch(tf.data.AUTOTUNE))

        def train(calls):
            for _ in range(0, calls * STEPS, steps_per_execution):
                logs = model.train_function(batches)
            return float(logs["loss"])

        return Trainer(train, model.count_params(), f"{steps_per_execution} steps per execution")

    return pick_fastest([make_trainer(1), make_trainer(STEPS)])


def train_keras_jax(case: Case) -> Trainer:
    """Call the compiled step of `fit`, fed with JAX arrays, without the callbacks.

    Keras calls several steps one by one on this backend, so `steps_per_execution` saves nothing.
    """
    import jax
    import jax.numpy as jnp

    model = _compile_keras(case)
    model.optimizer.build(model.trainable_variables)
    kinds = ("trainable", "non_trainable", "optimizer", "metrics")
    state = model._get_jax_state(**{f"{kind}_variables": True for kind in kinds})
    images, labels = jax.device_put(case.images())
    gather = jax.jit(lambda rows: (images[rows].astype(jnp.float32) / 255, labels[rows]))
    batches = map(gather, case.batches(len(labels)))

    def train(calls):
        nonlocal state
        for _ in range(calls * STEPS):
            logs, state = model.train_function(state, batches)
        jax.block_until_ready((logs, state))

    return Trainer(train, model.count_params())


def make_torch_network(case: Case):
    """Return the PyTorch network, from images (batch, channel, height, width) to the logits."""
    from torch import nn

    layers, (height, width, channels) = [], case.image_shape
    for block, rate in zip(case.blocks, case.dropout[:-1], strict=True):
        for number, features in enumerate(block, start=1):
            padding = "valid" if number == len(block) else "same"
            layers += [nn.Conv2d(channels, features, 3, padding=padding), nn.ReLU()]
            channels = features
        layers += [nn.MaxPool2d(2), nn.Dropout(rate)]
        height, width = (height - 2) // 2, (width - 2) // 2
    layers += [nn.Flatten(), nn.Linear(height * width * channels, case.hidden), nn.ReLU()]
    layers += [nn.Dropout(case.dropout[-1]), nn.Linear(case.hidden, case.classes)]
    return nn.Sequential(*layers)


def train_torch(case: Case, compiled: bool = False) -> Trainer:
    """Run the usual training loop in the faster memory format, optionally with `torch.compile`."""
    import torch

    def make_trainer(memory_format):
        order = getattr(torch, memory_format)
        images, labels = map(torch.from_numpy, case.images())
        images = images.permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=order)
        labels, batches = labels.long(), map(torch.from_numpy, case.batches(len(labels)))
        model = make_torch_network(case).to(memory_format=order)
        # By default, Adam on a CPU updates one array after the other with several operations each.
        optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE, fused=True)
        cross_entropy = torch.nn.CrossEntropyLoss()

        def compute_loss(x, y):
            return cross_entropy(model(x), y)

        if compiled:
            compute_loss = torch.compile(compute_loss)

        def train(calls):
            for rows in itertools.islice(batches, calls * STEPS):
                loss = compute_loss(images[rows], labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

        return Trainer(train, sum(each.numel() for each in model.parameters()), memory_format)

    return pick_fastest([make_trainer(name) for name in ("contiguous_format", "channels_last")])
