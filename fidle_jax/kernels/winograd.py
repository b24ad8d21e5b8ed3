"""Convolution by windows of 3 (3x3, 3x3x3, ...) at stride 1 with fewer multiplications.

Winograd's minimal filtering F(2, 3) along every axis: 4 products give 2 values, where the definition
takes 6; on an image, 16 where it takes 36 (Lavin and Gray, "Fast algorithms for convolutional neural
networks", 2015). Tiles of 4, two apart, and the kernel are transformed by additions; what is left is
one matmul for each of the 4^n places in a tile. The gradients are transformed alike, being the
transposes of the same steps. Rounding errors are a few times those of the definition.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from fidle_jax.kernels.windows import Padding, Sizes, conv_windows, pad


def supports(size: tuple[int, ...], strides: tuple[int, ...], dilation: tuple[int, ...]) -> bool:
    """Whether windows of this kind are computed: 3 values a side, strides and dilation of 1."""
    return set(size) <= {3} and set(strides) <= {1} and set(dilation) <= {1}


def conv(
    x: Float[Array, "batch *spatial channel"],
    w: Float[Array, "*window channel_per_group feature"],
    *,
    strides: Sizes = 1,
    padding: Padding = "valid",
    dilation: Sizes = 1,
    groups: int = 1,
) -> Float[Array, "batch *count feature"]:
    """The convolution by tiles of two values a side.

    Raises:
        ValueError: windows other than 3 a side, strides or dilation other than 1.
    """
    windows = conv_windows(x, w, strides, padding, dilation, groups)
    if not supports(windows.size, windows.strides, windows.dilation):
        raise ValueError("winograd takes windows of 3 on every side, strides and dilation of 1")
    dtype, wide = x.dtype, jnp.promote_types(x.dtype, jnp.float32)
    rank = x.ndim - 2
    fill = [
        (low, high + n % 2) for (low, high), n in zip(windows.padding, windows.count, strict=True)
    ]
    tiles = _along_axes(_tile, [pad(x, fill).astype(wide)], range(1, rank + 1))
    kernels = _along_axes(_transform_kernel, [w.astype(wide)], range(rank))
    products = [_matmul(t, k, groups) for t, k in zip(tiles, kernels, strict=True)]
    for axis in reversed(range(1, rank + 1)):
        products = [_untile(products[i : i + 4], axis) for i in range(0, len(products), 4)]
    (y,) = products
    return y[tuple(slice(n) for n in (x.shape[0], *windows.count))].astype(dtype)


def _along_axes(transform, arrays, axes):
    """One array becomes four along each axis, those of the last axis next to each other."""
    for axis in axes:
        arrays = [part for array in arrays for part in transform(array, axis)]
    return arrays


def _tile(x, axis):
    even, odd = (_take(x, axis, slice(start, None, 2)) for start in (0, 1))
    e0, e1 = _take(even, axis, slice(None, -1)), _take(even, axis, slice(1, None))
    o0, o1 = _take(odd, axis, slice(None, -1)), _take(odd, axis, slice(1, None))
    return e0 - e1, o0 + e1, e1 - o0, o0 - o1


def _transform_kernel(w, axis):
    w0, w1, w2 = (_take(w, axis, slice(i, i + 1)) for i in range(3))
    outer = (w0 + w2) / 2
    return w0, outer + w1 / 2, outer - w1 / 2, w2


def _matmul(tiles, kernel, groups):
    kernel = kernel.reshape(kernel.shape[-2:])
    if groups == 1:
        return tiles @ kernel
    tiles = tiles.reshape(*tiles.shape[:-1], groups, -1)
    kernel = kernel.reshape(kernel.shape[0], groups, -1)
    y = jnp.einsum("...gc,cgf->...gf", tiles, kernel)
    return y.reshape(*y.shape[:-2], -1)


def _untile(parts, axis):
    m0, m1, m2, m3 = parts
    pairs = jnp.stack([m0 + m1 + m2, m1 - m2 - m3], axis=axis + 1)
    return pairs.reshape(*m0.shape[:axis], 2 * m0.shape[axis], *m0.shape[axis + 1 :])


def _take(x, axis, part):
    return x[(slice(None),) * axis + (part,)]
