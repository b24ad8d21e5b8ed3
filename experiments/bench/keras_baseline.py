"""Train the course's MNIST networks in Keras, as its notebooks do, on the same data as ours.

This is the reference for our test accuracies. It needs the extra "bench".
"""

import dataclasses
import os
import statistics
import time
from pathlib import Path
from typing import Literal

from frameworks import make_case, make_keras_network
from timing import check_positive, run

from fidle_jax.data import load_dataset


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the training runs."""

    model: Literal["cnn", "dnn"] = "cnn"
    """Network."""
    archives: Path | None = None
    """Directory with the official archive files, for machines without network."""
    data_dir: Path | None = None
    """Directory of prepared data."""
    seeds: int = 5
    """Number of runs, with the seeds 0, 1, 2, ..."""
    epochs: int = 16
    """Number of epochs over the 60,000 training examples."""
    backend: str = "tensorflow"
    """Backend of Keras."""


def main(config: Config) -> None:
    """Train with each seed. Print each test accuracy, then mean and standard deviation."""
    check_positive(config, "seeds", "epochs")
    os.environ["KERAS_BACKEND"] = config.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import keras
    except ImportError:
        raise RuntimeError("Keras is not installed; run pip install -e '.[bench]'") from None
    dataset = load_dataset("mnist", data="full", archives=config.archives, data_dir=config.data_dir)
    train, test = dataset.read("train"), dataset.read("test")
    accuracies = []
    for seed in range(config.seeds):
        keras.utils.set_random_seed(seed)
        model = make_network(keras, config.model)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss, metrics=["accuracy"])
        settings = {"batch_size": 512, "epochs": config.epochs, "verbose": 0}
        began = time.perf_counter()
        model.fit(train.images / 255.0, train.labels, **settings)
        seconds = time.perf_counter() - began
        _, accuracy = model.evaluate(test.images / 255.0, test.labels, verbose=0)
        accuracies.append(100 * accuracy)
        print(f"seed {seed}: test accuracy {100 * accuracy:.2f} %, {seconds:.1f} s", flush=True)
    spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    print(
        f"Keras {keras.__version__} on {config.backend}: mean {statistics.mean(accuracies):.3f} %, "
        f"standard deviation {spread:.3f} over {len(accuracies)} seeds"
    )


def make_network(keras, name: str):
    """Return the network of the course with this name, from the images to the logits."""
    if name == "cnn":
        return make_keras_network(make_case("mnist"))
    layers = keras.layers
    hidden = [layers.Flatten(), layers.Dense(100, "relu"), layers.Dense(100, "relu")]
    return keras.Sequential([layers.Input((28, 28, 1)), *hidden, layers.Dense(10)])


if __name__ == "__main__":
    run(main, Config(), __doc__)
