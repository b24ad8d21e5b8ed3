"""Windows that slide over the spatial axes: their sizes, padding and number, and what is wrong with them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax.numpy as jnp
from jax import lax

if TYPE_CHECKING:
    from jaxtyping import Array

Sizes = int | Sequence[int]
Padding = str | int | Sequence[int | tuple[int, int]]


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
    x: Array, w: Array, strides: Sizes, padding: Padding, dilation: Sizes, groups: int
) -> Windows:
    """The windows of a convolution of ``x`` by ``w``, channels last.

    Raises:
        ValueError: as `resolve_windows`, or arrays that do not go together.
    """
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
    """``value`` for each of ``rank`` axes.

    Raises:
        ValueError: not one whole number above zero for each axis.
    """
    values = tuple(value) if isinstance(value, Sequence) else (value,) * rank
    if len(values) != rank or any(int(v) != v or v < 1 for v in values):
        raise ValueError(
            f"{name} {value!r}; expected a whole number of 1 or more, or {rank} of them, one for "
            "each spatial axis"
        )
    return tuple(map(int, values))


def _pairs(padding, spatial, span, strides) -> tuple[tuple[int, int], ...]:
    if isinstance(padding, str):
        if padding.lower() not in ("valid", "same"):
            raise ValueError(f"unknown padding {padding!r}; expected 'valid', 'same' or numbers")
        return tuple(lax.padtype_to_pads(spatial, span, strides, padding.upper()))
    each = (padding,) * len(spatial) if isinstance(padding, int) else tuple(padding)
    pairs = tuple((side, side) if isinstance(side, int) else tuple(side) for side in each)
    if len(pairs) != len(spatial) or any(len(pair) != 2 or min(pair) < 0 for pair in pairs):
        raise ValueError(
            f"padding {padding!r}; expected 'valid', 'same', a number of 0 or more, or for each of the "
            f"{len(spatial)} spatial axes a number or a pair (before, after)"
        )
    return tuple((int(low), int(high)) for low, high in pairs)


def times(sizes: Sequence[int]) -> str:
    """Sizes as they are written: 3x3."""
    return "x".join(map(str, sizes)) or "no axes"


def pad(x: Array, padding: Sequence[tuple[int, int]], value: float = 0) -> Array:
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
