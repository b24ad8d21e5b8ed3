"""Convolution, bias, ReLU and max pooling as one matmul and one maximum.

All that one pooled value depends on is a patch of side ``kernel + window - 1``, and patches follow
each other at the stride of the pooling. So the kernel is laid out at each of its window² positions
within the patch, one matmul gives the convolution at all of them, and the maximum is taken over
those. The gradient of the maximum is written by hand: it goes to the first of equal positions, and
what it needs is recomputed from the matmul's result, not stored.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def conv_pool(
    x: Float[Array, "batch height width channel"],
    w: Float[Array, "kernel_height kernel_width channel feature"],
    b: Float[Array, " feature"],
    window: int,
) -> Float[Array, "batch out_height out_width feature"]:
    """``max_pool(relu(conv(x, w) + b), window)``; reverse mode only (`jax.custom_vjp`)."""
    positions = _convolve_at_positions(x, w, window)
    return _bias_relu_max(positions, b)


def _convolve_at_positions(x, w, window):
    """The convolution's values as (batch, out_height, out_width, window², feature)."""
    kernel_height, kernel_width, channels, features = w.shape
    batch, height, width, _ = x.shape
    out_height = (height - kernel_height + 1) // window
    out_width = (width - kernel_width + 1) // window
    patch_height, patch_width = kernel_height + window - 1, kernel_width + window - 1

    patches = jnp.concatenate(
        [
            x[:, i : i + window * out_height : window, j : j + window * out_width : window]
            for i in range(patch_height)
            for j in range(patch_width)
        ],
        axis=-1,
    )
    kernels = jnp.stack(
        [
            jnp.pad(w, ((i, window - 1 - i), (j, window - 1 - j), (0, 0), (0, 0)))
            for i in range(window)
            for j in range(window)
        ],
        axis=3,
    )
    depth = patch_height * patch_width * channels
    values = patches.reshape(-1, depth) @ kernels.reshape(depth, window**2 * features)
    return values.reshape(batch, out_height, out_width, window**2, features)


@jax.custom_vjp
def _bias_relu_max(values, b):
    return jnp.maximum(values.max(axis=-2) + b, 0)


def _forward(values, b):
    pooled = _bias_relu_max(values, b)
    return pooled, (values, pooled)


def _backward(residuals, gradient):
    values, pooled = residuals
    gradient = jnp.where(pooled > 0, gradient, 0)
    is_max = values == values.max(axis=-2, keepdims=True)
    positions = [is_max[..., i, :] for i in range(values.shape[-2])]
    before = jnp.zeros_like(positions[0])
    shares = []
    for position in positions:
        shares.append(jnp.where(position & ~before, gradient, 0))
        before = before | position
    sum_all = functools.partial(jnp.sum, axis=tuple(range(gradient.ndim - 1)))
    return jnp.stack(shares, axis=-2), sum_all(gradient)


_bias_relu_max.defvjp(_forward, _backward)
