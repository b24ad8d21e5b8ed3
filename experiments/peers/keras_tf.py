"""Keras 3 on TensorFlow."""

import os

import numpy as np

from peers.case import Case, Trainer, made_up_images
from peers.fastest import pick_fastest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

from peers.keras_network import make_model

STEPS_PER_EXECUTION = 1, 4


def prepare(case: Case) -> Trainer:
    """Return the compiled step of `fit`, fed as `fit` feeds it from arrays, without the callbacks.

    Keras can run several steps in one call. The faster number of steps is kept. `jit_compile` is
    off because TensorFlow's XLA is many times slower on a CPU. oneDNN is on by default, and faster.
    """
    return pick_fastest([_trainer(case, steps) for steps in STEPS_PER_EXECUTION])


def _trainer(case, at_once):
    model = make_model(case, jit_compile=False, steps_per_execution=at_once)
    batches = _endless_batches(case)

    def train(steps):
        for _ in range(0, steps, at_once):
            logs = model.train_function(batches)
        return float(logs["loss"])

    version = f"{keras.__version__}, tensorflow {tf.__version__}"
    setting = f"steps_per_execution={at_once}"
    return Trainer(train, model.count_params(), setting, version, at_once)


def _endless_batches(case):
    images, labels = made_up_images(case)
    images, labels = tf.constant(images / np.float32(255)), tf.constant(labels)
    steps = len(labels) // case.batch_size

    def order(_):
        rows = tf.random.shuffle(tf.range(len(labels)))[: steps * case.batch_size]
        return tf.data.Dataset.from_tensor_slices(tf.reshape(rows, (steps, case.batch_size)))

    batches = tf.data.Dataset.range(1).repeat().flat_map(order)
    batches = batches.map(lambda rows: (tf.gather(images, rows), tf.gather(labels, rows)))
    return iter(batches.prefetch(tf.data.AUTOTUNE))
