"""A step's task is what the config asks for, of the data set that there is."""

import dataclasses

import numpy as np
import optax
import pytest

from fidle_jax.data.augment import NO_AUGMENTATION
from fidle_jax.errors import InputError
from fidle_jax.nn import DNN
from fidle_jax.train.config import Config, resolve
from fidle_jax.train.task import augmentation, make_task

LABELS = np.array([0, 0, 0, 1, 1, 2])


def task_of(dataset, **flags):
    config = resolve(Config(**flags), "full")
    return make_task(config, dataset, DNN(3), optax.constant_schedule(1e-3), LABELS)


def test_class_weights_are_those_of_the_training_labels(squares):
    assert task_of(squares).class_weights == ()
    inverse = task_of(squares, class_weights="inverse").class_weights
    assert inverse == pytest.approx((2 / 3, 1, 2))
    effective = task_of(squares, class_weights="effective").class_weights
    assert inverse != effective == pytest.approx(inverse, rel=0.01)  # with few, all samples count


def test_the_ranges_are_those_of_the_config(squares):
    assert augmentation(resolve(Config(), "full"), squares) == NO_AUGMENTATION
    ranges = task_of(squares, shift=0.25, cutout=0.3).ranges
    assert (ranges.warp.shift, ranges.cutout, ranges.mirrored) == (3.0, 0.3, ())  # pixels of 12


def test_flips_need_a_data_set_whose_mirror_images_are_known(squares):
    with pytest.raises(InputError, match=r"--flips is 0.5; expected 0, as it is not known which"):
        task_of(squares, flips=0.5)
    known = dataclasses.replace(squares, mirrored=(1, 0, -1))
    assert task_of(known, flips=0.5).ranges.mirrored == (1, 0, -1)
    assert task_of(known).ranges == NO_AUGMENTATION
