import numpy as np

from fidle_jax.kernels.winograd import KERNEL, OUTPUT, TILE, combine


def test_four_products_compute_two_outputs_of_a_kernel_of_three():
    tile, kernel = np.random.default_rng(0).integers(-9, 10, size=(2, 4))
    outputs = OUTPUT @ ((TILE @ tile) * (KERNEL @ kernel[:3]))
    np.testing.assert_array_equal(outputs, np.correlate(tile, kernel[:3]))


def test_the_factors_are_halves_and_ones():
    assert {abs(factor) for step in (TILE, KERNEL, OUTPUT) for factor in np.ravel(step)} == {
        0,
        0.5,
        1,
    }


def test_a_combination_is_the_sum_of_arrays_times_factors():
    arrays = [np.float32([1, 2]), np.float32([3, 4]), np.float32([5, 6]), np.float32([7, 8])]
    np.testing.assert_array_equal(combine(np.array([1, -1, 0, 0.5]), arrays), [1.5, 2])
    assert combine(np.array([0.1, 0, 0, 0]), arrays).dtype == np.float32
