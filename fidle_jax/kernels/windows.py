"""Windows that slide over the spatial axes: their sizes, padding and number, and what is wrong with them."""

from __future__ import annotations

import dataclasses
import math
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
    # This module checks the values itself, with its own messages.
    Count = Sizes = Padding = Any


@dataclasses.dataclass(frozen=True)
class Windows:
    """How windows lie over an image, one number (or pair) a spatial axis.

    Attributes:
        size: of a window, in values that it takes in.
        strides: from one window to the next.
        padding: zeros (or what stands for nothing) before and after.
        dilation: distance between two values of a window.
        count: how many windows there are.
    """

    size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    count: tuple[int, ...]


def resolve_windows(
    spatial: Sequence[int],
    size: Sizes,
    strides: Sizes = 1,
    padding: Padding = "valid",
    dilation: Sizes = 1,
) -> Windows:
    """The windows that these arguments describe over an image of ``spatial`` axes, all spelled out.

    Args:
        spatial: sizes of the image.
        size: of the window.
        strides: from one window to the next.
        padding: "valid", "same" (the rule of TensorFlow and Keras: as many windows as the image has
            values, divided by the stride and rounded up; what is odd goes after), a number for
            every side, or for each axis a number or a pair (before, after).
        dilation: distance between two values of a window.

    Raises:
        ValueError: numbers of the wrong count or size, an unknown padding, windows larger than the
            padded image.
    """
    rank = len(spatial)
    size = per_axis("window", size, rank)
    strides = per_axis("strides", strides, rank)
    dilation = per_axis("dilation", dilation, rank)
    span = tuple((k - 1) * d + 1 for k, d in zip(size, dilation, strict=True))
    padding = _pairs(padding, spatial, span, strides)
    padded = tuple(n + low + high for n, (low, high) in zip(spatial, padding, strict=True))
    if any(room < needed for room, needed in zip(padded, span, strict=True)):
        raise ValueError(
            f"an image of {times(padded)}{' with its padding' if any(map(any, padding)) else ''} is "
            f"too small for a window of {times(span)}; expected at least that size on every axis "
            "(padding='same' always has room)"
        )
    count = tuple((n - k) // s + 1 for n, k, s in zip(padded, span, strides, strict=True))
    return Windows(size, strides, padding, dilation, count)


def conv_windows(
    x: Array, w: Array, strides: Sizes, padding: Padding, dilation: Sizes, groups: Count
) -> Windows:
    """The windows of a convolution of ``x`` by ``w``, channels last.

    Raises:
        ValueError: as `resolve_windows`, or arrays that do not go together.
    """
    if groups is None:
        groups = 1
    if as_integer(groups) is None:
        raise ValueError(f"groups is {groups!r}; it must be a positive integer")
    if x.ndim != w.ndim or x.ndim < 3:
        raise ValueError(
            f"x of {x.ndim} axes and w of {w.ndim}; expected the same number, 3 or more: (batch, "
            "*spatial, channel) and (*window, channel / groups, feature)"
        )
    channels, features = x.shape[-1], w.shape[-1]
    if groups < 1 or w.shape[-2] * groups != channels or features % groups:
        raise ValueError(
            f"x of {channels} channels and w of {w.shape[-2]} channels and {features} features in "
            f"{groups} groups; expected channels of x = channels of w times groups, and features "
            "that the groups divide"
        )
    return resolve_windows(x.shape[1:-1], w.shape[:-2], strides, padding, dilation)


def per_axis(name: str, value: Sizes, rank: int) -> tuple[int, ...]:
    """Return ``value`` as one integer for each of ``rank`` axes.

    Raises:
        ValueError: ``value`` is not one positive integer, or one for each axis.
    """
    value = 1 if value is None else value
    entries = as_list(value)
    entries = [value] * rank if entries is None else entries
    integers = [as_integer(entry) for entry in entries]
    if len(integers) != rank or any(i is None or i < 1 for i in integers):
        raise ValueError(
            f"{name} is {value!r}; it must be a positive integer, or {rank} of them, one for each "
            "spatial axis"
        )
    return tuple(i for i in integers if i is not None)


def as_list(value: Any) -> list[Any] | None:
    """Return the entries of a sequence or of an array with axes, or None for anything else."""
    if isinstance(value, str):
        return None
    if isinstance(value, Sequence):
        return list(value)
    return list(value) if getattr(value, "ndim", 0) else None


def as_integer(value: Any) -> int | None:
    """Return a whole number of any numeric type as int, or None for anything else."""
    if isinstance(value, (bool, np.bool_)):
        return None
    if isinstance(value, (float, np.floating)):
        return int(value) if float(value).is_integer() else None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _pairs(padding, spatial, span, strides) -> tuple[tuple[int, int], ...]:
    if isinstance(padding, str):
        if padding.lower() not in ("valid", "same"):
            raise ValueError(
                f"unknown padding {padding!r}; it must be 'valid', 'same', an integer or pairs"
            )
        return tuple(lax.padtype_to_pads(spatial, span, strides, padding.upper()))
    each = as_list(padding)
    each = [padding] * len(spatial) if each is None else each
    pairs = []
    for side in each:
        pair = as_list(side)
        pairs.append(tuple(map(as_integer, [side, side] if pair is None else pair)))
    if len(pairs) != len(spatial) or any(
        len(pair) != 2 or None in pair or min(pair) < 0 for pair in pairs
    ):
        raise ValueError(
            f"padding is {padding!r}; it must be 'valid', 'same', a non-negative integer, or for each "
            f"of the {len(spatial)} spatial axes an integer or a pair (before, after)"
        )
    return tuple(pairs)


def times(sizes: Sequence[int]) -> str:
    """Sizes as they are written: 3x3."""
    return "x".join(map(str, sizes)) or "no axes"


def pad(x: Array, padding: Sequence[tuple[int, int]], value: float | np.ndarray = 0) -> Array:
    """``x`` of (batch, *spatial, channel) with ``value`` around its spatial axes."""
    if not any(map(any, padding)):
        return x
    config = [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)]
    return lax.pad(x, jnp.array(value, x.dtype), config)


def shifted_slices(padded: Array, windows: Windows) -> list[Array]:
    """For each value of a window, that value in all windows: (batch, *count, channel) each.

    In the order of the window's values, the last axis fastest.
    """
    slices = []
    for flat in range(math.prod(windows.size)):
        start, stop = [0], [padded.shape[0]]
        rest = flat
        offsets = []
        for k, d in zip(reversed(windows.size), reversed(windows.dilation), strict=True):
            offsets.append(rest % k * d)
            rest //= k
        offsets.reverse()
        for offset, n, s in zip(offsets, windows.count, windows.strides, strict=True):
            start.append(offset)
            stop.append(offset + (n - 1) * s + 1)
        slices.append(
            lax.slice(padded, [*start, 0], [*stop, padded.shape[-1]], [1, *windows.strides, 1])
        )
    return slices
