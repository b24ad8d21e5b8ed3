"""Keras 3 on TensorFlow."""

import os

import numpy as np

from peers.case import LEARNING_RATE, Case, Trainer, made_up_images

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf


def prepare(case: Case) -> Trainer:
    """`fit`'s own compiled step, fed as `fit` feeds it from arrays, without what it does an epoch.

    The accuracy is not counted, for a little more speed; compiling by XLA, which Keras leaves out on
    a CPU, is several times slower there.
    """
    model = keras.Sequential(make_layers(case))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(LEARNING_RATE), loss)
    model.make_train_function()
    batches = _endless_batches(case)

    def train(steps):
        for _ in range(steps):
            logs = model.train_function(batches)
        float(logs["loss"])

    version = f"{keras.__version__}, tensorflow {tf.__version__}"
    return Trainer(train, model.count_params(), "", version)


def make_layers(case: Case) -> list[keras.Layer]:
    """The network, from the images to the logits."""
    layers = keras.layers
    network = [layers.Input(case.image_shape)]
    for (*inner, last), rate in zip(case.blocks, case.dropout[:-1], strict=True):
        for features in inner:
            network.append(layers.Conv2D(features, 3, padding="same", activation="relu"))
        network.append(layers.Conv2D(last, 3, activation="relu"))
        network += [layers.MaxPooling2D(2), layers.Dropout(rate)]
    network += [layers.Flatten(), layers.Dense(case.hidden, activation="relu")]
    return [*network, layers.Dropout(case.dropout[-1]), layers.Dense(case.classes)]


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
