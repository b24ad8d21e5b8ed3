"""Convolution, bias, activation and max pooling as one matmul and one maximum.

All that one pooled value depends on is a patch, and patches follow each other at the strides of the
pooling. So the kernel is laid out at each of its places within the patch, one matmul gives the
convolution at all of them, and the maximum is taken over those: the image is gathered once for each
pooled value, not once for each value before pooling, and what lies between is never an image again.
"""

import itertools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from fidle_jax.kernels.first_max import first_max
from fidle_jax.kernels.windows import Windows, pad, resolve_windows, shifted_slices


def conv_pool(
    x: Float[Array, "batch *spatial channel"],
    w: Float[Array, "*window channel feature"],
    b: Float[Array, " feature"],
    windows: Windows,
    pool: Windows,
    relu: bool,
) -> Float[Array, "batch *count feature"]:
    """``max_pool(relu(conv(x, w) + b))``, or without the ReLU; one group, no padding in the pool."""
    corners = list(itertools.product(*map(range, pool.size)))
    span = [
        (k - 1) * d + (p - 1) * s + 1
        for k, d, p, s in zip(
            windows.size, windows.dilation, pool.size, windows.strides, strict=True
        )
    ]
    strides = [s * p for s, p in zip(windows.strides, pool.strides, strict=True)]
    padded = pad(x, windows.padding)
    patches = resolve_windows(padded.shape[1:-1], span, strides)
    rows = jnp.concatenate(shifted_slices(padded, patches), axis=-1)
    kernels = jnp.stack([_laid_out(w, corner, windows, span) for corner in corners], axis=-2)
    depth = math.prod(span) * x.shape[-1]
    wide = jnp.promote_types(x.dtype, jnp.float32)
    values = jnp.matmul(
        rows.reshape(-1, depth), kernels.reshape(depth, -1), preferred_element_type=wide
    )
    values = values.reshape(x.shape[0], *patches.count, len(corners), w.shape[-1])
    pooled = first_max(values) + b
    return (jax.nn.relu(pooled) if relu else pooled).astype(x.dtype)


def _laid_out(w, corner, windows, span):
    """The kernel within a patch of ``span``, moved by ``corner`` strides, zeros around it."""
    config = []
    for k, d, at, s, room in zip(
        windows.size, windows.dilation, corner, windows.strides, span, strict=True
    ):
        before = at * s
        config.append((before, room - before - (k - 1) * d - 1, d - 1))
    return lax.pad(w, jnp.array(0, w.dtype), [*config, (0, 0, 0), (0, 0, 0)])
