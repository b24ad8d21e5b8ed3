import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidle_jax.lessons.point_clouds import CLOUDS, CORNER_LABELS, CORNERS, best_line

WEIGHTS = st.floats(-100, 100)


@pytest.mark.parametrize("name", CLOUDS)
def test_points_are_on_the_plane_and_half_of_them_of_each_class(name):
    points, labels = CLOUDS[name](120, seed=3)
    assert points.shape == (120, 2)
    assert points.dtype == np.float32
    assert labels.dtype == np.int32
    assert np.abs(points).max() < 3
    np.testing.assert_array_equal(np.bincount(labels), [60, 60])


@pytest.mark.parametrize("name", CLOUDS)
def test_points_come_from_the_seed_alone(name):
    first, again, other = (CLOUDS[name](40, seed)[0] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


@given(w1=WEIGHTS, w2=WEIGHTS, constant=WEIGHTS)
def test_no_line_has_more_than_three_corners_of_the_square_right(w1, w2, constant):
    said = CORNERS.astype(np.float64) @ [w1, w2] + constant > 0
    assert np.mean(said == CORNER_LABELS) <= 0.75


def test_the_best_line_has_three_corners_right():
    assert best_line(CORNERS, CORNER_LABELS) == 0.75


def test_a_line_parts_the_blobs_and_none_parts_the_others():
    assert best_line(*CLOUDS["blobs"](240, seed=0)) > 0.99
    for name in ("xor", "moons", "rings"):
        assert best_line(*CLOUDS[name](240, seed=0)) < 0.95


def test_the_best_line_does_not_pass_between_points_on_one_place():
    points = np.zeros((4, 2), np.float32)
    assert best_line(points, np.array([0, 0, 1, 1])) == 0.5


def test_the_best_line_may_have_either_class_above_it():
    points, labels = np.array([[0, 0], [0, 1]], np.float32), np.array([1, 0])
    assert best_line(points, labels) == best_line(points, 1 - labels) == 1
