"""Which examples a run is tried on, and which of these are no test of it."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from fidle_jax.data import Dataset, Split
from fidle_jax.errors import InputError
from tests.inference.conftest import finished_run

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))

import _evaluate_subjects
from _evaluate_subjects import Source, read_subjects

OWN = Source(dataset=None, crop=None, data=None, archives=None, data_dir=None)
DIGITS = tuple("0123456789")


@pytest.fixture(scope="module")
def run(tmp_path_factory, compilation_cache):
    return finished_run(tmp_path_factory)


@pytest.fixture
def altered(run, tmp_path):
    """A copy of the run that says something else of how it was trained."""

    def alter(**changes):
        copy = tmp_path / "altered"
        shutil.copytree(run, copy)
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps(config | changes))
        return copy

    return alter


def made_up(shape=(28, 28, 1), class_names=DIGITS, variant="full"):
    images = np.random.default_rng(0).integers(0, 256, (20, *shape), np.uint8)
    split = Split(images, np.arange(20, dtype=np.int32) % len(class_names))
    return Dataset("tfds:made_up", variant, class_names, shape, 20, 20, lambda split_: split)


def test_by_default_it_is_the_runs_own_test_split(run):
    (subject,), test = read_subjects((run,), OWN)
    with np.load(run / "evaluation.npz") as kept:
        np.testing.assert_array_equal(test.images, kept["images"])
        np.testing.assert_array_equal(subject.logits.argmax(1), kept["probabilities"].argmax(1))
    assert test.title() == "mnist (sample)"
    assert (subject.name, subject.seen, subject.chosen_on_test) == ("cnn", 0, False)
    logits, labels = subject.validation
    assert logits.shape == (400, 10)
    assert (logits.argmax(1) == labels).mean() > 0.8


def test_another_set_of_the_same_classes_is_taken_where_it_is_asked_for(run, monkeypatch):
    own = _evaluate_subjects.load_dataset

    def load_dataset(name, **how):
        return made_up() if name == "tfds:made_up" else own(name, **how)

    monkeypatch.setattr(_evaluate_subjects, "load_dataset", load_dataset)
    (subject,), test = read_subjects((run,), dataclasses.replace(OWN, dataset="tfds:made_up"))
    assert test.title() == "tfds:made_up (full)"
    np.testing.assert_array_equal(test.images, made_up().read("test").images)
    assert subject.logits.shape == (20, 10)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (
            made_up(shape=(32, 32, 3)),
            "tfds:made_up has images of 32x32x3; the network of .* 28x28x1",
        ),
        (
            made_up(class_names=tuple("01")),
            "tfds:made_up has 2 classes; the network of .* tells 10",
        ),
        (
            made_up(class_names=(*DIGITS[:9], "shirt")),
            "has a class 'shirt'; the network of .* has '9' in its place",
        ),
    ],
)
def test_a_set_that_does_not_fit_is_refused(run, monkeypatch, dataset, message):
    monkeypatch.setattr(_evaluate_subjects, "load_dataset", lambda *_, **__: dataset)
    with pytest.raises(InputError, match=message):
        read_subjects((run,), dataclasses.replace(OWN, dataset="tfds:made_up"))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"data": "all"}, "unknown value of --data 'all'"),
        ({"crop": "roi"}, "--crop is roi, which mnist has not annotated"),
        ({"dataset": "24x24-L", "data": "sample"}, "24x24-L has no sample"),
    ],
)
def test_a_set_that_there_is_not_is_refused(run, asked, message):
    with pytest.raises(InputError, match=message):
        read_subjects((run,), dataclasses.replace(OWN, **asked))


def test_two_runs_of_which_one_was_trained_on_the_test_examples_are_not_compared(run, altered):
    # Another draw of the sample: most of one's test digits are among the other's training digits.
    other = altered(seed=1)
    with pytest.raises(InputError, match=r"altered was trained on [67]\d\d of the 1,000 test ex"):
        read_subjects((run, other), OWN)


def test_two_runs_of_other_classes_are_not_compared(run, altered):
    other = altered()
    model = json.loads((other / "model.json").read_text())
    (other / "model.json").write_text(json.dumps(model | {"class_names": list("012345678X")}))
    with pytest.raises(
        InputError, match=r"mnist \(sample\) has a class '9'; the network of .* 'X'"
    ):
        read_subjects((run, other), OWN)


def test_an_epoch_that_was_chosen_on_the_test_set_is_told(altered):
    (subject,), _ = read_subjects((altered(hold_out="test", validation_fraction=0.0),), OWN)
    assert subject.chosen_on_test
    assert subject.validation.startswith("it held nothing out")


def test_where_the_data_is_gone_the_run_is_tested_all_the_same(run, monkeypatch):
    def training_parts(config):
        raise InputError("the disk is gone")

    monkeypatch.setattr(_evaluate_subjects, "training_parts", training_parts)
    (subject,), test = read_subjects((run,), OWN)
    assert len(subject.logits) == len(test.labels) == 1000
    assert "the disk is gone" in subject.validation
