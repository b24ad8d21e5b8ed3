"""Convolution, pooling and dropout as pure functions of arrays, channels last, any number of axes.

Where the time of a small CNN's training step goes on a CPU is not the arithmetic: XLA's convolution
is slow there (in a loop its gradient many times slower again), the gradient of its pooling
(select-and-scatter) and threefry's random bits each cost as much. Here are several methods for each,
of one signature, all held against `fidle_jax.kernels.reference`; "auto" takes what was fastest on
the nearest measured problem on a CPU, and XLA's own on a GPU or TPU. `conv_general_dilated` drops
into any Flax model; `register` adds a method, `fidle_jax.kernels.testing` tests it.

What was tried and did not help, on two cores with AVX-512, so that nobody tries it twice: channels
before space (XLA lays the rest out so that its loops run across memory: half as fast again); the
batch as the last axis, with every matrix laid out for it (the MNIST CNN's second gradient in a
kernel takes three fifths of the time when alone, its first three times, for there the product keeps
one core only: no gain in all); one patch slice for each value of a patch (its gradient is an image
for each: 8 of 22 ms; whole blocks are put together instead); the winner of a pool by comparisons
(XLA computes them again for each option, 3 to 10 times as long; a reduction of pairs is stored);
`lax.optimization_barrier` (gone before fusion; see `fidle_jax.kernels.stored`); small convolutions
as sums of products without a matrix (three times as fast forward, twice as slow with the gradient);
XLA's wider vectors, XNNPACK, or its matrix products without YNN (no faster, or slower); the whole
batch at once in Winograd's transform (a third slower than chunks that fit the cache, but faster
where the kernel is large); Winograd's usual points for tiles of six, +-1 and +-2 (three times the
error); its gradient in the image as a convolution of its own, of the padded cotangents (tiles at
the rim are added: no faster than its transpose, once the image is split into halves by `lax.split`,
whose transpose is a concatenation, and the halves are stored); matrix products of arrays with more
than two axes (for the gradient in the kernel, XLA first copies them transposed, which takes longer
than the product); patches computed again in the backward pass (a seventh slower); a kernel laid out
at its places along one axis alone, without Winograd's method along it (fewer products, but more
patches: no gain); chunks smaller than `chunks.CHUNK_BYTES` (slower on a 1-D network and a ResNet,
the same on v1); a dense layer's gradient as the transpose of weights times cotangents (two thirds
of the time when alone, but JAX's rule always has the cotangents first).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from fidle_jax.kernels import reference, tiles, xla
from fidle_jax.kernels.choice import choose_conv, choose_conv_pool, choose_pool
from fidle_jax.kernels.dropout import dropout
from fidle_jax.kernels.general import conv_general_dilated
from fidle_jax.kernels.hashing import hash_bits, permutation
from fidle_jax.kernels.methods import conv_methods, conv_pool_methods, find_method, register
from fidle_jax.kernels.releases import warn_if_excluded
from fidle_jax.kernels.windows import Padding, Sizes, conv_windows, resolve_windows

if TYPE_CHECKING:
    from jaxtyping import Array, Float

__all__ = [
    "avg_pool",
    "conv",
    "conv_general_dilated",
    "conv_methods",
    "conv_pool",
    "conv_pool_methods",
    "dropout",
    "hash_bits",
    "max_pool",
    "permutation",
    "register",
]

warn_if_excluded()


def conv(
    x: Float[Array, "batch *spatial channel"],
    w: Float[Array, "*window channel_per_group feature"],
    *,
    strides: Sizes = 1,
    padding: Padding = "valid",
    dilation: Sizes = 1,
    groups: int = 1,
    method: str = "auto",
) -> Float[Array, "batch *count feature"]:
    """At each place of the window, its values and the kernel's multiplied one by one and summed.

    Any number of spatial axes. The result has the type that JAX's promotion gives ``x`` and ``w``;
    sums are in float32 at least.

    Args:
        x: images, channels last.
        w: kernel; its features are dealt out over the groups in order.
        strides: of the window, one number or one for each axis.
        padding: "valid" (none), "same" (TensorFlow's and Keras's rule), a number, or for each axis
            a number or a pair (before, after).
        dilation: distance between two values of a window.
        groups: parts of the channels, each of which makes its own part of the features.
        method: one of `conv_methods`, or "auto": by shape on CPU, XLA's own elsewhere.

    Raises:
        ValueError: arguments that do not go together, an image smaller than the window, an unknown
            method, or one that does not do this convolution.
    """
    x, w = _promoted(x, w)
    windows = conv_windows(x, w, strides, padding, dilation, groups)
    if method == "auto":
        method = choose_conv(x.shape, w.shape, windows, groups)
    return find_method(method, windows)(
        x,
        w,
        strides=windows.strides,
        padding=windows.padding,
        dilation=windows.dilation,
        groups=groups,
    )


POOLS = {"reference": reference, "tiles": tiles, "xla": xla}


def max_pool(
    x: Float[Array, "batch *spatial channel"],
    window: Sizes = 2,
    *,
    strides: Sizes | None = None,
    padding: Padding = "valid",
    method: str = "auto",
) -> Float[Array, "batch *count channel"]:
    """The largest value under each window; in its gradient, the first of equal ones.

    Args:
        x: images, channels last.
        window: its sides.
        strides: of the window; by default the window itself, so that windows are tiles.
        padding: as in `conv`; what is padded is never the largest.
        method: "reference", "tiles", "xla", or "auto": by shape on CPU, XLA's own elsewhere.

    Raises:
        ValueError: arguments that do not go together, an image smaller than the window, an unknown
            method.
    """
    windows = _pool_windows(x, window, strides, padding)
    return _find_pool(method, "max_pool", x, windows).max_pool(x, windows)


def avg_pool(
    x: Float[Array, "batch *spatial channel"],
    window: Sizes = 2,
    *,
    strides: Sizes | None = None,
    padding: Padding = "valid",
    method: str = "auto",
) -> Float[Array, "batch *count channel"]:
    """The mean of the values under each window, padding not counted (as in TensorFlow and Keras).

    Arguments and errors are those of `max_pool`.
    """
    windows = _pool_windows(x, window, strides, padding)
    return _find_pool(method, "avg_pool", x, windows).avg_pool(x, windows)


def _pool_windows(x, window, strides, padding):
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x of {x.dtype}; expected a floating-point type")
    windows = resolve_windows(
        x.shape[1:-1], window, window if strides is None else strides, padding
    )
    if any(max(pair) >= k for pair, k in zip(windows.padding, windows.size, strict=True)):
        raise ValueError(
            f"padding {windows.padding} for a pool of {windows.size}; expected less than the window on "
            "every side, else a window would lie wholly in the padding"
        )
    return windows


def _find_pool(method, kind, x, windows):
    if method == "auto":
        method = choose_pool(x.shape, windows, kind)
    if method not in POOLS:
        raise ValueError(f"unknown method {method!r}; expected 'auto', {_names(POOLS)}")
    return POOLS[method]


def _names(names):
    return ", ".join(map(repr, names))


def conv_pool(
    x: Float[Array, "batch *spatial channel"],
    w: Float[Array, "*window channel_per_group feature"],
    b: Float[Array, " feature"] | None = None,
    *,
    window: Sizes = 2,
    pool_strides: Sizes | None = None,
    activation: Callable[[Array], Array] | None = jax.nn.relu,
    strides: Sizes = 1,
    padding: Padding = "valid",
    dilation: Sizes = 1,
    groups: int = 1,
    method: str = "auto",
) -> Float[Array, "batch *count feature"]:
    """``max_pool(activation(conv(x, w) + b), window)`` in one kernel.

    Args:
        x: images, channels last.
        w: kernel.
        b: bias; None for none.
        window: sides of the pooling window.
        pool_strides: of the pooling; by default its window.
        activation: an elementwise function, None for none.
        strides: of the convolution, as its ``padding``, ``dilation`` and ``groups`` (see `conv`).
        method: one of `conv_pool_methods` (one group, and ReLU or no activation), one of
            `conv_methods` for the convolution alone, or "auto": by shape on CPU, XLA's elsewhere.

    Raises:
        ValueError: as `conv` and `max_pool`, or a method where it does not apply.
    """
    b = jnp.zeros(w.shape[-1:], x.dtype) if b is None else b
    x, w, b = _promoted(x, w, b)
    windows = conv_windows(x, w, strides, padding, dilation, groups)
    pool = resolve_windows(windows.count, window, window if pool_strides is None else pool_strides)
    fusible = groups == 1 and activation in (None, jax.nn.relu)
    if method == "auto":
        method = choose_conv_pool(x.shape, w.shape, windows, pool, groups) if fusible else "apart"
    as_one = conv_pool_methods().get(method)
    if as_one is not None:
        if not (fusible and as_one.supports(windows, pool)):
            raise ValueError(
                f"method {method!r} takes one group, and jax.nn.relu or None as activation (and "
                "'winograd_pool' windows of 3 at stride 1 with a pool of 2, 'winograd_pool_4' those in at "
                "most two axes, 'winograd_1d' those along the last axis); expected method='auto' or a "
                "method of the convolution otherwise"
            )
        return as_one.conv_pool(x, w, b, windows, pool, activation is not None)
    y = conv(
        x,
        w,
        strides=windows.strides,
        padding=windows.padding,
        dilation=windows.dilation,
        groups=groups,
        method="auto" if method == "apart" else method,
    )
    y = y + b if activation is None else activation(y + b)
    return max_pool(y, pool.size, strides=pool.strides, method="xla" if method == "xla" else "auto")


def _promoted(*arrays: Array) -> list[Array]:
    """The arrays in the type that JAX's rules of promotion give them together.

    Raises:
        ValueError: that type is not one of floating-point numbers.
    """
    dtype = jnp.result_type(*arrays)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"arrays of {dtype}; expected a floating-point type")
    return [jnp.asarray(array, dtype) for array in arrays]
