import chex
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate

from fidle_jax.kernels import xla

SIZES = st.tuples(*[st.integers(1, 4)] * 2, *[st.integers(0, 4)] * 2, *[st.integers(1, 3)] * 3)


def _integers(seed, shape):
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)


@settings(max_examples=8)
@given(SIZES)
def test_conv_is_the_correlation_that_scipy_computes(sizes):
    kernel_height, kernel_width, more_rows, more_columns, batch, channels, features = sizes
    x = _integers(0, (batch, kernel_height + more_rows, kernel_width + more_columns, channels))
    w = _integers(1, (kernel_height, kernel_width, channels, features))

    y = xla.conv(x, w)

    chex.assert_shape(y, (batch, more_rows + 1, more_columns + 1, features))
    judged = [
        [correlate(image, w[..., i], "valid", "direct")[..., 0] for i in range(features)]
        for image in x
    ]
    np.testing.assert_array_equal(y, np.moveaxis(judged, 1, -1))


def test_conv_of_a_5x5_image_by_a_kernel_of_crosses_has_the_sums_worked_out_by_hand():
    image = jnp.array(
        [[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 1, 0, 0]],
        jnp.float32,
    )
    kernel = jnp.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]], jnp.float32)

    y = xla.conv(image[None, :, :, None], kernel[:, :, None, None])[0, :, :, 0]

    np.testing.assert_array_equal(y, [[4, 3, 4], [2, 4, 3], [2, 3, 4]])


def test_conv_does_not_turn_the_kernel_round():
    x = jnp.zeros((1, 3, 3, 1)).at[0, 0, 0, 0].set(1)
    w = jnp.arange(9, dtype=jnp.float32).reshape(3, 3, 1, 1)
    assert xla.conv(x, w).item() == 0
    assert xla.conv(x[:, ::-1, ::-1], w).item() == 8


@settings(max_examples=8)
@given(st.integers(1, 3), st.tuples(*[st.integers(0, 7)] * 2), st.integers(0, 3))
def test_max_pool_is_the_maximum_of_whole_tiles_and_drops_what_is_left_over(window, more, batch):
    height, width = (window + extra for extra in more)
    x = _integers(2, (batch, height, width, 2))
    rows, columns = height // window, width // window

    y = xla.max_pool(x, window)

    tiles = x[:, : rows * window, : columns * window].reshape(
        batch, rows, window, columns, window, 2
    )
    np.testing.assert_array_equal(y, tiles.max(axis=(2, 4)))


def test_max_pool_of_negative_values_is_negative():
    assert xla.max_pool(jnp.full((1, 2, 2, 1), -3.0), 2).item() == -3


def test_the_gradient_of_max_pool_goes_to_the_first_of_equal_values():
    gradient = jax.grad(lambda x: xla.max_pool(x, 2).sum())(jnp.ones((1, 2, 3, 1)))
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[1, 0, 0], [0, 0, 0]])
