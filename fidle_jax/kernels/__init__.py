"""Convolution, pooling and dropout as pure functions of arrays, channels last, any number of axes.

On a CPU the arithmetic is not what takes time in the training step of a small CNN. XLA's convolution
is slow there (its gradient in a loop many times slower), and the gradient of its max pooling
(select-and-scatter) and threefry's random bits each cost as much. This package has several methods
for each operation with one signature, all tested against `fidle_jax.kernels.reference`.
`conv_general_dilated` is a drop-in for Flax modules; `register` adds a method, and
`fidle_jax.kernels.testing` tests it.

``method="auto"``, the default, selects by the platform that a program is lowered for: on a CPU the
fastest method for the nearest measured problem, on other platforms XLA's. It guarantees that

- each output is within rounding of the definition. The error is at most a few times
  eps * sum(|window| * |kernel|) with the largest value of the window, so a large value changes no
  output whose window does not contain it;
- an output is infinite or NaN exactly if the definition's is;
- temporary memory does not grow with the batch (`fidle_jax.kernels.choice.MEMORY_LIMIT`).

The same holds for the gradients. The other methods can be requested by name. "winograd_4",
"winograd_pool_4" and "fft" keep the second promise only: they spread rounding errors of large values
to other outputs.

What was tried and did not help, on two cores with AVX-512:

- Channels before space: half as slow again, because XLA's loops then run across memory.
- The batch as the last axis: no gain in total. The product for the gradient in the kernel then uses
  one core.
- One slice per value of a patch: its gradient is an image for each slice. Blocks are concatenated
  instead.
- The winner of a pool by comparisons: XLA computes them again for each option, 3 to 10 times as slow.
- `jax.lax.optimization_barrier`: XLA removes it before fusion (see `fidle_jax.kernels.materialize`).
- Sums of products without a matrix for small convolutions: three times as fast forward, twice as
  slow with the gradient.
- XLA's wider vectors, XNNPACK, or matrix products without YNN: no faster.
- Winograd's transform of the whole batch at once: a third slower than chunks that fit into the cache.
- Winograd's usual points for tiles of six, +-1 and +-2: three times the error.
- Matrix products of arrays with more than two axes: for the gradient in the kernel XLA transposes a
  copy first, which takes longer than the product.
- Smaller chunks than `chunks.CHUNK_BYTES`: slower for a 1-D network and a ResNet.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from fidle_jax.kernels import pooling, reference, xla
from fidle_jax.kernels.arrays import AnyArray, Array, Float, Shaped
from fidle_jax.kernels.bias import add_bias
from fidle_jax.kernels.choice import choose_pool
from fidle_jax.kernels.convolution import convolve, convolve_and_pool
from fidle_jax.kernels.dropout import dropout
from fidle_jax.kernels.general import conv_general_dilated
from fidle_jax.kernels.hashing import hash_bits, permutation
from fidle_jax.kernels.methods import conv_methods, conv_pool_methods, register
from fidle_jax.kernels.releases import warn_if_excluded
from fidle_jax.kernels.sharding import automatically_sharded
from fidle_jax.kernels.windows import Count, Padding, Sizes, conv_windows, resolve_windows

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
    x: Shaped[AnyArray, "..."],
    w: Shaped[AnyArray, "..."],
    *,
    strides: Sizes = 1,
    padding: Padding = "valid",
    dilation: Sizes = 1,
    groups: Count = 1,
    method: str = "auto",
) -> Float[Array, "batch *count feature"]:
    """Compute a convolution: sum the products of each window's values with the kernel's.

    Works for any number of spatial axes. The result has the type of JAX's promotion of ``x`` and
    ``w``; sums are computed in float32 or wider.

    Args:
        x: Images, channels last.
        w: Kernel. The features are divided among the groups in order.
        strides: Strides of the window, an integer or one per axis. Integers may be NumPy's.
        padding: "valid" (none), "same" (the rule of TensorFlow and Keras), an integer, or for each
            axis an integer or a pair (before, after).
        dilation: Distance between two values of a window.
        groups: Number of groups of channels, each of which computes its own features.
        method: A name from `conv_methods`, or "auto".

    Raises:
        ValueError: The arguments do not fit together, the image is smaller than the window, or the
            method is unknown or does not support the windows.
    """
    x, w = _promoted(x, w)
    windows = conv_windows(x, w, strides, padding, dilation, groups)
    call = functools.partial(convolve, windows=windows, groups=int(groups or 1), method=method)
    return automatically_sharded(call, x, w)


POOLS = {"reference": reference, "tiles": pooling, "xla": xla}


def max_pool(
    x: Shaped[AnyArray, "batch *spatial channel"],
    window: Sizes = 2,
    *,
    strides: Sizes | None = None,
    padding: Padding = "valid",
    method: str = "auto",
) -> Shaped[Array, "batch *count channel"]:
    """Return the largest value of each window. The gradient goes to the first of equal values.

    Args:
        x: Images, channels last, of floating-point numbers, integers or bool.
        window: Size of the window, an integer or one per axis.
        strides: Strides of the window; by default its size, so that windows do not overlap.
        padding: As in `conv`. Padding is never the largest value.
        method: "reference", "tiles", "xla", or "auto": by shape on a CPU, "xla" elsewhere.

    Raises:
        ValueError: The arguments do not fit together, the image is smaller than the window, or the
            method is unknown.
    """
    return _pool("max_pool", x, window, strides, padding, method)


def avg_pool(
    x: Shaped[AnyArray, "batch *spatial channel"],
    window: Sizes = 2,
    *,
    strides: Sizes | None = None,
    padding: Padding = "valid",
    method: str = "auto",
) -> Shaped[Array, "batch *count channel"]:
    """Return the mean of each window, without the padding (as TensorFlow and Keras do).

    Integers and bool have means of JAX's default float type. Arguments and errors are those of
    `max_pool`.
    """
    return _pool("avg_pool", x, window, strides, padding, method)


def _pool(kind, x, window, strides, padding, method):
    x = jnp.asarray(x)
    windows = _pool_windows(x, window, strides, padding)
    if method != "auto":
        if method not in POOLS:
            known = ", ".join(map(repr, POOLS))
            raise ValueError(f"unknown method {method!r}; it must be 'auto', {known}")
        call = getattr(POOLS[method], kind)
        return automatically_sharded(functools.partial(call, windows=windows), x)
    on_cpu = getattr(POOLS[choose_pool(x.shape, windows, kind)], kind)
    elsewhere = getattr(xla, kind)

    def selected(x):
        return lax.platform_dependent(
            x,
            cpu=functools.partial(on_cpu, windows=windows),
            default=functools.partial(elsewhere, windows=windows),
        )

    return automatically_sharded(selected, x)


def _pool_windows(x, window, strides, padding):
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise ValueError(f"x has type {x.dtype}; it must be a real number type or bool")
    windows = resolve_windows(
        x.shape[1:-1], window, window if strides is None else strides, padding
    )
    if any(max(pair) >= k for pair, k in zip(windows.padding, windows.size, strict=True)):
        raise ValueError(
            f"padding is {windows.padding} for a pool of {windows.size}; it must be smaller than the "
            "window on every side, because a window must contain a value"
        )
    return windows


def conv_pool(
    x: Shaped[AnyArray, "..."],
    w: Shaped[AnyArray, "..."],
    b: Shaped[AnyArray, "..."] | float | None = None,
    *,
    window: Sizes = 2,
    pool_strides: Sizes | None = None,
    activation: Callable[[Array], Array] | None = jax.nn.relu,
    strides: Sizes = 1,
    padding: Padding = "valid",
    dilation: Sizes = 1,
    groups: Count = 1,
    method: str = "auto",
) -> Float[Array, "batch *count feature"]:
    """Compute ``max_pool(activation(conv(x, w) + b), window)`` in one kernel.

    Args:
        x: Images, channels last.
        w: Kernel.
        b: Bias, or None.
        window: Size of the pooling window.
        pool_strides: Strides of the pooling; by default its window.
        activation: An elementwise function, or None.
        strides: Strides of the convolution, as its ``padding``, ``dilation`` and ``groups`` (see `conv`).
        method: A name from `conv_pool_methods` (for one group, and ReLU or no activation), a name
            from `conv_methods` for the convolution only, or "auto".

    Raises:
        ValueError: As `conv` and `max_pool`, or the bias has another shape than (feature,), or the
            method does not support the arguments.
    """
    x, w = map(jnp.asarray, (x, w))
    b = jnp.zeros(w.shape[-1:], x.dtype) if b is None else jnp.asarray(b)
    if b.shape != w.shape[-1:]:
        raise ValueError(
            f"the bias has shape {b.shape}; it must be {w.shape[-1:]}, one value per feature of w"
        )
    x, w, b = _promoted(x, w, b)
    windows = conv_windows(x, w, strides, padding, dilation, groups)
    pool = resolve_windows(windows.count, window, window if pool_strides is None else pool_strides)
    groups = int(groups or 1)
    fusible = groups == 1 and activation in (None, jax.nn.relu)
    as_one = conv_pool_methods().get(method)
    if as_one is not None and not (fusible and as_one.supports(windows, pool)):
        raise ValueError(
            f"method {method!r} does not support these arguments. It needs groups=1, and jax.nn.relu or "
            "None as activation; 'winograd_pool' also windows of 3 at stride 1 with a pool of 2, "
            "'winograd_pool_4' at most two axes of these, 'winograd_1d' such a last axis. Use "
            "method='auto' or a method of the convolution"
        )
    if fusible and (as_one is not None or method == "auto"):

        def fused(x, w, b):
            y = convolve_and_pool(x, w, windows, pool, method)
            return add_bias(y, b, activation is not None)

        return automatically_sharded(fused, x, w, b)
    y = automatically_sharded(
        functools.partial(convolve, windows=windows, groups=groups, method=method), x, w
    )
    y = y + lax.broadcast_in_dim(b, (1,) * (y.ndim - 1) + b.shape, (y.ndim - 1,))
    y = y if activation is None else activation(y)
    return max_pool(y, pool.size, strides=pool.strides, method="xla" if method == "xla" else "auto")


def _promoted(*arrays: AnyArray) -> list[Array]:
    """Convert arrays to the type of JAX's promotion.

    Raises:
        ValueError: The type is not a floating-point type.
    """
    dtype = jnp.result_type(*arrays)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"the arrays have type {dtype}; it must be a floating-point type")
    return [jnp.asarray(array, dtype) for array in arrays]
