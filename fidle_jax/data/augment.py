"""Augmentation inside the compiled step: uint8 images in, altered ones from 0 to 1 out, on any device.

All that is random about an image comes from (key, example index). What is done to pixels is done to each
alone, so that results are the same however a batch is spread.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt8

from fidle_jax.data.warp import NO_WARP, Warp, beyond_line, random_warp, uniform


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What may happen to an image; each amount is uniform within its range.

    Attributes:
        warp: moves pixels.
        brightness: of full white, at most added or taken away.
        contrast: share by which differences from mid-grey grow or shrink (0.5: by 1 / 1.5 to 1.5).
        colour: share by which each channel alone grows or shrinks, as under light of another colour.
        shadow: of the light, at most taken from what lies on one side of a line, wherever it runs; half of
            the images have no shadow.
        cutout: side of a grey square laid over the image (DeVries and Taylor, 2017), as a share of the
            image's; its centre is anywhere, and so part of it may lie outside.
        flips: share of the images whose left and right are swapped, of those that ``mirrored`` has.
        mirrored: by label, that of the mirror image; -1: none. Empty: images keep their label.
    """

    warp: Warp = NO_WARP
    brightness: float = 0.0
    contrast: float = 0.0
    colour: float = 0.0
    shadow: float = 0.0
    cutout: float = 0.0
    flips: float = 0.0
    mirrored: tuple[int, ...] = ()


NO_AUGMENTATION = Augmentation()


def scale(
    images: UInt8[Array | np.ndarray, "*shape"] | Float[Array | np.ndarray, "*shape"],
) -> Float[Array, "*shape"]:
    """Pixels as float32 from 0 to 1; what is no pixels but numbers, as they are."""
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
    """The images, altered, and their labels, which a flip may change."""
    amounts = uniform(jax.random.fold_in(key, 2), example_index, 8 + images.shape[-1])
    down, right, light, spread, coin, turn, distance, depth, *tint = amounts
    if ranges.flips:
        images, labels = _flip(images, labels, coin < 2 * ranges.flips - 1, ranges.mirrored)
    x = (
        scale(images)
        if ranges.warp == NO_WARP
        else random_warp(images, key, example_index, ranges.warp)
    )
    if ranges.colour:
        x = x * jnp.stack([(1 + ranges.colour) ** each for each in tint], -1)[:, None, None]
    if ranges.shadow:
        x = _shade(x, turn, distance, ranges.shadow * jnp.maximum(depth, 0))
    if ranges.brightness or ranges.contrast or ranges.colour:
        x = _relight(x, ranges.brightness * light, (1 + ranges.contrast) ** spread)
    if ranges.cutout:
        x = _cut_out(x, down, right, ranges.cutout)
    return x, labels


def _flip(images, labels, chosen, mirrored):
    if mirrored:
        mirror_labels = jnp.array(mirrored)[labels]
        chosen = chosen & (mirror_labels >= 0)
        labels = jnp.where(chosen, mirror_labels, labels)
    return jnp.where(chosen[:, None, None, None], images[:, :, ::-1], images), labels


def _shade(x, turn, distance, depth):
    beyond = beyond_line(turn, distance, x.shape[1:3])
    return x * (1 - jnp.where(beyond, depth[:, None, None], 0))[..., None]


def _relight(x, brightness, contrast):
    brightness, contrast = (amount[:, None, None, None] for amount in (brightness, contrast))
    return jnp.clip((x - 0.5) * contrast + (0.5 + brightness), 0, 1)


def _cut_out(x, down, right, side):
    within = True
    for axis, centre in ((1, down), (2, right)):
        places = jnp.linspace(-1, 1, x.shape[axis])
        near = jnp.abs(places - centre[:, None]) < side
        within = within & jnp.expand_dims(near, (2 if axis == 1 else 1, 3))
    return jnp.where(within, 0.5, x)
