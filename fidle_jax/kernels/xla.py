"""XLA's own convolution and pooling."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def conv(
    x: Float[Array, "batch height width channel"],
    w: Float[Array, "kernel_height kernel_width channel feature"],
) -> Float[Array, "batch out_height out_width feature"]:
    """Valid convolution with stride 1, by `jax.lax.conv_general_dilated`."""
    return lax.conv_general_dilated(
        x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def max_pool(
    x: Float[Array, "batch height width channel"], window: int
) -> Float[Array, "batch out_height out_width channel"]:
    """Max pooling over tiles of ``window``, by `jax.lax.reduce_window`."""
    tile = (1, window, window, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, tile, tile, "VALID")
