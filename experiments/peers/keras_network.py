"""The network of the case in Keras 3, for any backend."""

import keras

from peers.case import LEARNING_RATE, Case


def make_model(case: Case, **how) -> keras.Model:
    """Return the network, compiled without metrics. ``how``: further arguments of `compile`."""
    model = keras.Sequential(make_layers(case))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(LEARNING_RATE), loss, **how)
    model.make_train_function()
    return model


def make_layers(case: Case) -> list[keras.Layer]:
    """Return the layers, from the images to the logits."""
    layers = keras.layers
    network = [layers.Input(case.image_shape)]
    for (*inner, last), rate in zip(case.blocks, case.dropout[:-1], strict=True):
        for features in inner:
            network.append(layers.Conv2D(features, 3, padding="same", activation="relu"))
        network.append(layers.Conv2D(last, 3, activation="relu"))
        network += [layers.MaxPooling2D(2), layers.Dropout(rate)]
    network += [layers.Flatten(), layers.Dense(case.hidden, activation="relu")]
    return [*network, layers.Dropout(case.dropout[-1]), layers.Dense(case.classes)]
