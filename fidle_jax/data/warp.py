"""Small random warps of uint8 images, affine and elastic, for the compiled step."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt8, UInt32

from fidle_jax.kernels import hash_bits


@dataclasses.dataclass(frozen=True)
class Warp:
    """Ranges of a random warp, affine and elastic; each amount is uniform within plus or minus its range.

    Attributes:
        shift: pixels, along each axis.
        rotation: degrees.
        scaling: share by which the image grows or shrinks (0.1: by 1 / 1.1 to 1.1).
        shear: the same, between the two axes: one grows as the other shrinks.
        elastic: pixels that a point moves by besides, along each axis, together with its neighbours.
    """

    shift: float = 0.0
    rotation: float = 0.0
    scaling: float = 0.0
    shear: float = 0.0
    elastic: float = 0.0


NO_WARP = Warp()

# The elastic grid's numbers and weights are whole multiples of this, as affine matrices are of a step
# of their own. Sums of their products are then exact in float32, whatever the order of summation, and
# so the same on any number of devices.
ELASTIC_STEP = 2.0**-11

# Points of the elastic grid along each axis, of which the outer ones lie beyond the image.
GRID = 7


def random_warp(
    images: UInt8[Array, "batch height width channel"],
    key: Key[Array, ""],
    example_index: Int[Array, " batch"],
    ranges: Warp,
) -> Float[Array, "batch height width channel"]:
    """Each image under its own random warp, from 0 to 1, bilinear, zero beyond the edges.

    An image's warp depends on (key, example index) alone. All that a bilinear sample reads, 2x2
    pixels, is packed into one 32-bit word first: one gather then does the work of four.
    """
    size = images.shape[1:3]
    source = _affine_coordinates(uniform(key, example_index, 5), size, ranges)
    if ranges.elastic:
        field = _elastic_field(jax.random.fold_in(key, 1), example_index, size)
        source = source + ranges.elastic * field
    y, x = (jnp.clip(source[:, axis], -1, size[axis]) for axis in (0, 1))
    planes = [_sample(images[..., channel], y, x) for channel in range(images.shape[-1])]
    return jnp.stack(planes, axis=-1) / 255


def _sample(
    image: UInt8[Array, "batch height width"],
    y: Float[Array, "batch height width"],
    x: Float[Array, "batch height width"],
) -> Float[Array, "batch height width"]:
    """The values at (y, x), from -1 to the image's size, by bilinear interpolation."""
    batch, height, width = image.shape
    top, left = jnp.floor(y), jnp.floor(x)
    places = (top.astype(jnp.int32) + 1) * (width + 2) + left.astype(jnp.int32) + 1
    words = jnp.take_along_axis(
        _pack_neighbours(image).reshape(batch, (height + 2) * (width + 2)),
        places.reshape(batch, height * width),
        axis=1,
        mode="promise_in_bounds",
    ).reshape(batch, height, width)
    return _bilinear(words, y - top, x - left)


def uniform(
    key: Key[Array, ""], example_index: Int[Array, " batch"], count: int
) -> Float[Array, "count batch"]:
    """``count`` numbers for each example, uniform within [-1, 1]."""
    bits = hash_bits(key, example_index, count)
    return (bits.astype(jnp.float32) * 2**-31 - 1).T


def _affine_coordinates(amounts, size, ranges) -> Float[Array, "batch 2 height width"]:
    """Where in its image each pixel of the result comes from, down and right.

    One matmul of each image's matrix with the pixels' coordinates: written out, XLA would compute
    the sines and powers anew for every pixel.
    """
    angle = amounts[0] * jnp.deg2rad(ranges.rotation)
    zoom = (1 + ranges.scaling) ** amounts[1]
    stretch = (1 + ranges.shear) ** amounts[2]
    centre = (np.array(size) - 1) / 2
    down = (
        jnp.cos(angle) * zoom / stretch,
        jnp.sin(angle) * zoom / stretch,
        amounts[3] * ranges.shift + centre[0],
    )
    right = (
        -jnp.sin(angle) * zoom * stretch,
        jnp.cos(angle) * zoom * stretch,
        amounts[4] * ranges.shift + centre[1],
    )
    matrices = jnp.stack([jnp.stack(row, axis=-1) for row in (down, right)], axis=1)
    return _matmul(_rounded(matrices, _matrix_step(size)), _places(size)).reshape(-1, 2, *size)


def beyond_line(
    turn: Float[Array, " batch"], distance: Float[Array, " batch"], size: tuple[int, int]
) -> Bool[Array, "batch height width"]:
    """For each image, which pixels lie on the far side of a line: a shadow's edge.

    Args:
        turn: which way is far, in half turns.
        distance: of the line from the middle, in halves of the image's longer side; negative: behind.
        size: height and width.
    """
    away = distance * max(size) / 2
    lines = jnp.stack([jnp.sin(jnp.pi * turn), jnp.cos(jnp.pi * turn), -away], axis=-1)
    lines = _rounded(lines, _matrix_step(size))
    return _matmul(lines, _places(size)).reshape(-1, *size) > 0


def _places(size) -> Float[np.ndarray, "3 pixel"]:
    """How far down and right of the middle each pixel is; and 1."""
    y, x = (np.arange(pixels) - (pixels - 1) / 2 for pixels in size)
    ones = np.ones(size)
    return np.stack([y[:, None] * ones, x * ones, ones]).reshape(3, -1).astype(np.float32)


def _matrix_step(size) -> float:
    """For sums below 4 times the image's side, of multiples of half a pixel, to have 24 bits."""
    return 2.0 ** (math.ceil(math.log2(4 * max(size))) - 24 + 1)


def _rounded(x, step):
    return jnp.round(x / step) * step


def _matmul(a, b):
    """In float32 on any device: a place to a thousandth of a pixel."""
    return jnp.matmul(a.reshape(-1, b.shape[0]), b, precision=jax.lax.Precision.HIGHEST)


def _elastic_field(key, example_index, size) -> Float[Array, "batch 2 height width"]:
    """Smooth random displacements within [-1, 1]: cubic B-splines over a coarse grid of numbers.

    After the elastic distortions of Simard et al. (2003), who blur a displacement drawn for each
    pixel. With the splines of all grid points as the rows of one matrix, one matmul does it.
    """
    basis = np.einsum("yi,xj->ijyx", *(_spline_weights(pixels) for pixels in size))
    basis = np.round(basis.reshape(GRID**2, -1) / ELASTIC_STEP) * ELASTIC_STEP
    amounts = _rounded(uniform(key, example_index, 2 * GRID**2).T, ELASTIC_STEP)
    return _matmul(amounts, basis.astype(np.float32)).reshape(-1, 2, *size)


def _spline_weights(pixels: int) -> np.ndarray:
    """The weight of each grid point at each pixel; those of a pixel add up to 1."""
    distance = np.abs(np.linspace(1, GRID - 2, pixels)[:, None] - np.arange(GRID))
    near = 2 / 3 - distance**2 + distance**3 / 2
    return np.where(distance < 1, near, np.maximum(2 - distance, 0) ** 3 / 6)


def _pack_neighbours(
    image: UInt8[Array, "batch height width"],
) -> UInt32[Array, "batch height+2 width+2"]:
    """At (i + 1, j + 1): pixels (i, j), (i, j + 1), (i + 1, j), (i + 1, j + 1), a byte each."""
    padded = jnp.pad(image, ((0, 0), (1, 2), (1, 2))).astype(jnp.uint32)
    upper, lower = padded[:, :-1], padded[:, 1:]
    return (
        upper[:, :, :-1]
        | (upper[:, :, 1:] << 8)
        | (lower[:, :, :-1] << 16)
        | (lower[:, :, 1:] << 24)
    )


def _bilinear(words, down, right):
    pixels = [((words >> shift) & 255).astype(jnp.float32) for shift in (0, 8, 16, 24)]
    upper = pixels[0] * (1 - right) + pixels[1] * right
    lower = pixels[2] * (1 - right) + pixels[3] * right
    return upper * (1 - down) + lower * down
