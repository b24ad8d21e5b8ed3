"""Runs in this process on a made-up data set. They take seconds."""

import numpy as np
import pytest

from fidle_jax.data import Dataset, Split, StoredSplit
from fidle_jax.files import write_digests
from fidle_jax.train import run as run_module
from fidle_jax.train.config import Config
from fidle_jax.train.signals import Stop


def _squares(examples: int, seed: int) -> Split:
    """Return noise with a bright square in one of three corners, which is the class."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 60, (examples, 12, 12, 1), dtype=np.uint8)
    labels = np.arange(examples, dtype=np.int32) % 3
    for image, label in zip(images, labels, strict=True):
        row, column = ((0, 0), (0, 7), (7, 0))[label]
        image[row : row + 5, column : column + 5] = 220
    return Split(images, labels)


@pytest.fixture
def squares():
    splits = {"train": _squares(90, 0), "test": _squares(31, 1)}

    def open_(split):
        return StoredSplit(splits[split].labels, None, splits[split].read_images)

    return Dataset(
        name="squares",
        variant="full",
        class_names=("left", "right", "below"),
        image_shape=(12, 12, 1),
        train_examples=90,
        test_examples=31,
        read=lambda split: splits[split],
        open=open_,
    )


@pytest.fixture
def run(squares, tmp_path, monkeypatch):
    """``run(**settings)`` trains a dense network for two epochs in tmp_path/run, without a report."""
    monkeypatch.setattr(run_module, "load_dataset", lambda *_, **__: squares)

    def run(stop=None, **flags):
        defaults = {"run_dir": tmp_path / "run", "epochs": 2, "batch_size": 16, "progress": False}
        defaults["model"] = "dnn"  # it compiles quickly
        config = Config().replace(**(defaults | flags))
        result = run_module.run(config, "squares", "python squares.py", stop or Stop())
        if result and config.run.run_dir and not (config.run.run_dir / "report.html").exists():
            (config.run.run_dir / "report.html").write_text("")
            write_digests(config.run.run_dir)
        return result

    return run
