"""Runs on own images: the same digits train the same parameters, and wrong images end in one line."""

import jax
import numpy as np
import pytest

from fidle_jax.cli.train import main
from fidle_jax.data import Dataset, Split
from fidle_jax.data.load import load_sample
from fidle_jax.errors import InputError
from fidle_jax.train import run as run_module
from fidle_jax.train.config import Config
from fidle_jax.train.custom import NO_OBJECTS, Custom
from fidle_jax.train.signals import Stop
from tests.data.own_files import make_classes, picture, prepared, save
from tests.data.test_own import FORMATS, STEP, write_digits

SETTINGS = {"recipe": "course", "epochs": 1, "batch_size": 64, "model": "dnn", "progress": False}


@pytest.fixture
def train(monkeypatch, tmp_path):
    """``train(dataset, custom)`` returns the parameters after a short run."""
    found = []
    evaluate = run_module.evaluate_test

    def keep(model, best, *arguments):
        found.append(best)
        return evaluate(model, best, *arguments)

    monkeypatch.setattr(run_module, "evaluate_test", keep)

    def run(dataset, custom=NO_OBJECTS, **settings):
        folder = tmp_path / f"run {len(found)}"
        paths = {"run_dir": folder, "data_dir": tmp_path / "data"}
        config = Config().replace(dataset=dataset, **SETTINGS | paths | settings)
        run_module.run(config, "images_cnn", "images_cnn.py", Stop(), custom=custom)
        return found[-1]

    return run


def _some_digits():
    """Return the digits of `write_digits` as a data set from memory."""
    sample = load_sample(0)
    splits = {}
    for split, step in STEP.items():
        content = sample.read(split)
        splits[split] = Split(content.images[::step], content.labels[::step])
    sizes = {f"{split}_examples": len(each.labels) for split, each in splits.items()}
    return Dataset(
        name="mnist",
        variant="sample",
        class_names=sample.class_names,
        image_shape=sample.image_shape,
        read=lambda split: splits[split],
        open=lambda split: splits[split],
        **sizes,
    )


def _with(*kinds):
    slow = (pytest.param(kind, marks=pytest.mark.slow) for kind in FORMATS if kind not in kinds)
    return [*kinds, *slow]


@pytest.mark.parametrize("kind", _with("npz"))
def test_the_same_digits_train_the_same_parameters_in_all_formats(tmp_path, train, kind):
    path = write_digits(tmp_path / "digits", kind)
    own = train(str(path), hold_out="examples")
    sample = train("mnist", Custom(dataset=_some_digits()), hold_out="examples")
    jax.tree.map(np.testing.assert_array_equal, own, sample)


def test_a_run_is_not_resumed_with_changed_images(tmp_path, train):
    folder = make_classes(tmp_path / "images", count=10)
    train(str(folder), batch_size=4)
    save(folder / "ant" / "0.png", picture(99))
    with pytest.raises(InputError, match="have changed since the run started; restore them"):
        train(str(folder), batch_size=4, run_dir=tmp_path / "run 0", resume=True)


@pytest.mark.parametrize("wrong", ["missing", "empty", "damaged"])
def test_the_command_ends_with_code_2_and_one_line(tmp_path, capsys, wrong):
    folder = make_classes(tmp_path / "images") if wrong == "damaged" else tmp_path / wrong
    if wrong == "empty":
        folder.mkdir()
    if wrong == "damaged":
        (folder / "ant" / "0.png").write_bytes(b"hello")
    words = ["--dataset", folder, "--data-dir", tmp_path / "data", "--run-dir", tmp_path / "run"]
    with pytest.raises(SystemExit) as caught:
        main("images_cnn", "Own images.", Config().replace(dataset=""), list(map(str, words)))
    errors = capsys.readouterr().err
    assert caught.value.code == 2
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert not prepared(tmp_path / "data")
    assert not (tmp_path / "run").exists()
