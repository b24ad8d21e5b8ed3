"""Convolution and max pooling written in Pallas: one program for each block of the output.

Each image is a matrix with one row per pixel and one column per channel. In this layout the values at one
position of all windows are consecutive rows. So a block of rows of a convolution is

    y[block] = sum(x[block + row(k)] @ w[k] for k in positions of the window)

and max pooling is the maximum of the same slices. Rows at the margins of the image, which have no window,
are computed and dropped. With strides the image is divided into phases: phase r consists of the pixels
s q + r, and a position of the window is a phase and a number of rows.

JAX compiles the program with Mosaic for a TPU and with Triton for a GPU, and interprets it on a CPU. "auto"
never selects it. The gradients are again such convolutions (see `fidle_jax.kernels.forward`), except with
both strides and dilation, and in the kernel with groups: these are transposes of "im2col".

The programs were compiled for a TPU v5e and for an H100, but have not been run on a TPU or GPU. Limits:

- XLA cannot partition them. Use `jax.shard_map` to shard the batch.
- On a TPU there is no float64, and a window must fit into the 16 MB of vector memory. The window of a
  gradient in the kernel is an image: 56x56 pixels are too many.
- JAX 0.12 deprecates Triton. Its successor, Mosaic GPU, needs another program, with explicit copies.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import batching

from fidle_jax.kernels import forward, pooling
from fidle_jax.kernels.arrays import (
    AnyImages,
    AnyOutput,
    Array,
    Images,
    Kernel,
    Output,
    Shaped,
    sum_dtype,
)
from fidle_jax.kernels.geometry import ConvGeometry
from fidle_jax.kernels.primitives import compile_eagerly, register_lowerings

# Sizes of compiled blocks of rows, channels and features. Triton needs powers of two.
LEAST, MOST = 16, 64


def conv(x: Images, w: Kernel, geometry: ConvGeometry, groups: int) -> Output:
    """Compute a convolution in Pallas, with sums in float32 or wider."""
    wide, shape = sum_dtype(x.dtype), (x.shape[0], *geometry.count, w.shape[-1])

    def add_product(total, values, kernel):
        return total + jnp.dot(values, kernel, precision="highest", preferred_element_type=wide)

    if not (x.size and w.size):
        return jnp.zeros(shape, x.dtype)
    run = functools.partial(_run, add_product, np.zeros((), wide), geometry, groups)
    return _on_platform(run, x.astype(wide), w.astype(wide)).astype(x.dtype)


image_gradient = functools.partial(forward.image_gradient, conv=conv)


def kernel_gradient(x: Images, y: Output, geometry: ConvGeometry) -> Kernel:
    """Compute `fidle_jax.kernels.forward.kernel_gradient` in Pallas."""
    gradient = functools.partial(forward.kernel_gradient, geometry=geometry, conv=conv)
    if isinstance(x.shape[0], int):
        return gradient(x, y)
    return lax.map(lambda pair: gradient(pair[0][None], pair[1][None]), (x, y)).sum(0)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def max_pool(x: AnyImages, geometry: ConvGeometry) -> AnyOutput:
    """Compute `fidle_jax.kernels.pooling.max_pool` in Pallas. Its derivatives are plain JAX."""
    return max_pool_p.bind(x, geometry=geometry)


@max_pool.defjvp
def _max_pool_jvp(geometry, primals, tangents):
    (x,), (tangent,) = primals, tangents
    argmax = pooling.max_with_argmax(x, geometry)[1]
    return max_pool(x, geometry), pooling.take_in_windows(tangent, argmax, geometry)


def _max_pool(x, *, geometry, **_):
    def larger(largest, values):
        # Triton's maximum ignores NaN.
        return jnp.where((values > largest) | (values != values), values, largest)

    if x.size == 0:
        return jnp.zeros((x.shape[0], *geometry.count, x.shape[-1]), x.dtype)
    # Mosaic reads rows at any index only from arrays of 32 bits.
    narrow = np.float32 if jnp.issubdtype(x.dtype, jnp.floating) else np.int32
    wide = x.astype(x.dtype if x.dtype.itemsize > 4 else narrow)
    start = pooling.lowest(x.dtype).astype(wide.dtype)
    return _on_platform(functools.partial(_run, larger, start, geometry, 1), wide).astype(x.dtype)


def _on_platform(run, x, *kernels):
    """Return ``run(x, *kernels)``, interpreted on a CPU."""

    def dispatch(x):
        interpreted = functools.partial(run, interpret=True)
        return lax.platform_dependent(x, *kernels, cpu=interpreted, default=run)

    if isinstance(x.shape[0], int):
        return dispatch(x)
    return lax.map(lambda image: dispatch(image[None])[0], x)  # a symbolic batch size


def _run(
    combine: Callable[..., Array],
    start: np.ndarray,
    geometry: ConvGeometry,
    groups: int,
    x: Shaped[Array, "batch *spatial channel"],
    *kernels: Shaped[Array, "*window channel_per_group feature"],
    interpret: bool = False,
) -> Shaped[Array, "batch *count feature"]:
    """Apply ``combine`` to each tile of the output and each position of the window.

    Args:
        combine: Function (y, values, *kernel) -> y of the matrices (row, feature), (row, channel) and
            (channel, feature).
        start: Initial value of y, and value of the padding.
        geometry: Geometry of the windows.
        groups: Number of groups of channels.
        x: Images.
        *kernels: Kernel of a convolution, or nothing for a pooling.
        interpret: Interpret one large block, because a step of the interpreter copies all arrays.
    """
    from jax.experimental import pallas as pl  # slow to import

    # Pixels of a phase along each axis, and the rows between neighbours.
    axes = list(zip(geometry.count, geometry.span, geometry.strides, strict=True))
    extent = [n + (k - 1) // s for n, k, s in axes]
    steps = [math.prod(extent[axis + 1 :]) for axis in range(len(extent))]
    used = 1 + sum((n - 1) * step for n, step in zip(geometry.count, steps, strict=True))
    windows = math.prod(geometry.size)
    batch, outputs = x.shape[0], (*kernels, x)[0].shape[-1]
    channels, features = x.shape[-1] // groups, outputs // groups

    # Blocks of images, rows, channels and features, and the rows after a block that its windows reach.
    images, rows, depth, width = batch, used, channels, features
    halo = sum((k - 1) // s * step for (_, k, s), step in zip(axes, steps, strict=True))
    if not interpret:
        images, rows, depth, width = 1, MOST, _power_of_two(channels), _power_of_two(features)
        halo += -halo % 8  # the alignment of Mosaic
    if not kernels:  # each block of channels is a group
        groups, channels, features = -(-channels // depth), depth, depth
        x = _pad_to(x, -1, groups * depth, start)
    tiles, chunks, columns = -(-used // rows), -(-channels // depth), -(-features // width)
    x = _pad_to(_planes(x, geometry, extent, groups, chunks, depth, start), 3, tiles * rows + halo)
    matrices = [_matrices(w, groups, chunks, depth, columns, width) for w in kernels]
    # Mosaic has no 64-bit integers, also if they are JAX's default.
    table = np.array([geometry.size, geometry.dilation, geometry.strides, steps], np.int32).T

    def position(k) -> Any:
        """Return the plane of x and the first row of a position and chunk."""
        planes, row = np.int32(chunks), np.int32(0)
        plane, k = lax.rem(k, planes), lax.div(k, planes)
        for size, dilation, stride, step in reversed(table):
            at, k = lax.rem(k, size) * dilation, lax.div(k, size)
            plane, planes = plane + lax.rem(at, stride) * planes, planes * stride
            row += lax.div(at, stride) * step
        return plane, row

    def program(x_ref, *refs):
        *w_refs, y_ref = refs

        # An index of its own, because that of the loop may have 64 bits.
        def step(_, carry):
            k, y = carry
            plane, row = position(k)
            values = x_ref[0, plane, :, pl.ds(row, rows), :].reshape(images * rows, depth)
            return k + 1, combine(y, values, *(ref[0, k] for ref in w_refs))

        carry = jnp.int32(0), jnp.full((images * rows, width), start)
        y = lax.fori_loop(0, windows * chunks, step, carry)[1]
        y_ref[:, 0] = y.reshape(images, rows, width)

    # Blocks of rows overlap. They begin at an element, not at a multiple of the block.
    x_block = tuple(map(pl.Element, (1, x.shape[1], images, rows + halo, depth)))
    per_group = np.int32(columns)
    y = pl.pallas_call(
        program,
        grid=(batch // images, tiles, groups * columns),
        in_specs=[
            pl.BlockSpec(
                x_block, lambda n, i, j: (lax.div(j, per_group), 0, n * images, i * rows, 0)
            ),
            *(pl.BlockSpec((1, *w.shape[1:]), lambda n, i, j: (j, 0, 0, 0)) for w in matrices),
        ],
        out_specs=pl.BlockSpec((images, 1, rows, width), lambda n, i, j: (n, j, i, 0)),
        out_shape=ShapedArray((batch, groups * columns, tiles * rows, width), x.dtype),
        interpret=interpret,
    )(x, *matrices)
    y = _pad_to(y, 2, math.prod(extent)).reshape(batch, groups, columns, *extent, width)
    y = y[(slice(None),) * 3 + tuple(map(slice, geometry.count))]
    y = jnp.moveaxis(y, (1, 2), (-3, -2))
    y = y.reshape(*y.shape[:-2], columns * width)[..., :features]
    return y.reshape(*y.shape[:-2], groups * features)[..., :outputs]


def _planes(x, geometry, extent, groups, chunks, depth, value):
    """Return images as (group, phase and chunk of channels, image, row, channel)."""
    axes = zip(geometry.padding, extent, geometry.strides, x.shape[1:-1], strict=True)
    pads = [(low, n * s - low - size, 0) for (low, _), n, s, size in axes]
    x = lax.pad(x, jnp.array(value, x.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
    sides = [side for pair in zip(extent, geometry.strides, strict=True) for side in pair]
    x = _pad_to(x.reshape(x.shape[0], *sides, groups, -1), -1, chunks * depth)
    x = x.reshape(*x.shape[:-1], chunks, depth)
    *axes, group, chunk, channel = range(x.ndim)
    x = x.transpose(group, *axes[2::2], chunk, axes[0], *axes[1::2], channel)
    return x.reshape(groups, math.prod(geometry.strides) * chunks, -1, math.prod(extent), depth)


def _matrices(w, groups, chunks, depth, columns, width):
    """Return a kernel as (group and column of features, position and chunk, channel, feature)."""
    w = w.reshape(-1, w.shape[-2], groups, w.shape[-1] // groups)
    w = _pad_to(_pad_to(w, 1, chunks * depth), 3, columns * width)
    return w.reshape(-1, depth, groups * columns, width).transpose(2, 0, 1, 3)


def _pad_to(array: Array, axis: int, size: int, value: float | np.ndarray = 0) -> Array:
    """Pad the end of an axis to ``size``."""
    config = [(0, 0, 0)] * array.ndim
    config[axis] = (0, size - array.shape[axis], 0)
    return lax.pad(array, jnp.array(value, array.dtype), config)


def _power_of_two(size):
    """Return the block size along an axis of channels or features in a compiled program."""
    return min(MOST, max(LEAST, 2 ** math.ceil(math.log2(size))))


max_pool_p = Primitive("fidle_pallas_max_pool")


@max_pool_p.def_abstract_eval
def _(x, *, geometry):
    return x.update(shape=(x.shape[0], *geometry.count, x.shape[-1]), weak_type=False)


def _batch(arguments, axes, *, geometry):
    x = jnp.moveaxis(arguments[0], axes[0], 0)
    y = max_pool_p.bind(x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), geometry=geometry)
    return y.reshape(*x.shape[:2], *y.shape[1:]), 0


batching.primitive_batchers[max_pool_p] = _batch
compile_eagerly(max_pool_p, _max_pool)
register_lowerings(max_pool_p, _max_pool)
