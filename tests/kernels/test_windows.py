import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from fidle_jax.kernels.windows import (
    conv_windows,
    pad,
    per_axis,
    resolve_windows,
    shifted_slices,
    times,
)

NUMBERS = st.integers(1, 12)


@given(st.integers(1, 40), NUMBERS, NUMBERS, NUMBERS)
def test_same_is_the_rule_of_tensorflow_and_keras(side, window, stride, dilation):
    windows = resolve_windows([side], [window], stride, "same", dilation)
    span = (window - 1) * dilation + 1
    total = max((math.ceil(side / stride) - 1) * stride + span - side, 0)
    assert windows.count == (math.ceil(side / stride),)
    assert windows.padding == ((total // 2, total - total // 2),)


@given(st.integers(1, 40), NUMBERS, NUMBERS, NUMBERS, st.tuples(*[st.integers(0, 5)] * 2))
def test_the_windows_counted_are_those_whose_last_value_still_lies_in_the_image(
    side, window, stride, dilation, sides
):
    last = (window - 1) * dilation
    padded = side + sum(sides)
    starts = [at for at in range(0, padded, stride) if at + last < padded]
    if starts:
        assert resolve_windows([side], window, stride, [sides], dilation).count == (len(starts),)
    else:
        with pytest.raises(ValueError, match="too small for a window"):
            resolve_windows([side], window, stride, [sides], dilation)


def test_numbers_stand_for_every_axis_and_for_both_sides():
    spelled_out = resolve_windows((7, 8), (3, 3), (2, 2), [(1, 1), (1, 1)], (1, 1))
    assert resolve_windows((7, 8), 3, 2, 1) == spelled_out
    assert resolve_windows((7, 8), 3, 2, [1, (1, 1)]) == spelled_out
    assert resolve_windows((7, 8), 3, 2, "VALID") == resolve_windows((7, 8), 3, 2, 0)


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
        (((9, 9), (3,)), r"window \(3,\); expected a whole number of 1 or more, or 2 of them"),
        (
            ((9, 9), 3, (1, 2, 3)),
            r"strides \(1, 2, 3\); expected a whole number of 1 or more, or 2",
        ),
        (((9, 9), 3, 0), "strides 0; expected a whole number of 1 or more"),
        (((9, 9), 3, 1, 0, -1), "dilation -1; expected a whole number of 1 or more"),
        (((9, 9), 3, 1.5), "strides 1.5; expected a whole number of 1 or more"),
        (((9, 9), 3, 1, "full"), "unknown padding 'full'; expected 'valid', 'same' or numbers"),
        (((9, 9), 3, 1, -1), "padding -1; expected 'valid', 'same', a number of 0 or more"),
        (((9, 9), 3, 1, [(1, 1)]), r"padding \[\(1, 1\)\]; .* each of the 2 spatial axes a number"),
        (((9,), 3, 1, [(1, 1, 1)]), r"padding \[\(1, 1, 1\)\]; expected .* a pair \(before, after"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        resolve_windows(*arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "groups", "message"),
    [
        ((1, 9, 9, 1), (3, 1, 1), 1, "x of 4 axes and w of 3; expected the same number, 3 or more"),
        ((1, 9), (3, 1), 1, "x of 2 axes and w of 2; expected the same number, 3 or more"),
        ((1, 9, 4), (3, 3, 2), 1, "x of 4 channels and w of 3 channels and 2 features in 1 groups"),
        ((1, 9, 4), (3, 4, 2), 2, "expected channels of x = channels of w times groups"),
        ((1, 9, 4), (3, 2, 3), 2, "3 features in 2 groups; .* features that the groups divide"),
        ((1, 9, 4), (3, 4, 2), 0, "in 0 groups"),
    ],
)
def test_arrays_that_do_not_go_together_are_named_in_one_line(x_shape, w_shape, groups, message):
    with pytest.raises(ValueError, match=message) as error:
        conv_windows(jnp.ones(x_shape), jnp.ones(w_shape), 1, "valid", 1, groups)
    assert "\n" not in str(error.value)


def test_one_number_stands_for_each_axis_and_sequences_for_themselves():
    assert per_axis("strides", 2, 3) == (2, 2, 2)
    assert per_axis("strides", [1, np.int64(2)], 2) == (1, 2)


def test_sizes_are_written_as_people_do():
    assert times((3, 3, 2)) == "3x3x2"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_pad_puts_a_value_around_the_spatial_axes_alone(dtype):
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
    windows = resolve_windows(spatial, size, strides, "valid", dilation)
    slices = shifted_slices(jnp.asarray(x), windows)

    rank = len(spatial)
    span = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
    seen = sliding_window_view(x, span, tuple(range(1, 1 + rank)))
    seen = seen[(slice(None), *(slice(None, None, s) for s in strides))]
    seen = seen[(..., *(slice(None, None, d) for d in dilation))]
    values = seen.reshape(*seen.shape[: 2 + rank], -1)
    np.testing.assert_array_equal(np.stack(slices, axis=-1), values)
