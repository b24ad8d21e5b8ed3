import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidle_jax.kernels.winograd import FOURS, PAIRS, combine, make_filtering

POINTS = st.lists(st.integers(-8, 8).map(lambda n: n / 4), min_size=2, max_size=7, unique=True)


def _assert_filters(transforms):
    """Check the outputs of a kernel of 3 on one tile."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=transforms.size), rng.normal(size=3)
    outputs = transforms.output @ ((transforms.tile @ x) * (transforms.kernel @ w))
    # Each factor is rounded, and later steps may cancel most of the result.
    steps = (transforms.output, transforms.tile, transforms.kernel)
    rounding = 1e-14 * np.prod([np.abs(step).sum(axis=1).max() for step in steps])
    np.testing.assert_allclose(outputs, np.correlate(x, w), rtol=0, atol=rounding)


@pytest.mark.parametrize(("transforms", "step"), [(PAIRS, 2), (FOURS, 4)])
def test_a_tile_computes_its_outputs_by_two_more_products(transforms, step):
    assert (transforms.step, transforms.size) == (step, step + 2)
    _assert_filters(transforms)


@given(POINTS)
def test_any_different_points_compute_the_filter(points):
    _assert_filters(make_filtering(points))


def test_the_factors_of_pairs_are_halves_and_ones():
    assert {abs(factor) for step in PAIRS for factor in np.ravel(step)} == {0, 0.5, 1}


def test_a_combination_is_the_sum_of_arrays_times_factors():
    arrays = [np.float32([1, 2]), np.float32([3, 4]), np.float32([5, 6]), np.float32([7, 8])]
    np.testing.assert_array_equal(combine(np.array([1, -1, 0, 0.5]), arrays), [1.5, 2])
    assert combine(np.array([0.1, 0, 0, 0]), arrays).dtype == np.float32
