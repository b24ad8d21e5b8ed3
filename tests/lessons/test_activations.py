"""The activations' derivatives are those of calculus, and flat where they should be."""

import functools
import sys
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import ndtr

from fidle_jax.errors import InputError
from fidle_jax.lessons.activations import ACTIVATIONS, flat_parts, values_and_slopes

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments" / "lesson"))

from activations import Activations, teach


def sigmoid(x):
    return np.where(x > 0, 1, np.exp(-abs(x))) / (1 + np.exp(-abs(x)))


def density(x):
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


CLOSED_FORMS = {
    "step": (lambda x: x > 0, np.zeros_like),
    "sigmoid": (sigmoid, lambda x: sigmoid(x) * sigmoid(-x)),
    "tanh": (np.tanh, lambda x: 4 * sigmoid(2 * x) * sigmoid(-2 * x)),
    "ReLU": (lambda x: np.maximum(0, x), lambda x: x > 0),
    "leaky ReLU": (lambda x: np.where(x > 0, x, 0.01 * x), lambda x: np.where(x > 0, 1, 0.01)),
    "ELU": (lambda x: np.where(x > 0, x, np.expm1(-abs(x))), lambda x: np.exp(np.minimum(x, 0))),
    "softplus": (lambda x: np.maximum(x, 0) + np.log1p(np.exp(-abs(x))), sigmoid),
    "SiLU": (lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1 + x * sigmoid(-x))),
    "GELU": (lambda x: x * ndtr(x), lambda x: ndtr(x) + x * density(x)),
}

# Value and slope that each tends to far to the left; to the right a value where it is bounded, and a slope.
LIMITS = {
    "step": (0, 0, 1, 0),
    "sigmoid": (0, 0, 1, 0),
    "tanh": (-1, 0, 1, 0),
    "ReLU": (0, 0, None, 1),
    "leaky ReLU": (None, 0.01, None, 1),
    "ELU": (-1, 0, None, 1),
    "softplus": (0, 0, None, 1),
    "SiLU": (0, 0, None, 1),
    "GELU": (0, 0, None, 1),
}

# XLA takes what is smaller than float32's normal numbers for 0.
POINTS = arrays(np.float32, 16, elements=st.floats(-100, 100, width=32, allow_subnormal=False))
FAR = np.float32([1e4, 1e20, np.finfo(np.float32).max])
NAMES = pytest.mark.parametrize("name", ACTIVATIONS)


@functools.cache
def compiled(name):
    return jax.jit(functools.partial(values_and_slopes, ACTIVATIONS[name]))


def closed_form(name, x):
    value, slope = (np.asarray(form(np.float64(x)), np.float32) for form in CLOSED_FORMS[name])
    # Both slopes of a kink are right at it; the project's are those of jax.nn.
    if name == "leaky ReLU":
        slope = np.where(x == 0, np.float32(1), slope)
    return value, slope


@NAMES
@settings(max_examples=30)
@given(x=POINTS)
def test_values_and_derivatives_are_the_closed_forms(name, x):
    chex.assert_trees_all_close(compiled(name)(x), closed_form(name, x), rtol=2e-5, atol=2e-6)


@NAMES
def test_values_and_derivatives_at_0_and_beside_it_are_the_closed_forms(name):
    x = np.float32([0, 1e-30, -1e-30, 1e-4, -1e-4])
    chex.assert_trees_all_close(compiled(name)(x), closed_form(name, x), rtol=1e-5, atol=1e-6)


@NAMES
def test_far_from_0_all_is_finite_and_at_its_limit(name):
    left, left_slope, right, right_slope = LIMITS[name]
    for x, value, slope in ((-FAR, left, left_slope), (FAR, right, right_slope)):
        values, slopes = compiled(name)(x)
        chex.assert_tree_all_finite((values, slopes))
        expected = {"leaky ReLU": np.float32(0.01) * x}.get(name, x) if x[0] < 0 else x
        expected = expected if value is None else np.full(3, value, np.float32)
        chex.assert_trees_all_close((values, slopes), (expected, np.full(3, slope, np.float32)))


X = np.linspace(-8, 8, 16001, dtype=np.float32)


@given(st.floats(0.01, 0.24))
def test_the_sigmoid_saturates_where_its_slope_says_so(least):
    # s (1 - s) = least has two solutions, whose logits are these.
    root = np.sqrt(1 - 4 * least)
    edge = np.log((1 + root) / (1 - root))
    left, right = flat_parts(X, compiled("sigmoid")(X)[1], least)
    np.testing.assert_allclose((*left, *right), (-8, -edge, edge, 8), atol=2e-3)


def test_tanh_saturates_at_less_than_half_of_that():
    edge = np.arctanh(np.sqrt(1 - 0.05))
    left, right = flat_parts(X, compiled("tanh")(X)[1], 0.05)
    np.testing.assert_allclose((*left, *right), (-8, -edge, edge, 8), atol=2e-3)


def test_the_relu_is_flat_up_to_0_and_the_leaky_one_nowhere_where_its_leak_counts():
    assert flat_parts(X, compiled("ReLU")(X)[1]) == [(-8, 0)]
    assert flat_parts(X, compiled("leaky ReLU")(X)[1], 0.009) == []
    assert flat_parts(X, compiled("step")(X)[1]) == [(-8, 8)]


def test_a_single_point_is_no_flat_part():
    x, slopes = np.arange(6.0), np.array([0, 1, 0, 0, -1, 0.01])
    assert flat_parts(x, slopes) == [(2, 3)]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"span": 0.5}, "--span is 0.5; expected a number from 1 to 20"),
        ({"span": float("nan")}, "--span is nan"),
        ({"layers": 1}, "--layers is 1; expected a number from 2 to 100"),
        ({"layers": 101}, "--layers is 101"),
    ],
)
def test_flags_out_of_range_are_named(flags, named):
    with pytest.raises(InputError, match=named):
        teach(Activations(**flags))
