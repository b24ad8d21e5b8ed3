import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from fidle_jax.kernels.geometry import (
    conv_geometry,
    format_sizes,
    pad,
    per_axis,
    resolve_geometry,
    shifted_slices,
)

NUMBERS = st.integers(1, 12)


@given(st.integers(1, 40), NUMBERS, NUMBERS, NUMBERS)
def test_same_is_the_rule_of_tensorflow_and_keras(side, window, stride, dilation):
    windows = resolve_geometry([side], [window], stride, "same", dilation)
    span = (window - 1) * dilation + 1
    total = max((math.ceil(side / stride) - 1) * stride + span - side, 0)
    assert windows.count == (math.ceil(side / stride),)
    assert windows.padding == ((total // 2, total - total // 2),)


@given(st.integers(1, 40), NUMBERS, NUMBERS, NUMBERS, st.tuples(*[st.integers(0, 5)] * 2))
def test_windows_are_counted_if_their_last_value_is_in_the_image(
    side, window, stride, dilation, sides
):
    last = (window - 1) * dilation
    padded = side + sum(sides)
    starts = [at for at in range(0, padded, stride) if at + last < padded]
    if starts:
        assert resolve_geometry([side], window, stride, [sides], dilation).count == (len(starts),)
    else:
        with pytest.raises(ValueError, match="too small for a window"):
            resolve_geometry([side], window, stride, [sides], dilation)


def test_one_integer_applies_to_every_axis_and_to_both_sides():
    spelled_out = resolve_geometry((7, 8), (3, 3), (2, 2), [(1, 1), (1, 1)], (1, 1))
    assert resolve_geometry((7, 8), 3, 2, 1) == spelled_out
    assert resolve_geometry((7, 8), 3, 2, [1, (1, 1)]) == spelled_out
    assert resolve_geometry((7, 8), 3, 2, "VALID") == resolve_geometry((7, 8), 3, 2, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((2, 9), 3), "an image of 2x9 is too small for a window of 3x3; expected at least that"),
        (((5,), 3, 1, 0, 3), "an image of 5 is too small for a window of 7; expected"),
        (
            ((2,), 5, 1, 1),
            "an image of 4 with its padding is too small for a window of 5; expected",
        ),
        (((0, 3), 1), "an image of 0x3 is too small for a window of 1x1; expected"),
        (((9, 9), (3,)), r"window is \(3,\); it must be a positive integer, or 2 of them"),
        (
            ((9, 9), 3, (1, 2, 3)),
            r"strides is \(1, 2, 3\); it must be a positive integer, or 2 of them",
        ),
        (((9, 9), 3, 0), "strides is 0; it must be a positive integer"),
        (((9, 9), 3, 1, 0, -1), "dilation is -1; it must be a positive integer"),
        (((9, 9), 3, 1.5), "strides is 1.5; it must be a positive integer"),
        (((9, 9), 3, 1, "full"), "unknown padding 'full'; it must be 'valid', 'same', an integer"),
        (((9, 9), 3, True), "strides is True; it must be a positive integer"),
        (((9, 9), 3, "2"), "strides is '2'; it must be a positive integer"),
        (((9, 9), 3, 1, -1), "padding is -1; it must be 'valid', 'same', a non-negative integer"),
        (((9, 9), 3, 1, 0.5), "padding is 0.5; it must be 'valid', 'same', a non-negative integer"),
        (((9, 9), 3, 1, None), "padding is None; it must be 'valid', 'same', a non-negative int"),
        (((9, 9), 3, 1, [(1, 1)]), r"padding is \[\(1, 1\)\]; .* each of the 2 spatial axes an in"),
        (((9,), 3, 1, [(1, 1, 1)]), r"padding is \[\(1, 1, 1\)\]; .* a pair \(before, after\)"),
    ],
)
def test_wrong_arguments_raise_an_error_of_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        resolve_geometry(*arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "groups", "message"),
    [
        (
            (1, 9, 9, 1),
            (3, 1, 1),
            1,
            "x has 4 axes and w has 3; expected the same number, at least 3",
        ),
        ((1, 9), (3, 1), 1, "x has 2 axes and w has 2; expected the same number, at least 3"),
        ((1, 9, 4), (3, 3, 2), 1, "x has 4 channels, w has 3 channels and 2 features, groups is 1"),
        ((1, 9, 4), (3, 4, 2), 2, "expected channels of x = channels of w [*] groups"),
        ((1, 9, 4), (3, 2, 3), 2, "3 features, groups is 2; .* features divisible by groups"),
        ((1, 9, 4), (3, 4, 2), 0, "groups is 0; it must be a positive integer"),
    ],
)
def test_arrays_that_do_not_match_raise_an_error_of_one_line(x_shape, w_shape, groups, message):
    with pytest.raises(ValueError, match=message) as error:
        conv_geometry(jnp.ones(x_shape), jnp.ones(w_shape), 1, "valid", 1, groups)
    assert "\n" not in str(error.value)


def test_one_integer_is_repeated_for_each_axis_and_a_sequence_is_not():
    assert per_axis("strides", 2, 3) == (2, 2, 2)
    assert per_axis("strides", [1, np.int64(2)], 2) == (1, 2)


@pytest.mark.parametrize(
    "value", [2, 2.0, np.int64(2), np.uint8(2), np.array(2), np.array([2, 2]), [2, 2.0]], ids=repr
)
def test_integers_of_any_numeric_type_become_python_integers(value):
    sizes = per_axis("strides", value, 2)
    assert sizes == (2, 2)
    assert {type(size) for size in sizes} == {int}


def test_none_is_the_default_of_strides_and_dilation():
    assert resolve_geometry((7, 8), 3, None, "valid", None) == resolve_geometry((7, 8), 3)


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        (np.int64(1), 1),
        (np.array(1), 1),
        (np.array([1, 2]), [1, 2]),
        (np.array([[1, 0], [0, 1]]), [(1, 0), (0, 1)]),
        ([np.int32(2), np.array([0, 1])], [2, (0, 1)]),
    ],
    ids=str,
)
def test_arguments_may_be_numpy_integers_and_arrays(padding, expected):
    windows = resolve_geometry((7, 8), np.array([3, 3]), np.array([2, 1]), padding, np.int64(1))
    assert windows == resolve_geometry((7, 8), 3, (2, 1), expected)


@pytest.mark.parametrize("groups", [None, 1, 1.0, np.int64(1), np.array(1)], ids=repr)
def test_groups_may_be_none_or_any_integer(groups):
    x, w = jnp.ones((1, 9, 4)), jnp.ones((3, 4, 2))
    assert conv_geometry(x, w, 1, "valid", 1, groups).count == (7,)


@pytest.mark.parametrize("groups", [1.5, "1", True, (1,), -1], ids=repr)
def test_groups_other_than_an_integer_raise_an_error_of_one_line(groups):
    with pytest.raises(ValueError, match=r"groups is .*; it must be a positive integer") as error:
        conv_geometry(jnp.ones((1, 9, 4)), jnp.ones((3, 4, 2)), 1, "valid", 1, groups)
    assert "\n" not in str(error.value)


def test_sizes_are_joined_by_x():
    assert format_sizes((3, 3, 2)) == "3x3x2"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_pad_adds_a_value_around_the_spatial_axes_only(dtype):
    x = jnp.arange(1, 13, dtype=dtype).reshape(1, 2, 3, 2)
    padded = pad(x, ((1, 0), (0, 2)), -jnp.inf)
    expected = np.pad(x, [(0, 0), (1, 0), (0, 2), (0, 0)], constant_values=-np.inf)
    np.testing.assert_array_equal(padded, expected)
    assert padded.dtype == dtype


@pytest.mark.parametrize(
    ("spatial", "size", "strides", "dilation"),
    [
        ((7,), (3,), (2,), (1,)),
        ((6, 7), (2, 3), (1, 2), (2, 1)),
        ((3, 4, 5), (2, 1, 2), (1, 1, 3), (1, 1, 2)),
    ],
)
def test_shifted_slices_are_each_value_of_the_window_in_all_windows(
    spatial, size, strides, dilation
):
    x = np.arange(2 * math.prod(spatial) * 3, dtype=np.float32).reshape(2, *spatial, 3)
    windows = resolve_geometry(spatial, size, strides, "valid", dilation)
    slices = shifted_slices(jnp.asarray(x), windows)

    rank = len(spatial)
    span = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
    seen = sliding_window_view(x, span, tuple(range(1, 1 + rank)))
    seen = seen[(slice(None), *(slice(None, None, s) for s in strides))]
    seen = seen[(..., *(slice(None, None, d) for d in dilation))]
    values = seen.reshape(*seen.shape[: 2 + rank], -1)
    np.testing.assert_array_equal(np.stack(slices, axis=-1), values)
