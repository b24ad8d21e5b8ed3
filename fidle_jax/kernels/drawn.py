"""Strategies of hypothesis for shapes that are not listed in `fidle_jax.kernels.specs`."""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from fidle_jax.kernels.geometry import ConvGeometry, resolve_geometry
from fidle_jax.kernels.specs import Spec, is_shape

# Kernel sizes, strides and dilations for an axis, by the number of axes.
CHOICES = {
    1: ((1, 2, 3, 4, 5), (1, 2, 3), (1, 2, 3)),
    2: ((1, 2, 3, 4, 5), (1, 2, 3), (1, 2)),
    3: ((1, 2, 3), (1, 2), (1, 2)),
    4: ((1, 2), (1, 2), (1,)),
}

_PAIRS = st.tuples(*[st.integers(0, 3)] * 2)


def supported(supports: Callable[..., bool], rank: int) -> list[tuple]:
    """Return all (kernel size, strides, dilation) from ``CHOICES[rank]`` that ``supports`` accepts."""
    axes = itertools.product(itertools.product(*CHOICES[rank]), repeat=rank)
    return [kind for kind in (tuple(zip(*axis, strict=True)) for axis in axes) if supports(*kind)]


@st.composite
def conv_specs(draw, supports: Callable[..., bool], rank: int) -> Spec:
    """Draw convolutions of ``rank`` spatial axes with supported geometry, the simplest first."""
    size, strides, dilation = draw(st.sampled_from(supported(supports, rank)))
    each = st.tuples(*[st.integers(0, 3) | _PAIRS] * rank)
    padding = draw(st.sampled_from(["valid", "same"]) | st.integers(0, 2) | each)
    span = resolve_geometry(size, size, 1, "same", dilation).span
    least = [1 if padding == "same" else k for k in span]
    spatial = [n + draw(st.integers(0, 4)) for n in least]
    batch, groups, channels, features = (draw(st.integers(1, 3)) for _ in range(4))
    x_shape = (batch, *spatial, channels * groups)
    w_shape = (*size, channels, features * groups)
    windows = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
    return Spec(x_shape, w_shape, **windows)


@st.composite
def pool_specs(draw) -> Spec:
    """Draw poolings of up to three axes. The padding is smaller than the window, as required."""
    window = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple))
    strides = draw(st.none() | st.tuples(*[st.integers(1, 3)] * len(window)))
    pairs = st.tuples(*[st.tuples(*[st.integers(0, k - 1)] * 2) for k in window])
    padding = draw(st.sampled_from(["valid", "same", min(window) - 1]) | pairs)
    spatial = [k + draw(st.integers(0, 4)) for k in window]
    batch, channels = draw(st.sampled_from([1, 2, 3, 0])), draw(st.integers(1, 3))
    shape = (batch, *spatial, channels)
    return Spec(shape, window=window, strides=strides, padding=padding)


@functools.cache
def _with_pools(supports, rank):
    """Return all (kernel size, strides, dilation), and (window, strides) of poolings for each of them."""
    choices = itertools.product(itertools.product((1, 2, 3), repeat=2), repeat=rank)
    pools = [tuple(zip(*axis, strict=True)) for axis in choices]

    def accepts(kind, pool):
        size, strides, dilation = kind
        geometry = resolve_geometry((24,) * rank, size, strides, dilation=dilation)
        return supports(geometry, resolve_geometry(geometry.count, *pool))

    kinds = supported(lambda *kind: accepts(kind, ((2,) * rank,) * 2), rank)
    return kinds, [pool for pool in pools if accepts(kinds[-1], pool)]


@st.composite
def conv_pool_specs(draw, supports: Callable[..., bool], rank: int) -> Spec:
    """Draw convolutions of ``rank`` spatial axes with max pooling, the simplest first.

    ``supports`` is a function (geometry of the convolution, geometry of the pooling) -> bool.
    """
    kinds, pools = _with_pools(supports, rank)
    size, strides, dilation = draw(st.sampled_from(kinds))
    window, pool_strides = draw(st.sampled_from(pools))
    spatial = [
        (k - 1) * d + 1 + (p - 1) * s + draw(st.integers(0, 4))
        for k, d, p, s in zip(size, dilation, window, strides, strict=True)
    ]
    padding = draw(st.sampled_from(["valid", "same", 1]) | st.tuples(*[_PAIRS] * rank))
    batch, channels, features = (draw(st.integers(1, 3)) for _ in range(3))
    arguments = {"strides": strides, "padding": padding, "dilation": dilation, "window": window}
    if draw(st.booleans()):
        arguments["activation"] = None
    shapes = (batch, *spatial, channels), (*size, channels, features), (features,)
    return Spec(*shapes, pool_strides=pool_strides, **arguments)


@st.composite
def resized_specs(draw, specs: Sequence[Spec], function: Callable[..., Any]) -> Spec:
    """Draw specs with other sizes. Axes of equal size in a spec have equal size in the new one.

    Draw only what ``function`` accepts.
    """
    spec = draw(st.sampled_from(specs))
    shapes = jax.tree.leaves(spec.inputs, is_leaf=is_shape)
    sizes = {
        n: draw(st.integers(1, 2 * n + 1)) for shape in shapes if is_shape(shape) for n in shape
    }

    def resize(shape):
        return tuple(sizes[n] for n in shape) if is_shape(shape) else shape

    resized = Spec(*jax.tree.map(resize, spec.inputs, is_leaf=is_shape), **spec.arguments)
    try:
        call = functools.partial(function, **spec.arguments)
        jax.eval_shape(call, *resized.arrays(np.float32))
    except Exception:
        assume(False)
    return resized


def geometry_of(spec: Spec) -> ConvGeometry:
    """Return the geometry of a convolution."""
    x, w = spec.inputs[:2]
    names = {"strides", "padding", "dilation"} & set(spec.arguments)
    return resolve_geometry(x[1:-1], w[:-2], **{name: spec.arguments[name] for name in names})


def windows_of(spec: Spec) -> tuple[tuple[int, ...], ...]:
    """Return the kernel size, the strides and the dilation of a convolution."""
    geometry = geometry_of(spec)
    return geometry.size, geometry.strides, geometry.dilation


def geometries_of(spec: Spec) -> tuple[ConvGeometry, ConvGeometry]:
    """Return the geometry of a convolution and that of the max pooling after it."""
    geometry, window = geometry_of(spec), spec.arguments.get("window", 2)
    strides = spec.arguments.get("pool_strides") or window
    return geometry, resolve_geometry(geometry.count, window, strides)
