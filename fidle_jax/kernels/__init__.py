"""Convolution, pooling and dropout as pure functions of arrays, channels last, any number of axes.

`accelerate` makes any JAX program use them, and `tune` measures which of their methods are fastest for it on
this machine. Each operation has several methods with one signature.
README.md describes them and the guarantees of ``method="auto"``, the default. `conv_general_dilated` is a
drop-in for Flax modules. `register` adds a method, and `fidle_jax.kernels.testing` tests it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from fidle_jax.kernels import pallas, pooling, reference
from fidle_jax.kernels.acceleration import accelerate, accelerated, plan
from fidle_jax.kernels.arrays import (
    AnyArray,
    AnyOutput,
    Array,
    Output,
    Shaped,
    automatically_sharded,
)
from fidle_jax.kernels.auto import Table, choose, problem_of, tuned
from fidle_jax.kernels.bilinear import ConvSpec
from fidle_jax.kernels.convolution import convolve, convolve_and_pool
from fidle_jax.kernels.general import conv_general_dilated
from fidle_jax.kernels.geometry import Count, Padding, Sizes, conv_geometry, resolve_geometry
from fidle_jax.kernels.materialize import add_bias
from fidle_jax.kernels.methods import conv_methods, conv_pool_methods, register
from fidle_jax.kernels.random import dropout, hash_bits, permutation
from fidle_jax.kernels.releases import warn_if_excluded
from fidle_jax.kernels.tuning import tune

__all__ = [
    "Table",
    "accelerate",
    "accelerated",
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
    "plan",
    "register",
    "tune",
    "tuned",
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
) -> Output:
    """Compute a convolution: sum the products of each window's values with the kernel's.

    The result has the type of JAX's promotion of ``x`` and ``w``; sums are computed in float32 or wider.

    Args:
        x: Images (batch, *spatial, channel).
        w: Kernel (*window, channel / groups, feature).
        strides: Strides of the window, an integer or one per axis.
        padding: "valid" (none), "same" (the rule of TensorFlow and Keras), an integer, or for each
            axis an integer or a pair (before, after).
        dilation: Distance between neighbouring values of a window.
        groups: Number of groups of channels. Each computes its own features, in order.
        method: A name from `conv_methods`, or "auto".

    Raises:
        ValueError: The arguments do not fit together, or the method does not support them.
    """
    x, w = _promote(x, w)
    geometry = conv_geometry(x, w, strides, padding, dilation, groups)
    spec = ConvSpec(x.shape[1:-1], geometry, int(groups or 1), method)
    return automatically_sharded(functools.partial(convolve, spec=spec), x, w)


# The functions of each pooling by method.
POOLS = {
    "max_pool": {
        "reference": reference.max_pool,
        "slices": pooling.max_pool,
        "xla": pooling.xla_max_pool,
        "pallas": pallas.max_pool,
    },
    "avg_pool": {
        "reference": reference.avg_pool,
        "slices": pooling.avg_pool,
        "xla": pooling.xla_avg_pool,
    },
}


def max_pool(
    x: Shaped[AnyArray, "batch *spatial channel"],
    window: Sizes = 2,
    *,
    strides: Sizes | None = None,
    padding: Padding = "valid",
    method: str = "auto",
) -> AnyOutput:
    """Return the largest value of each window. The gradient goes to the first of equal values.

    Args:
        x: Images (batch, *spatial, channel) of floating-point numbers, integers or bool.
        window: Size of the window, an integer or one per axis.
        strides: Strides of the window; by default its size, so that windows do not overlap.
        padding: As in `conv`. Padding is never the largest value.
        method: "reference", "slices", "xla", "pallas" (for `max_pool`), or "auto": by shape on a CPU,
            "xla" elsewhere.

    Raises:
        ValueError: The arguments do not fit together, or the method is unknown.
    """
    return _pool("max_pool", x, window, strides, padding, method)


def avg_pool(
    x: Shaped[AnyArray, "batch *spatial channel"],
    window: Sizes = 2,
    *,
    strides: Sizes | None = None,
    padding: Padding = "valid",
    method: str = "auto",
) -> AnyOutput:
    """Return the mean of each window, without the padding (as TensorFlow and Keras do).

    Integers and bool have means of JAX's default float type. Arguments and errors are those of
    `max_pool`.
    """
    return _pool("avg_pool", x, window, strides, padding, method)


def _pool(kind, x, window, strides, padding, method):
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise ValueError(f"x has type {x.dtype}; it must be a real number type or bool")
    geometry = resolve_geometry(
        x.shape[1:-1], window, window if strides is None else strides, padding
    )
    if any(max(pair) >= k for pair, k in zip(geometry.padding, geometry.size, strict=True)):
        raise ValueError(
            f"padding is {geometry.padding} for a pool of {geometry.size}; it must be smaller than the "
            "window on every side, because a window must contain a value"
        )
    calls = {
        name: functools.partial(function, geometry=geometry)
        for name, function in POOLS[kind].items()
    }

    def auto(x):
        problem = problem_of(kind, x.shape, x.shape[-1], geometry, x.shape[-1])
        on_cpu, elsewhere = (calls[choose(problem, is_cpu=is_cpu)] for is_cpu in (True, False))
        return lax.platform_dependent(x, cpu=on_cpu, default=elsewhere)

    if method not in ("auto", *calls):
        known = ", ".join(map(repr, calls))
        raise ValueError(f"unknown method {method!r}; it must be 'auto', {known}")
    return automatically_sharded(auto if method == "auto" else calls[method], x)


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
) -> Output:
    """Compute ``max_pool(activation(conv(x, w) + b), window)`` in one kernel.

    Args:
        x: Images (batch, *spatial, channel).
        w: Kernel (*window, channel / groups, feature).
        b: Bias, or None.
        window: Size of the pooling window.
        pool_strides: Strides of the pooling; by default its window.
        activation: An elementwise function, or None.
        strides: Strides of the convolution. See `conv`, also for padding, dilation and groups.
        method: A name from `conv_pool_methods` (for one group, and ReLU or no activation), a name
            from `conv_methods` for the convolution only, or "auto".

    Raises:
        ValueError: As in `conv` and `max_pool`, or the bias has another shape than (feature,).
    """
    x, w = map(jnp.asarray, (x, w))
    b = jnp.zeros(w.shape[-1:], x.dtype) if b is None else jnp.asarray(b)
    if b.shape != w.shape[-1:]:
        raise ValueError(
            f"the bias has shape {b.shape}; it must be {w.shape[-1:]}, one value per feature of w"
        )
    x, w, b = _promote(x, w, b)
    geometry = conv_geometry(x, w, strides, padding, dilation, groups)
    pool = resolve_geometry(
        geometry.count, window, window if pool_strides is None else pool_strides
    )
    groups = int(groups or 1)
    fusible = groups == 1 and activation in (None, jax.nn.relu)
    fused_method = conv_pool_methods().get(method)
    if fused_method is not None and not (fusible and fused_method.supports(geometry, pool)):
        raise ValueError(
            f"method {method!r} does not support these arguments. It needs groups=1, and jax.nn.relu or "
            "None as activation; 'winograd_pool' also windows of 3 at stride 1 with a pool of 2, "
            "'winograd_1d' such a last axis. Use "
            "method='auto' or a method of the convolution"
        )
    if fusible and (fused_method is not None or method == "auto"):

        def fused(x, w, b):
            y = convolve_and_pool(x, w, geometry, pool, method)
            return add_bias(y, b, activation is not None)

        return automatically_sharded(fused, x, w, b)
    spec = ConvSpec(x.shape[1:-1], geometry, groups, method)
    y = automatically_sharded(functools.partial(convolve, spec=spec), x, w)
    y = y + lax.broadcast_in_dim(b, (1,) * (y.ndim - 1) + b.shape, (y.ndim - 1,))
    y = y if activation is None else activation(y)
    method = method if method in ("reference", "xla") else "auto"
    return max_pool(y, pool.size, strides=pool.strides, method=method)


def _promote(*arrays: AnyArray) -> list[Array]:
    """Convert arrays to the type of JAX's promotion, which must be a floating-point type."""
    dtype = jnp.result_type(*arrays)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"the arrays have type {dtype}; it must be a floating-point type")
    return [jnp.asarray(array, dtype) for array in arrays]
