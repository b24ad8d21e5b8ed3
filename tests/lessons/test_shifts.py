"""Images that are moved."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidle_jax.lessons.shifts import DIRECTIONS, shifted


@given(st.integers(-7, 7), st.integers(-7, 7))
def test_each_pixel_moves_and_what_leaves_is_lost(down, right):
    images = np.random.default_rng(0).integers(1, 256, (2, 5, 4, 1), dtype=np.uint8)
    moved = shifted(images, down, right)
    for row in range(5):
        for column in range(4):
            from_row, from_column = row - down, column - right
            inside = 0 <= from_row < 5 and 0 <= from_column < 4
            expected = images[:, from_row, from_column] if inside else 0
            np.testing.assert_array_equal(moved[:, row, column], expected)


@pytest.mark.parametrize(("name", "place"), [("up", (1, 2)), ("down", (3, 2)), ("left", (2, 1))])
def test_the_directions_are_as_one_sees_them(name, place):
    image = np.zeros((1, 5, 5, 1), np.uint8)
    image[0, 2, 2] = 9
    moved = shifted(image, *DIRECTIONS[name])
    assert np.argwhere(moved[0, :, :, 0]).tolist() == [list(place)]
