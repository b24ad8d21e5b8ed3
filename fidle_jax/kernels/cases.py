"""Convolutions drawn by hypothesis for `fidle_jax.kernels.testing`."""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from fidle_jax.kernels import conv
from fidle_jax.kernels.windows import resolve_windows

# Windows, strides and dilations to draw for an axis, by the number of axes.
CHOICES = {
    1: ((1, 2, 3, 4, 5), (1, 2, 3), (1, 2, 3)),
    2: ((1, 2, 3, 4, 5), (1, 2, 3), (1, 2)),
    3: ((1, 2, 3), (1, 2), (1, 2)),
    4: ((1, 2), (1, 2), (1,)),
}


@dataclasses.dataclass(frozen=True)
class ConvCase:
    """Shapes, type and arguments of a convolution."""

    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str | int | tuple[int | tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1
    dtype: str = "float32"

    @property
    def y_shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        spatial, size = self.x_shape[1:-1], self.w_shape[:-2]
        windows = resolve_windows(spatial, size, self.strides, self.padding, self.dilation)
        return (self.x_shape[0], *windows.count, self.w_shape[-1])

    def arrays(self) -> list[jax.Array]:
        """Return x, w, and random weights of the result, the cotangent of the gradients."""
        rng = np.random.default_rng(0)
        shapes = (self.x_shape, self.w_shape, self.y_shape)
        return [jnp.asarray(rng.normal(size=shape), self.dtype) for shape in shapes]

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of `fidle_jax.kernels.conv` except the method."""
        return {
            "strides": self.strides,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }

    def conv(self, method: str) -> Callable[[jax.Array, jax.Array], jax.Array]:
        """Return the convolution of x and w by ``method``."""
        return functools.partial(conv, method=method, **self.arguments())


@st.composite
def conv_cases(draw, supports: Callable[..., bool], rank: int) -> ConvCase:
    """Draw cases of ``rank`` spatial axes with supported windows, the simplest first."""
    size, strides, dilation = draw(st.sampled_from(supported(supports, rank)))
    pair = st.tuples(*[st.integers(0, 3)] * 2)
    each = st.tuples(*[st.integers(0, 3) | pair] * rank)
    padding = draw(st.sampled_from(["valid", "same"]) | st.integers(0, 2) | each)
    span = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
    spatial = [
        max(1, k - _room(padding, axis, k)) + draw(st.integers(0, 4)) for axis, k in enumerate(span)
    ]
    batch, groups, channels, features = (draw(st.integers(1, 3)) for _ in range(4))
    return ConvCase(
        (batch, *spatial, channels * groups),
        (*size, channels, features * groups),
        strides,
        padding,
        dilation,
        groups,
        draw(st.sampled_from(["float32", "bfloat16", "float64"])),
    )


def supported(supports: Callable[..., bool], rank: int) -> list[tuple]:
    """Return all supported (size, strides, dilation) of `CHOICES`."""
    axes = itertools.product(itertools.product(*CHOICES[rank]), repeat=rank)
    return [kind for kind in (tuple(zip(*axis, strict=True)) for axis in axes) if supports(*kind)]


def _room(padding, axis, span):
    """Return the number of values that ``padding`` adds to an axis."""
    if isinstance(padding, str):
        return span if padding == "same" else 0
    sides = padding if isinstance(padding, int) else padding[axis]
    return 2 * sides if isinstance(sides, int) else sum(sides)
