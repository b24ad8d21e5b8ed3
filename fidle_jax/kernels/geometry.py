"""Geometry of convolutions and poolings: kernel size, strides, padding, dilation, output shape."""

from __future__ import annotations

import dataclasses
import itertools
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from fidle_jax.kernels.arrays import Array

if TYPE_CHECKING:
    # Integers may be Python's or NumPy's, sequences may be NumPy arrays. None means 1.
    Count = int | np.integer | None
    Sizes = int | np.integer | Sequence[int] | np.ndarray | None
    Padding = str | int | np.integer | Sequence[int | Sequence[int]] | np.ndarray
else:
    # This module checks the values itself and raises its own errors.
    Count = Sizes = Padding = Any


@dataclasses.dataclass(frozen=True)
class ConvGeometry:
    """Positions of the windows of a convolution or pooling, with one entry per spatial axis.

    Attributes:
        size: Kernel size.
        strides: Distance between neighbouring windows.
        padding: Values added before and after the image.
        dilation: Distance between neighbouring values of a window.
        count: Number of windows, the spatial shape of the output.
    """

    size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    count: tuple[int, ...]

    @property
    def span(self) -> tuple[int, ...]:
        """Distance from the first to the last value of a window, plus one."""
        return dilated(self.size, self.dilation)


def dilated(size: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """Return the span of a window of ``size``; see `ConvGeometry`."""
    return tuple((k - 1) * d + 1 for k, d in zip(size, dilation, strict=True))


def resolve_geometry(
    spatial: Sequence[int],
    size: Sizes,
    strides: Sizes = 1,
    padding: Padding = "valid",
    dilation: Sizes = 1,
) -> ConvGeometry:
    """Return the geometry for images of shape ``spatial``. The other arguments are those of `kernels.conv`.

    With the padding "same", output size = input size / stride, rounded up. An odd value is added at the end.

    Raises:
        ValueError: An argument has the wrong length or range, the padding is unknown, or the padded
            image is smaller than the window.
    """
    rank = len(spatial)
    size = per_axis("window", size, rank)
    strides = per_axis("strides", strides, rank)
    dilation = per_axis("dilation", dilation, rank)
    span = dilated(size, dilation)
    pairs = _pairs(padding, spatial, span, strides)
    padded = tuple(n + low + high for n, (low, high) in zip(spatial, pairs, strict=True))
    if any(available < needed for available, needed in zip(padded, span, strict=True)):
        with_padding = " with its padding" if any(map(any, pairs)) else ""
        raise ValueError(
            f"an image of {format_sizes(padded)}{with_padding} is too small for a window of "
            f"{format_sizes(span)}; expected at least that size on every axis; use a smaller window or "
            "padding='same'"
        )
    count = tuple((n - k) // s + 1 for n, k, s in zip(padded, span, strides, strict=True))
    return ConvGeometry(size, strides, pairs, dilation, count)


def conv_geometry(
    x: Array, w: Array, strides: Sizes, padding: Padding, dilation: Sizes, groups: Count
) -> ConvGeometry:
    """Return the geometry of a convolution. Raise ValueError if shapes or arguments do not fit."""
    groups = 1 if groups is None else groups
    if np.ndim(groups) or min(_integers(groups, 1) or [0]) < 1:
        raise ValueError(f"groups is {groups!r}; it must be a positive integer")
    if x.ndim != w.ndim or x.ndim < 3:
        raise ValueError(
            f"x has {x.ndim} axes and w has {w.ndim}; expected the same number, at least 3; use (batch, "
            "*spatial, channel) and (*window, channel / groups, feature)"
        )
    channels, features = x.shape[-1], w.shape[-1]
    if w.shape[-2] * groups != channels or features % groups:
        raise ValueError(
            f"x has {channels} channels, w has {w.shape[-2]} channels and {features} features, groups is "
            f"{groups}; expected channels of x = channels of w * groups, and features divisible by groups"
        )
    return resolve_geometry(x.shape[1:-1], w.shape[:-2], strides, padding, dilation)


def per_axis(name: str, value: Sizes, rank: int) -> tuple[int, ...]:
    """Return ``value``, a positive integer or one per axis, as one integer for each of ``rank`` axes."""
    integers = _integers(1 if value is None else value, rank)
    if integers is None or min(integers, default=1) < 1:
        raise ValueError(
            f"{name} is {value!r}; it must be a positive integer, or {rank} of them, one for each "
            "spatial axis"
        )
    return integers


def _integers(value: Any, length: int) -> tuple[int, ...] | None:
    """Return ``length`` integers from one or more whole numbers of any type, or None for anything else."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # a tracer, or lists of different lengths
        return None
    array = np.broadcast_to(array, (length,)) if array.ndim == 0 else array
    if array.dtype.kind not in "iuf" or array.shape != (length,) or (array != array.round()).any():
        return None
    return tuple(map(int, array))


def _pairs(padding, spatial, span, strides) -> Any:
    if isinstance(padding, str):
        if padding.lower() not in ("valid", "same"):
            raise ValueError(
                f"unknown padding {padding!r}; it must be 'valid', 'same', an integer or pairs"
            )
        return tuple(lax.padtype_to_pads(spatial, span, strides, padding.upper()))
    has_entries = isinstance(padding, Sequence) or getattr(padding, "ndim", 0)
    each = padding if has_entries else [padding] * len(spatial)
    pairs = [_integers(side, 2) for side in each]
    if len(pairs) != len(spatial) or any(pair is None or min(pair) < 0 for pair in pairs):
        raise ValueError(
            f"padding is {padding!r}; it must be 'valid', 'same', a non-negative integer, or for each "
            f"of the {len(spatial)} spatial axes an integer or a pair (before, after)"
        )
    return tuple(pairs)


def format_sizes(sizes: Sequence[int]) -> str:
    """Format sizes for messages and tables, such as "3x3"."""
    return "x".join(map(str, sizes)) or "no axes"


def pad(x: Array, padding: Sequence[tuple[int, int]], value: float | np.ndarray = 0) -> Array:
    """Pad the spatial axes of ``x``, an array (batch, *spatial, channel), with ``value``."""
    if not any(map(any, padding)):
        return x
    config = [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)]
    return lax.pad(x, jnp.array(value, x.dtype), config)


def shifted_slices(padded: Array, geometry: ConvGeometry) -> list[Array]:
    """Return one slice per value of a window, the last axis fastest: (batch, *count, channel)."""
    batch, *_, channels = padded.shape
    strides = (1, *geometry.strides, 1)
    extent = [(n - 1) * s + 1 for n, s in zip(geometry.count, geometry.strides, strict=True)]
    ranges = [range(0, k * d, d) for k, d in zip(geometry.size, geometry.dilation, strict=True)]
    return [
        lax.slice(
            padded, (0, *start, 0), (batch, *map(operator.add, start, extent), channels), strides
        )
        for start in itertools.product(*ranges)
    ]
