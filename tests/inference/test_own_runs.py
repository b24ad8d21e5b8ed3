"""Whole runs on a user's own images."""

import jax
import numpy as np
import pytest
from PIL import Image

import fidle_jax
from fidle_jax.errors import InputError
from tests.data import own_sets


def train(path, folder, **settings):
    """Train the dense network for an epoch. ``folder`` contains the prepared images and the run."""
    options = {"model": "dnn", "recipe": "course", "epochs": 1, "batch_size": 16, "progress": False}
    run_dir = folder / f"run {path.name}"
    data = fidle_jax.load_data(str(path), data_dir=folder / "prepared", hold_out="examples")
    return fidle_jax.train(data, run_dir=run_dir, **options | settings)


def test_folders_and_arrays_of_the_same_digits_give_the_same_parameters(tmp_path):
    splits = own_sets.digits(100)
    runs = [
        train(write(tmp_path / write.__name__, splits), tmp_path)
        for write in (own_sets.write_rgb_folders, own_sets.write_npz)
    ]
    leaves = [jax.tree.leaves(run.variables) for run in runs]
    for first, second in zip(*leaves, strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_run_is_not_resumed_on_other_images(tmp_path):
    photos = own_sets.write_photos(tmp_path / "photos", count=20)
    run = train(photos, tmp_path)
    assert run.config.data.dataset == str(photos)
    assert run.predict(photos / "cat" / "0.png").shape == (1, 2)
    Image.fromarray(np.zeros((16, 20), np.uint8)).save(photos / "cat" / "0.png")
    with pytest.raises(InputError, match="have changed since the run started"):
        train(photos, tmp_path, resume=True, epochs=2)
