"""Convolutions with the arguments of `jax.lax.conv_general_dilated`, as a drop-in for Flax and others.

A call of `jax.lax` is one of the roles of `fidle_jax.kernels.bilinear`. JAX writes all of them with the
same operation:

    role "y": an ordinary convolution
    role "x": a transposed convolution, the gradient in the images of a convolution with strides
    role "w": a convolution whose window is an image, the gradient in a kernel
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from fidle_jax.kernels import bilinear, forward
from fidle_jax.kernels.arrays import AnyArray, Array, Shaped
from fidle_jax.kernels.auto import RUN_SECONDS
from fidle_jax.kernels.bilinear import ConvSpec
from fidle_jax.kernels.convolution import convolve
from fidle_jax.kernels.geometry import ConvGeometry, dilated
from fidle_jax.kernels.methods import find_method

FLOATS = {jnp.dtype(name) for name in ("bfloat16", "float16", "float32", "float64")}


class ConvCall(NamedTuple):
    """A call of `jax.lax.conv_general_dilated` as a role of `fidle_jax.kernels.bilinear`.

    Attributes:
        out: Role of the result.
        spec: Convolution of which it is a role.
        batch_groups: Number of groups of the batch.
        is_swapped: The window is the image, and the result is reversed: the gradient in the kernel of a
            transposed convolution.
        lhs_axes: Axes of the caller's images in the order (batch, *spatial, channel).
        rhs_axes: Axes of the caller's kernel in the order (*window, channel, feature).
        out_axes: Axes of the caller's result in the order (batch, *spatial, feature).
    """

    out: str
    spec: ConvSpec
    batch_groups: int
    is_swapped: bool
    lhs_axes: tuple[int, ...]
    rhs_axes: tuple[int, ...]
    out_axes: tuple[int, ...]

    def inputs(self, lhs: Array, rhs: Array) -> tuple[Array, Array]:
        """Return the arrays of the two other roles, in the order x, w, y."""
        lhs, rhs = _transpose(lhs, self.lhs_axes), _transpose(rhs, self.rhs_axes)
        groups = self.spec.groups
        if self.out == "w":
            # Each channel of the images is an example here, and each example a channel.
            if self.is_swapped:
                return jnp.moveaxis(rhs, -2, 0), _swapped_ends(lhs)
            if self.batch_groups == 1 and groups > 1:
                *shape, channels = lhs.shape
                split = lhs.reshape(*shape, groups, channels // groups)
                merged = jnp.moveaxis(split, (-1, 0), (0, -1))
                x = merged.reshape(*merged.shape[:-2], groups * shape[0])
            else:
                x = _swapped_ends(lhs)
            return x, jnp.moveaxis(rhs, -2, 0)
        if self.batch_groups > 1:
            batch, *shape, channels = lhs.shape
            split = lhs.reshape(groups, batch // groups, *shape, channels)
            lhs = jnp.moveaxis(split, 0, -2).reshape(batch // groups, *shape, groups * channels)
        return (lhs, rhs) if self.out == "y" else (forward.reverse(rhs, groups), lhs)

    def result(self, array: Array) -> Array:
        """Return the array of the role ``out`` with the caller's axes."""
        if self.is_swapped:
            *window, channels, features = array.shape
            groups = self.spec.groups
            split = jnp.flip(array, range(len(window))).reshape(
                *window, channels, groups, features // groups
            )
            array = jnp.moveaxis(split, (-1, -2), (0, -2)).reshape(
                features // groups, *window, groups * channels
            )
        elif self.out == "w":
            array = jnp.moveaxis(array, -2, 0)
        return _transpose(array, tuple(map(self.out_axes.index, range(array.ndim))))

    def compute(self, lhs: Array, rhs: Array) -> Array:
        """Compute the convolution."""
        inputs, method = self.inputs(lhs, rhs), self.spec.method
        if self.out == "y":
            return self.result(convolve(*inputs, self.spec))
        if method != "auto":
            find_method(method, self.spec.geometry)
        return self.result(bilinear.bind(self.out, self.spec, *inputs))


def conv_call(
    lhs: Any,
    rhs: Any,
    result: Any,
    *,
    window_strides: Any,
    padding: Any,
    lhs_dilation: Any,
    rhs_dilation: Any,
    dimension_numbers: lax.ConvDimensionNumbers,
    feature_group_count: int,
    batch_group_count: int,
    precision: Any = None,
    out_sharding: Any = None,
    method: str = "auto",
    seconds: float = RUN_SECONDS,
    **_: Any,
) -> ConvCall | None:
    """Return how to compute a convolution by a method, or None if only `jax.lax` supports it.

    Args:
        lhs: Type of the images. See `jax.lax.conv_general_dilated`, also for the keyword arguments.
        rhs: Type of the kernel.
        result: Type of the result.
    """
    if (
        {lhs.dtype, rhs.dtype} != {result.dtype}
        or result.dtype not in FLOATS
        or _names_axes(out_sharding)
        or is_sharded_explicitly(result)
    ):
        return None
    (n, c, *spatial), (o, i, *window), (y_n, y_c, *count) = dimension_numbers
    axes = (n, *spatial, c), (*window, i, o), (y_n, *count, y_c)
    sizes, window_sizes, counts = (
        tuple(array.shape[axis] for axis in each)
        for array, each in ((lhs, spatial), (rhs, window), (result, count))
    )
    fixed = (*sizes, *window_sizes, *counts, lhs.shape[c], *rhs.shape, result.shape[y_c])
    if not spatial or not all(isinstance(size, int) and size > 0 for size in fixed):
        return None
    if {len(window_strides), len(lhs_dilation), len(rhs_dilation)} != {len(spatial)}:
        return None
    groups = feature_group_count * batch_group_count
    pads = tuple((operator.index(low), operator.index(high)) for low, high in padding)
    strides, stretch, dilation = (
        tuple(map(operator.index, each)) for each in (window_strides, lhs_dilation, rhs_dilation)
    )
    lows = tuple(low for low, _ in pads)
    has_large_window = math.prod(window_sizes) > math.prod(counts) and isinstance(lhs.shape[n], int)
    is_swapped = has_large_window and set(stretch) != {1}
    if is_swapped:
        out, images = "w", window_sizes
        ends = tuple(k - 1 - low for k, low in zip(dilated(counts, strides), lows, strict=True))
        geometry = _fitting(counts, stretch, ends, strides, sizes, window_sizes)
        geometry = geometry if set(dilation) == {1} and feature_group_count == 1 else None
    elif set(stretch) != {1}:
        out, images = "x", counts
        geometry = transposed_geometry(window_sizes, stretch, dilation, lows, sizes, counts)
        geometry = geometry if set(strides) == {1} else None
    elif has_large_window:
        out, images = "w", sizes
        geometry = _fitting(counts, dilation, lows, strides, window_sizes, sizes)
    else:
        out, images = "y", sizes
        geometry = ConvGeometry(window_sizes, strides, pads, dilation, counts)
    if geometry is None or min(map(min, geometry.padding)) < 0:
        return None
    spec = ConvSpec(images, geometry, groups, method, precision, seconds)
    return ConvCall(out, spec, batch_group_count, is_swapped, *axes)


def transposed_geometry(
    size: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
    lows: Sequence[int],
    count: Sequence[int],
    images: Sequence[int],
) -> ConvGeometry | None:
    """Return the geometry of which a convolution is the gradient in the images, or None.

    Args:
        size: Kernel size of the convolution.
        strides: Its input dilation, the strides of the result.
        dilation: Its kernel dilation.
        lows: Its padding before the images.
        count: Spatial shape of its images.
        images: Spatial shape of its output.
    """
    span = dilated(size, dilation)
    lows = [k - 1 - low for k, low in zip(span, lows, strict=True)]
    return _fitting(size, strides, lows, dilation, count, images)


def _fitting(size, strides, lows, dilation, count, images):
    """Return the geometry with ``count`` windows in ``images``, or None if there is none."""
    span = dilated(size, dilation)
    axes = zip(lows, images, span, strides, count, strict=True)
    highs = [(m - 1) * s + k - n - low for low, n, k, s, m in axes]
    if any(high <= -s for high, s in zip(highs, strides, strict=True)):
        return None
    padding = tuple((low, max(0, high)) for low, high in zip(lows, highs, strict=True))
    return ConvGeometry(tuple(size), tuple(strides), padding, tuple(dilation), tuple(count))


def _swapped_ends(array):
    return _transpose(array, (-1, *range(1, array.ndim - 1), 0))


def _transpose(array, axes):
    """Transpose an array, as a matrix if possible: XLA combines that with a matrix product."""
    axes = [axis % array.ndim for axis in axes]
    order = [axis for axis in axes if array.shape[axis] != 1]
    split = order.index(min(order)) if order else 0
    if split == 0 or order[split:] + order[:split] != sorted(order):
        return array.transpose(axes)
    rows = math.prod(array.shape[axis] for axis in order[split:])
    return array.reshape(rows, -1).T.reshape([array.shape[axis] for axis in axes])


def is_sharded_explicitly(aval: Any) -> bool:
    """Return True for an array type that is sharded over explicit mesh axes."""
    return _names_axes(getattr(aval, "sharding", None))


def _names_axes(sharding):
    return sharding is not None and any(getattr(sharding, "spec", sharding) or ())


def conv_general_dilated(
    lhs: Shaped[AnyArray, "..."],
    rhs: Shaped[AnyArray, "..."],
    window_strides: Any,
    padding: Any,
    lhs_dilation: Any = None,
    rhs_dilation: Any = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: NamedSharding | PartitionSpec | None = None,
    *,
    method: str = "auto",
) -> Shaped[Array, "..."]:
    """Compute `jax.lax.conv_general_dilated`: same arguments, shapes, types and errors.

    `jax.lax` computes the cases that the methods do not support: types that are not floating-point,
    inputs of different types, negative padding, strides together with input dilation, explicitly sharded
    arrays, no spatial axis, and empty or symbolic axes other than the batch. If the channels are not the
    last axis, the arrays are transposed. On a CPU ``precision`` has no effect.

    Args:
        lhs: Images, with axes in the order of ``dimension_numbers``; by default (batch, channel, *spatial).
        rhs: Kernel; by default (feature, channel / groups, *window).
        window_strides: Strides. See `jax.lax.conv_general_dilated`, also for the other arguments.
        method: See `fidle_jax.kernels.conv`.

    Raises:
        ValueError: The method is unknown or does not support the geometry.
        Exception: Any error of `jax.lax.conv_general_dilated`.
    """

    by_xla: Any = functools.partial(
        lax.conv_general_dilated,
        window_strides=window_strides,
        padding=padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers,
        feature_group_count=feature_group_count,
        batch_group_count=batch_group_count,
        precision=precision,
        preferred_element_type=preferred_element_type,
        out_sharding=out_sharding,
    )
    result = jax.eval_shape(by_xla, lhs, rhs)  # raises JAX's errors
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    ones = (1,) * (lhs.ndim - 2)
    dilation = ones if rhs_dilation is None else tuple(map(operator.index, rhs_dilation))
    if isinstance(padding, str):
        spatial, window = (
            [array.shape[axis] for axis in spec[2:]]
            for array, spec in zip((lhs, rhs), numbers, strict=False)
        )
        padding = lax.padtype_to_pads(spatial, dilated(window, dilation), window_strides, padding)
    call = conv_call(
        jax.typeof(lhs),
        jax.typeof(rhs),
        result,
        window_strides=window_strides,
        padding=padding,
        lhs_dilation=ones if lhs_dilation is None else lhs_dilation,
        rhs_dilation=dilation,
        dimension_numbers=numbers,
        feature_group_count=feature_group_count,
        batch_group_count=batch_group_count,
        precision=precision,
        out_sharding=out_sharding,
        method=method,
    )
    if call is None or method == "xla":
        return by_xla(lhs, rhs)
    return call.compute(jnp.asarray(lhs), jnp.asarray(rhs))
