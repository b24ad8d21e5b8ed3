"""Convolution, pooling and dropout as pure functions of arrays, channels last.

Where the time of a small CNN's training step goes on a CPU is not the arithmetic: XLA's convolution
is slow there, the gradient of its pooling (select-and-scatter) and threefry's random bits each cost
as much again. `conv_pool` and `dropout` are made for that; on GPU and TPU, XLA's own is taken.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fidle_jax.kernels import fused, xla
from fidle_jax.kernels.dropout import dropout
from fidle_jax.kernels.hashing import hash_bits, permutation

__all__ = ["conv", "conv_pool", "dropout", "hash_bits", "max_pool", "permutation"]


def conv(
    x: Float[Array, "batch height width channel"],
    w: Float[Array, "kernel_height kernel_width channel feature"],
) -> Float[Array, "batch out_height out_width feature"]:
    """Valid convolution with stride 1: at each place, window and kernel multiplied and summed."""
    return xla.conv(*_promoted(x, w))


def max_pool(
    x: Float[Array, "batch height width channel"], window: int = 2
) -> Float[Array, "batch out_height out_width channel"]:
    """Largest value of each ``window`` x ``window`` tile; rows and columns left over are dropped."""
    return xla.max_pool(x, window)


def conv_pool(
    x: Float[Array, "batch height width channel"],
    w: Float[Array, "kernel_height kernel_width channel feature"],
    b: Float[Array, " feature"],
    *,
    window: int = 2,
    method: str = "auto",
) -> Float[Array, "batch out_height out_width feature"]:
    """``max_pool(relu(conv(x, w) + b), window)`` in one kernel.

    Args:
        x: images.
        w: convolution kernel, applied with stride 1 and valid padding.
        b: bias.
        window: side of the pooling tile, which is its stride too.
        method: "fused" (`fidle_jax.kernels.fused`), "xla", or "auto": fused on CPU, XLA elsewhere.

    Raises:
        ValueError: an unknown method, or images too small for a single pooled value.
    """
    patch = [side + window - 1 for side in w.shape[:2]]
    if x.shape[1] < patch[0] or x.shape[2] < patch[1]:
        raise ValueError(
            f"images of {x.shape[1]}x{x.shape[2]} are too small for a kernel of "
            f"{w.shape[0]}x{w.shape[1]} pooled by {window}; expected {patch[0]}x{patch[1]} at least"
        )
    x, w, b = _promoted(x, w, b)
    if method == "auto":
        method = "fused" if jax.default_backend() == "cpu" else "xla"
    if method == "fused":
        return fused.conv_pool(x, w, b, window)
    if method == "xla":
        return xla.max_pool(jax.nn.relu(xla.conv(x, w) + b), window)
    raise ValueError(f"unknown method {method!r}; expected 'auto', 'fused' or 'xla'")


def _promoted(*arrays: Array) -> list[Array]:
    """The arrays in the type that JAX's rules of promotion give them together."""
    dtype = jnp.result_type(*arrays)
    return [array.astype(dtype) for array in arrays]
