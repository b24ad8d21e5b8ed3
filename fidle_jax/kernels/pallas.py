"""Convolution and max pooling written in Pallas: one program for each tile of the output.

The images are a matrix with one row per pixel and one column per channel. In this layout the values at one
position of all windows are consecutive rows. So a tile of rows of a convolution is

    y[tile] = sum(x[tile + row(k)] @ w[k] for k in positions of the window)

and max pooling is the maximum of the same slices. Rows at the margins of the images, which have no window,
are computed and dropped. With strides the images are divided into phases: phase r consists of the pixels
s q + r, and a position of the window is a phase and a number of rows.

JAX compiles the program with Mosaic for a TPU and with Triton for a GPU, and interprets it on a CPU. "auto"
never selects it. XLA cannot partition it on a TPU or GPU: use `jax.shard_map` to shard the batch. The tests
lower it for both, but it has not been run on either.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

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

# Rows of a compiled tile, and limits of its channels and features. Triton needs powers of two.
ROWS, LEAST, MOST = 128, 16, 64


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
kernel_gradient = functools.partial(forward.kernel_gradient, conv=conv)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def max_pool(x: AnyImages, geometry: ConvGeometry) -> AnyOutput:
    """Compute `fidle_jax.kernels.pooling.max_pool` in Pallas. Its derivatives are plain JAX."""
    return max_pool_p.bind(x, geometry=geometry)


@max_pool.defjvp
def _max_pool_jvp(geometry, primals, tangents):
    argmax = pooling.max_with_argmax(*primals, geometry)[1]
    return max_pool(*primals, geometry), pooling.take_in_windows(*tangents, argmax, geometry)


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


def _on_platform(run, *arrays):
    interpreted = functools.partial(run, interpret=True)
    return lax.platform_dependent(*arrays, cpu=interpreted, default=run)


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
        interpret: Interpret a single tile of rows, because a step takes long on a CPU.
    """
    from jax.experimental import pallas as pl  # slow to import

    axes = list(zip(geometry.size, geometry.dilation, geometry.strides, strict=True))
    reach = [(k - 1) * d // s for k, d, s in axes]
    extent = [n + more for n, more in zip(geometry.count, reach, strict=True)]
    steps = [math.prod(extent[axis + 1 :]) for axis in range(len(extent))]
    used, windows = x.shape[0] * math.prod(extent), math.prod(geometry.size)
    halo = sum(more * step for more, step in zip(reach, steps, strict=True))
    outputs = (*kernels, x)[0].shape[-1]
    channels, features = x.shape[-1] // groups, outputs // groups
    rows, depth, width = used, channels, features
    if not interpret:
        rows, depth, width = ROWS, _power_of_two(channels), _power_of_two(features)
        halo += -halo % 8  # the alignment of Mosaic
    if not kernels:  # the channels are independent
        groups, channels, features = -(-channels // depth), depth, depth
    chunks, columns, tiles = -(-channels // depth), -(-features // width), -(-used // rows)
    x = _planes(
        _pad_to(x, -1, groups * channels, start), geometry, extent, groups, chunks, depth, start
    )
    x = _pad_to(x, 2, tiles * rows + halo)
    kernels = [_matrices(w, groups, chunks, depth, columns, width) for w in kernels]

    def position(k):
        """Return the plane of x and the first row of a position and chunk."""
        plane, planes, k, row = lax.rem(k, chunks), chunks, lax.div(k, chunks), 0
        for (size, dilation, stride), step in reversed(list(zip(axes, steps, strict=True))):
            at, k = lax.rem(k, size) * dilation, lax.div(k, size)
            plane, planes = plane + lax.rem(at, stride) * planes, planes * stride
            row += lax.div(at, stride) * step
        return plane, row

    def program(x_ref, *refs):
        *w_refs, y_ref = refs

        def step(k, y):
            plane, row = position(k)
            values = x_ref[0, plane, pl.ds(row, rows), :]
            return combine(y, values, *(ref[0, 0, k] for ref in w_refs))

        bounds = np.int32(0), np.int32(windows * chunks)
        y_ref[0, 0] = lax.fori_loop(*bounds, step, jnp.full((rows, width), start))

    # Blocks of rows overlap. They begin at an element, not at a multiple of the block.
    x_block = tuple(map(pl.Element, (1, x.shape[1], rows + halo, depth)))
    x_spec = pl.BlockSpec(x_block, lambda i, g, j: (g, 0, i * rows, 0))
    w_spec = pl.BlockSpec((1, 1, windows * chunks, depth, width), lambda i, g, j: (g, j, 0, 0, 0))
    y = pl.pallas_call(
        program,
        grid=(tiles, groups, columns),
        in_specs=[x_spec, w_spec][: 1 + len(kernels)],
        out_specs=pl.BlockSpec((1, 1, rows, width), lambda i, g, j: (g, j, i, 0)),
        out_shape=ShapedArray((groups, columns, tiles * rows, width), x.dtype),
        interpret=interpret,
    )(x, *kernels)
    y = y[:, :, :used].reshape(groups, columns, -1, *extent, width)
    y = y[(slice(None),) * 3 + tuple(map(slice, geometry.count))]
    y = jnp.moveaxis(y, (0, 1), (-3, -2))
    y = y.reshape(*y.shape[:-2], columns * width)[..., :features]
    return y.reshape(*y.shape[:-2], groups * features)[..., :outputs]


def _planes(x, geometry, extent, groups, chunks, depth, value):
    """Return images as (group, phase and chunk of channels, row, channel), padded with ``value``."""
    axes = zip(geometry.padding, extent, geometry.strides, x.shape[1:-1], strict=True)
    pads = [(low, n * s - low - size, 0) for (low, _), n, s, size in axes]
    x = lax.pad(x, jnp.array(value, x.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
    sides = [side for pair in zip(extent, geometry.strides, strict=True) for side in pair]
    x = _pad_to(x.reshape(x.shape[0], *sides, groups, -1), -1, chunks * depth)
    x = x.reshape(*x.shape[:-1], chunks, depth)
    *axes, group, chunk, channel = range(x.ndim)
    x = x.transpose(group, *axes[2::2], chunk, axes[0], *axes[1::2], channel)
    return x.reshape(groups, math.prod(geometry.strides) * chunks, -1, depth)


def _matrices(w, groups, chunks, depth, columns, width):
    """Return a kernel as (group, column of features, position and chunk, channel, feature)."""
    w = w.reshape(-1, w.shape[-2], groups, w.shape[-1] // groups)
    w = _pad_to(_pad_to(w, 1, chunks * depth), 3, columns * width)
    return w.reshape(-1, depth, groups, columns, width).transpose(2, 3, 0, 1, 4)


def _pad_to(array, axis, size, value=0):
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
