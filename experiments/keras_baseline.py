"""The course's networks in Keras, as its notebooks have them: the figures that ours are held against.

Needs the extra "bench"; reads the same data.
"""

import dataclasses
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Literal

import tyro

from fidle_jax.data import load_dataset
from fidle_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Config:
    """What to train, how often."""

    model: Literal["cnn", "dnn"] = "cnn"
    """Which of the two."""
    archives: Path | None = None
    """Folder of the official archive files, for machines without network."""
    data_dir: Path | None = None
    """Where prepared data lives."""
    seeds: int = 5
    """Runs, with the seeds 0, 1, 2, ..."""
    epochs: int = 16
    """Times that each of the 60,000 training examples is seen."""
    backend: str = "tensorflow"
    """Keras's backend."""


def main(config: Config) -> None:
    """Trains with each seed; prints each test accuracy, then mean and spread."""
    os.environ["KERAS_BACKEND"] = config.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import keras
    except ImportError:
        sys.exit("error: Keras is not installed; pip install -e '.[bench]'")
    try:
        dataset = load_dataset(
            "mnist", data="full", archives=config.archives, data_dir=config.data_dir
        )
        train, test = dataset.read("train"), dataset.read("test")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    accuracies = []
    for seed in range(config.seeds):
        keras.utils.set_random_seed(seed)
        model = make_model(keras, config.model)
        began = time.perf_counter()
        model.fit(
            train.images / 255.0, train.labels, batch_size=512, epochs=config.epochs, verbose=0
        )
        seconds = time.perf_counter() - began
        _, accuracy = model.evaluate(test.images / 255.0, test.labels, verbose=0)
        accuracies.append(100 * accuracy)
        print(f"seed {seed}: test accuracy {100 * accuracy:.2f} %, {seconds:.1f} s", flush=True)
    spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    print(
        f"Keras {keras.__version__} on {config.backend}: mean {statistics.mean(accuracies):.3f} %, "
        f"standard deviation {spread:.3f} over {len(accuracies)} seeds"
    )


def make_model(keras, name: str):
    """The network of the course, compiled as there."""
    layers = keras.layers
    convolutions = [
        layers.Conv2D(8, (3, 3), activation="relu"),
        layers.MaxPooling2D((2, 2)),
        layers.Dropout(0.2),
        layers.Conv2D(16, (3, 3), activation="relu"),
        layers.MaxPooling2D((2, 2)),
        layers.Dropout(0.2),
        layers.Flatten(),
        layers.Dense(100, activation="relu"),
        layers.Dropout(0.5),
    ]
    dense = [
        layers.Flatten(),
        layers.Dense(100, activation="relu"),
        layers.Dense(100, activation="relu"),
    ]
    hidden = convolutions if name == "cnn" else dense
    model = keras.Sequential(
        [layers.Input((28, 28, 1)), *hidden, layers.Dense(10, activation="softmax")]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
