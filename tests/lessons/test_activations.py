"""The derivatives of the activations are correct, and so are the flat intervals."""

import functools

import chex
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit, ndtr

from fidle_jax.lessons.activations import (
    ACTIVATIONS,
    activations_figure,
    flat_intervals,
    values_and_slopes,
    vanishing_figure,
)


def density(x):
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


CLOSED_FORMS = {
    "step": (lambda x: x > 0, np.zeros_like),
    "sigmoid": (expit, lambda x: expit(x) * expit(-x)),
    "tanh": (np.tanh, lambda x: 4 * expit(2 * x) * expit(-2 * x)),
    "ReLU": (lambda x: np.maximum(0, x), lambda x: x > 0),
    "leaky ReLU": (lambda x: np.where(x > 0, x, 0.01 * x), lambda x: np.where(x > 0, 1, 0.01)),
    "ELU": (lambda x: np.where(x > 0, x, np.expm1(-abs(x))), lambda x: np.exp(np.minimum(x, 0))),
    "softplus": (lambda x: np.maximum(x, 0) + np.log1p(np.exp(-abs(x))), expit),
    "SiLU": (lambda x: x * expit(x), lambda x: expit(x) * (1 + x * expit(-x))),
    "GELU": (lambda x: x * ndtr(x), lambda x: ndtr(x) + x * density(x)),
}

# Limits far to the left and right: value (None if unbounded) and slope on each side.
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

# XLA flushes subnormal float32 numbers to 0.
POINTS = arrays(np.float32, 16, elements=st.floats(-100, 100, width=32, allow_subnormal=False))
FAR = np.float32([1e4, 1e20, np.finfo(np.float32).max])
X = np.linspace(-8, 8, 16001, dtype=np.float32)
NAMES = pytest.mark.parametrize("name", ACTIVATIONS)


@functools.cache
def compiled(name):
    return jax.jit(functools.partial(values_and_slopes, ACTIVATIONS[name][0]))


def closed_form(name, x):
    value, slope = (np.asarray(form(np.float64(x)), np.float32) for form in CLOSED_FORMS[name])
    # At a kink both slopes are valid. jax.nn uses this one.
    if name == "leaky ReLU":
        slope = np.where(x == 0, np.float32(1), slope)
    return value, slope


@NAMES
@settings(max_examples=30)
@given(x=POINTS)
def test_values_and_derivatives_match_the_closed_forms(name, x):
    chex.assert_trees_all_close(compiled(name)(x), closed_form(name, x), rtol=2e-5, atol=2e-6)


@NAMES
def test_values_and_derivatives_at_0_and_close_to_it_match_the_closed_forms(name):
    x = np.float32([0, 1e-30, -1e-30, 1e-4, -1e-4])
    chex.assert_trees_all_close(compiled(name)(x), closed_form(name, x), rtol=1e-5, atol=1e-6)


@NAMES
def test_far_from_0_everything_is_finite_and_at_its_limit(name):
    left, left_slope, right, right_slope = LIMITS[name]
    for x, value, slope in ((-FAR, left, left_slope), (FAR, right, right_slope)):
        values, slopes = compiled(name)(x)
        chex.assert_tree_all_finite((values, slopes))
        expected = {"leaky ReLU": np.float32(0.01) * x}.get(name, x) if x[0] < 0 else x
        expected = expected if value is None else np.full(3, value, np.float32)
        chex.assert_trees_all_close((values, slopes), (expected, np.full(3, slope, np.float32)))


@pytest.mark.parametrize("threshold", [0.01, 0.05, 0.2, 0.24])
def test_the_sigmoid_saturates_where_its_slope_falls_below_the_threshold(threshold):
    # s (1 - s) = threshold has two solutions with these logits.
    root = np.sqrt(1 - 4 * threshold)
    edge = np.log((1 + root) / (1 - root))
    left, right = flat_intervals(X, compiled("sigmoid")(X)[1], threshold)
    np.testing.assert_allclose((*left, *right), (-8, -edge, edge, 8), atol=2e-3)


def test_tanh_saturates_where_its_slope_falls_below_the_threshold():
    edge = np.arctanh(np.sqrt(1 - 0.05))
    left, right = flat_intervals(X, compiled("tanh")(X)[1], 0.05)
    np.testing.assert_allclose((*left, *right), (-8, -edge, edge, 8), atol=2e-3)


def test_the_relu_is_flat_up_to_0_and_the_leaky_relu_is_not_below_its_own_slope():
    assert flat_intervals(X, compiled("ReLU")(X)[1]) == [(-8, 0)]
    assert flat_intervals(X, compiled("leaky ReLU")(X)[1], 0.009) == []
    assert flat_intervals(X, compiled("step")(X)[1]) == [(-8, 8)]


def test_a_single_point_is_not_a_flat_interval():
    x, slopes = np.arange(6.0), np.array([0, 1, 0, 0, -1, 0.01])
    assert flat_intervals(x, slopes) == [(2, 3)]


def test_each_activation_has_a_panel_with_its_derivative_and_its_flat_intervals():
    x = np.linspace(-2, 2, 5)
    values = {name: x * i for i, name in enumerate("abcd")}
    slopes = {name: np.full(5, float(i)) for i, name in enumerate("abcd")}
    flat = {"a": [(-2, 2)], "b": [], "c": [(-2, -1), (1, 2)], "d": []}
    figure = activations_figure(x, values, slopes, flat)
    assert [axes.get_title() for axes in figure.axes] == list("abcd")
    assert [len(axes.patches) for axes in figure.axes] == [1, 0, 2, 0]
    drawn = {line.get_label(): line.get_ydata() for line in figure.axes[2].lines}
    np.testing.assert_array_equal(drawn["activation"], 2 * x)
    np.testing.assert_array_equal(drawn["derivative"], np.full(5, 2))
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["flat", "activation", "derivative"]


def test_the_remaining_gradient_has_a_curve_for_each_activation_on_a_logarithmic_axis():
    share = {"ReLU": np.ones(4), "sigmoid": 0.25 ** np.arange(4)}
    (axes,) = vanishing_figure(share).axes
    assert axes.get_yscale() == "log"
    for line, (name, values) in zip(axes.lines, share.items(), strict=True):
        assert line.get_label() == name
        np.testing.assert_array_equal(line.get_ydata(), values)
