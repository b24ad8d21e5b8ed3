"""Flags out of range are rejected before a lesson starts."""

import pytest

from fidle_jax.cli.parse import check_ranges
from fidle_jax.errors import InputError
from fidle_jax.lessons.flags import (
    LESSONS,
    Activations,
    Classification,
    Convolution,
    DenseVsCNN,
    GradientDescent,
    Losses,
    Overfitting,
    Perceptron,
    Regression,
)


def check(flags):
    check_ranges(flags)
    flags.check()


@pytest.mark.parametrize("name", LESSONS)
def test_the_defaults_of_every_lesson_are_in_range(name):
    check(LESSONS[name]())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (Activations(span=0.5), "--span is 0.5; it must be between 1 and 20"),
        (Activations(span=float("nan")), "--span is nan"),
        (Activations(layers=1), "--layers is 1; it must be between 2 and 100"),
        (Activations(layers=101), "--layers is 101"),
        (Losses(logits=(1.0,)), "--logits has 1 numbers; expected 2 to 6"),
        (Losses(logits=(0.0,) * 7), "--logits has 7 numbers"),
        (Losses(logits=(1.0, 41.0)), "--logits is 41.0; it must be between -40 and 40"),
        (Losses(logits=(1.0, float("nan"))), "--logits is nan"),
        (Losses(label=3), "--label is 3; it must be between 0 and 2"),
        (Losses(label=-1), "--label is -1"),
        (Convolution(height=0), "--height is 0"),
        (Convolution(width=10_001), "--width is 10001"),
        (Convolution(planes=0), "--planes is 0"),
        (Convolution(kernels=-1), "--kernels is -1"),
        (Convolution(kernel_size=0), "--kernel-size is 0"),
        (Convolution(height=4, kernel_size=5), "--kernel-size is 5; it must be between 1 and 4"),
        (Overfitting(points=9), "--points is 9; it must be between 10 and 200"),
        (Overfitting(points=201), "--points is 201"),
        (Overfitting(noise=0.0), "--noise is 0.0"),
        (Overfitting(noise=1.5), "--noise is 1.5"),
        (Overfitting(degree_max=9), "--degree-max is 9; it must be between 10 and 100"),
        (Overfitting(degree_max=101), "--degree-max is 101"),
        (Overfitting(seed=-1), "--seed is -1"),
        (Overfitting(seed=2**31), "--seed is 2147483648"),
        (Perceptron(epochs=2001), "--epochs is 2001; it must be between 1 and 2000"),
        (Perceptron(learning_rate=0.0), "--learning-rate is 0.0"),
        (GradientDescent(epochs=19), "--epochs is 19; it must be between 20 and 1000"),
        (GradientDescent(batch_size=100), "--batch-size is 100; it must be between 2 and 99"),
        (GradientDescent(learning_rate=0.06), "--learning-rate is 0.06"),
        (Regression(batch_size=0), "--batch-size is 0; it must be between 1 and 128"),
        (Classification(learning_rate=1.0), "--learning-rate is 1.0"),
        (DenseVsCNN(steps=0), "--steps is 0; it must be between 1 and 100000"),
        (DenseVsCNN(seeds=101), "--seeds is 101"),
    ],
)
def test_a_flag_out_of_range_is_named_with_its_range(flags, message):
    with pytest.raises(InputError, match=message):
        check(flags)
