"""Random augmentation of uint8 images inside the compiled step, with equal results on any devices.

The randomness of an image depends only on (key, example index). Every operation treats each image by
itself, so results do not depend on how a batch is sharded.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt8, UInt32

from fidle_jax.kernels import hash_bits


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Ranges of a random augmentation. Each amount is uniform in its range."""

    shift: float = 0.0  # pixels along each axis
    rotation: float = 0.0  # degrees
    scaling: float = 0.0  # relative change of size (0.1: by a factor from 1 / 1.1 to 1.1)
    shear: float = 0.0  # relative change of the aspect ratio: one axis grows, the other shrinks
    elastic: float = 0.0  # pixels of a smooth random displacement along each axis
    # Largest standard deviation, in pixels, of a Gaussian blur. The blurs along the two axes are independent,
    # as from motion. Along each axis, half of the images have none.
    blur: float = 0.0
    brightness: float = 0.0  # largest value that is added or subtracted
    contrast: float = 0.0  # relative change of contrast about mid-grey
    colour: float = 0.0  # relative change of each channel, as in light of another colour
    # Largest share of light that is removed on one side of a random line. Half of the images have no shadow.
    shadow: float = 0.0
    # Side of a grey square, as a share of the image's side (DeVries and Taylor, 2017). It may lie partly
    # outside.
    cutout: float = 0.0
    flips: float = 0.0  # probability of a horizontal flip, for images whose class is in mirrored
    # Class of the mirror image of each class, or -1 for none. If empty, labels never change.
    mirrored: tuple[int, ...] = ()

    def warps(self) -> bool:
        """Return whether pixels move, apart from flips."""
        return any((self.shift, self.rotation, self.scaling, self.shear, self.elastic))


NO_AUGMENTATION = Augmentation()

# The elastic grid's amounts and weights are multiples of this step, and affine matrices are multiples of
# their own step. Sums of their products are then exact in float32, in any order and on any device.
ELASTIC_STEP = 2.0**-11

# Points of the elastic grid along each axis. The outer ones lie outside the image.
GRID = 7


def scale(
    images: UInt8[Array | np.ndarray, "*shape"] | Float[Array | np.ndarray, "*shape"],
) -> Float[Array, "*shape"]:
    """Convert uint8 pixels to float32 from 0 to 1. Floating-point features are returned unchanged."""
    if jnp.issubdtype(images.dtype, jnp.floating):
        return jnp.asarray(images)
    return jnp.asarray(images, jnp.float32) / 255


def augment(
    images: UInt8[Array, "batch *shape"] | Float[Array, "batch *shape"],
    labels: Int[Array, "batch"] | Float[Array, "batch"],
    key: Key[Array, ""],
    example_index: Int[Array, "batch"],
    ranges: Augmentation,
) -> tuple[Float[Array, "batch *shape"], Int[Array, "batch"] | Float[Array, "batch"]]:
    """Return augmented images with values from 0 to 1, and their labels, which a flip may change."""
    amounts = uniform(jax.random.fold_in(key, 2), example_index, 8 + images.shape[-1])
    down, right, brightness, contrast, coin, angle, distance, depth, *tint = amounts
    if ranges.flips:
        images, labels = _flip(images, labels, coin < 2 * ranges.flips - 1, ranges.mirrored)
    x = random_warp(images, key, example_index, ranges) if ranges.warps() else scale(images)
    if ranges.blur:
        x = _blur(x, uniform(jax.random.fold_in(key, 3), example_index, 2), ranges.blur)
    if ranges.colour:
        x = x * jnp.stack([(1 + ranges.colour) ** each for each in tint], -1)[:, None, None]
    if ranges.shadow:
        depth = ranges.shadow * jnp.maximum(depth, 0)[:, None, None]
        beyond = beyond_line(angle, distance, (x.shape[1], x.shape[2]))
        x = x * (1 - jnp.where(beyond, depth, 0))[..., None]
    if ranges.brightness or ranges.contrast or ranges.colour:
        brightness = (ranges.brightness * brightness)[:, None, None, None]
        contrast = ((1 + ranges.contrast) ** contrast)[:, None, None, None]
        x = jnp.clip((x - 0.5) * contrast + (0.5 + brightness), 0, 1)
    if ranges.cutout:
        x = _cut_out(x, down, right, ranges.cutout)
    return x, labels


def uniform(
    key: Key[Array, ""], example_index: Int[Array, " batch"], count: int
) -> Float[Array, "count batch"]:
    """Draw ``count`` numbers per example, uniform in [-1, 1]."""
    bits = hash_bits(key, example_index, count)
    return (bits.astype(jnp.float32) * 2**-31 - 1).T


def _flip(images, labels, chosen, mirrored):
    if mirrored:
        mirror_labels = jnp.array(mirrored)[labels]
        chosen = chosen & (mirror_labels >= 0)
        labels = jnp.where(chosen, mirror_labels, labels)
    return jnp.where(chosen[:, None, None, None], images[:, :, ::-1], images), labels


def _blur(x, amounts, largest):
    radius = math.ceil(2 * largest)
    offsets = jnp.arange(-radius, radius + 1)[:, None]
    for axis, amount in zip((1, 2), amounts, strict=True):
        # With a deviation of 0.05 pixels, the neighbours' weights are 0 in float32.
        weights = jnp.exp(-0.5 * (offsets / jnp.maximum(largest * amount, 0.05)) ** 2)
        weights = (weights / weights.sum(0))[..., None, None, None]
        margins = [(radius, radius) if each == axis else (0, 0) for each in range(4)]
        padded = jnp.pad(x, margins, mode="edge")
        size = x.shape[axis]
        shifted = (
            weight * jax.lax.slice_in_dim(padded, first, first + size, axis=axis)
            for first, weight in enumerate(weights)
        )
        x = sum(shifted, start=jnp.zeros_like(x))
    return x


def _cut_out(x, down, right, side):
    within = True
    for axis, centre in ((1, down), (2, right)):
        positions = jnp.linspace(-1, 1, x.shape[axis])
        near = jnp.abs(positions - centre[:, None]) < side
        within = within & jnp.expand_dims(near, (2 if axis == 1 else 1, 3))
    return jnp.where(within, 0.5, x)


def random_warp(
    images: UInt8[Array, "batch height width channel"],
    key: Key[Array, ""],
    example_index: Int[Array, " batch"],
    ranges: Augmentation,
) -> Float[Array, "batch height width channel"]:
    """Warp each image randomly. The result is bilinear, from 0 to 1, and zero beyond the edges.

    The 2x2 pixels of a bilinear sample are first packed into one 32-bit word, so one gather replaces four.
    """
    size = images.shape[1:3]
    source = _affine_coordinates(uniform(key, example_index, 5), size, ranges)
    if ranges.elastic:
        field = _elastic_field(jax.random.fold_in(key, 1), example_index, size)
        source = source + ranges.elastic * field
    y, x = (jnp.clip(source[:, axis], -1, size[axis]) for axis in (0, 1))
    planes = [_sample(images[..., channel], y, x) for channel in range(images.shape[-1])]
    return jnp.stack(planes, axis=-1) / 255


def _affine_coordinates(amounts, size, ranges) -> Float[Array, "batch 2 height width"]:
    """Return the source coordinates of each output pixel.

    A matmul computes them. Written out, XLA would evaluate the sines and powers for every pixel.
    """
    angle = amounts[0] * jnp.deg2rad(ranges.rotation)
    zoom = (1 + ranges.scaling) ** amounts[1]
    stretch = (1 + ranges.shear) ** amounts[2]
    centre = (np.array(size) - 1) / 2
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    shifts = [amounts[3 + axis] * ranges.shift + centre[axis] for axis in (0, 1)]
    down = (cos * zoom / stretch, sin * zoom / stretch, shifts[0])
    right = (-sin * zoom * stretch, cos * zoom * stretch, shifts[1])
    matrices = jnp.stack([jnp.stack(row, axis=-1) for row in (down, right)], axis=1)
    return _matmul(_rounded(matrices, _matrix_step(size)), _pixels(size)).reshape(-1, 2, *size)


def beyond_line(
    angle: Float[Array, " batch"], distance: Float[Array, " batch"], size: tuple[int, int]
) -> Bool[Array, "batch height width"]:
    """Return which pixels of each image lie beyond a line, the edge of a shadow.

    ``angle`` is the direction of the line's normal in units of pi, and ``distance`` its signed distance from
    the centre in halves of the longer side.
    """
    away = distance * max(size) / 2
    lines = jnp.stack([jnp.sin(jnp.pi * angle), jnp.cos(jnp.pi * angle), -away], axis=-1)
    lines = _rounded(lines, _matrix_step(size))
    return _matmul(lines, _pixels(size)).reshape(-1, *size) > 0


def _pixels(size) -> Float[np.ndarray, "3 pixel"]:
    """Return homogeneous coordinates of the pixels relative to the centre: down, right, 1."""
    y, x = (np.arange(pixels) - (pixels - 1) / 2 for pixels in size)
    ones = np.ones(size)
    return np.stack([y[:, None] * ones, x * ones, ones]).reshape(3, -1).astype(np.float32)


def _matrix_step(size) -> float:
    """Return a step for which sums below 4 sides, of multiples of half a pixel, fit into 24 bits."""
    return 2.0 ** (math.ceil(math.log2(4 * max(size))) - 24 + 1)


def _rounded(x, step):
    return jnp.round(x / step) * step


def _matmul(a, b):
    # Accelerators multiply in reduced precision by default, which would move pixels visibly.
    return jnp.matmul(a.reshape(-1, b.shape[0]), b, precision=jax.lax.Precision.HIGHEST)


def _elastic_field(key, example_index, size) -> Float[Array, "batch 2 height width"]:
    """Draw smooth random displacements in [-1, 1]: cubic B-splines over a coarse grid.

    This follows the elastic distortions of Simard et al. (2003), which blur a displacement per pixel.
    The splines of all grid points are the rows of one matrix, so one matmul is enough.
    """
    basis = np.einsum("yi,xj->ijyx", *(_spline_weights(pixels) for pixels in size))
    basis = np.round(basis.reshape(GRID**2, -1) / ELASTIC_STEP) * ELASTIC_STEP
    amounts = _rounded(uniform(key, example_index, 2 * GRID**2).T, ELASTIC_STEP)
    return _matmul(amounts, basis.astype(np.float32)).reshape(-1, 2, *size)


def _spline_weights(pixels: int) -> np.ndarray:
    """Return the weight of each grid point at each pixel. The weights of a pixel sum to 1."""
    distance = np.abs(np.linspace(1, GRID - 2, pixels)[:, None] - np.arange(GRID))
    near = 2 / 3 - distance**2 + distance**3 / 2
    return np.where(distance < 1, near, np.maximum(2 - distance, 0) ** 3 / 6)


def _sample(
    image: UInt8[Array, "batch height width"],
    y: Float[Array, "batch height width"],
    x: Float[Array, "batch height width"],
) -> Float[Array, "batch height width"]:
    """Interpolate bilinearly at coordinates (y, x) in [-1, height] and [-1, width]. Outside, pixels are 0."""
    batch, height, width = image.shape
    top, left = jnp.floor(y), jnp.floor(x)
    indices = (top.astype(jnp.int32) + 1) * (width + 2) + left.astype(jnp.int32) + 1
    words = jnp.take_along_axis(
        _pack_neighbours(image).reshape(batch, (height + 2) * (width + 2)),
        indices.reshape(batch, height * width),
        axis=1,
        mode="promise_in_bounds",
    ).reshape(batch, height, width)
    down, right = y - top, x - left
    pixels = [((words >> shift) & 255).astype(jnp.float32) for shift in (0, 8, 16, 24)]
    upper = pixels[0] * (1 - right) + pixels[1] * right
    lower = pixels[2] * (1 - right) + pixels[3] * right
    return upper * (1 - down) + lower * down


def _pack_neighbours(
    image: UInt8[Array, "batch height width"],
) -> UInt32[Array, "batch height+2 width+2"]:
    """Pack pixels (i, j), (i, j + 1), (i + 1, j) and (i + 1, j + 1) into a word at (i + 1, j + 1)."""
    padded = jnp.pad(image, ((0, 0), (1, 2), (1, 2))).astype(jnp.uint32)
    upper, lower = padded[:, :-1], padded[:, 1:]
    return (
        upper[:, :, :-1]
        | (upper[:, :, 1:] << 8)
        | (lower[:, :, :-1] << 16)
        | (lower[:, :, 1:] << 24)
    )
