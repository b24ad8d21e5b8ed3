"""Images made worse, little or much: what a network should bear.

Five strengths of each corruption, after Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to
Common Corruptions and Perturbations" (2019), from whom noise and contrast have their numbers. What moves or
blurs pixels goes by the image's side, so that images of any size suffer alike.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage

AT_ONCE = 500  # images, which are floats while they are worked on

Pixels = Float[np.ndarray, "example height width channel"]


@dataclasses.dataclass(frozen=True)
class Corruption:
    """A way in which images get worse.

    Attributes:
        measure: what the strength is.
        form: of a strength, as a person reads it, for `str.format`.
        strengths: from the weakest to the strongest.
        apply: (images from 0 to 1, strength, what is random) -> the images; they may leave that range.
    """

    measure: str
    form: str
    strengths: tuple[float, ...]
    apply: Callable[[Pixels, float, np.random.Generator], Pixels]


def corrupt(
    images: UInt8[np.ndarray, "example height width channel"],
    corruption: Corruption,
    strength: float,
    seed: int,
) -> UInt8[np.ndarray, "example height width channel"]:
    """The images, corrupted. With one seed, an image has the same noise, or direction, at every strength."""
    random = np.random.default_rng(seed)
    corrupted = np.empty_like(images)
    for start in range(0, len(images), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        pixels = corruption.apply(images[part].astype(np.float32) / 255, strength, random)
        corrupted[part] = np.rint(255 * np.clip(pixels, 0, 1))
    return corrupted


def _shift(images: Pixels, share: float, random: np.random.Generator) -> Pixels:
    """Up, down, left or right, by whole pixels, one at least: nothing is blurred on the way."""
    height, width = images.shape[1:3]
    most = max(1, round(share * max(height, width)))
    padded = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")
    directions = np.array([(0, 1), (2, 1), (1, 0), (1, 2)])[random.integers(0, 4, len(images))]
    corners = most * directions
    return np.stack(
        [
            image[top : top + height, left : left + width]
            for image, (top, left) in zip(padded, corners, strict=True)
        ]
    )


def _rotate(images: Pixels, degrees: float, random: np.random.Generator) -> Pixels:
    """To the left or to the right, about the middle, bilinear; the edge's pixels go on beyond it."""
    to_left = random.integers(0, 2, len(images)) == 0
    rotated = np.empty_like(images)
    for chosen, angle in ((to_left, degrees), (~to_left, -degrees)):
        rotated[chosen] = ndimage.rotate(
            images[chosen], angle, axes=(2, 1), reshape=False, order=1, mode="nearest"
        )
    return rotated


def _add_noise(images: Pixels, deviation: float, random: np.random.Generator) -> Pixels:
    """Gaussian noise, of each channel its own."""
    return images + deviation * random.standard_normal(images.shape, dtype=np.float32)


def _blur(images: Pixels, share: float, random: np.random.Generator) -> Pixels:
    """By a Gaussian, the edge's pixels going on beyond it."""
    deviation = share * max(images.shape[1:3])
    return ndimage.gaussian_filter(images, (0, deviation, deviation, 0), mode="nearest")


def _lower_contrast(images: Pixels, factor: float, random: np.random.Generator) -> Pixels:
    """Towards the mean of each channel."""
    mean = images.mean(axis=(1, 2), keepdims=True)
    return mean + factor * (images - mean)


CORRUPTIONS = {
    "shift": Corruption("of the side", "{:.0%}", (0.04, 0.08, 0.12, 0.16, 0.19), _shift),
    "rotation": Corruption("angle", "{:g}°", (10, 20, 30, 40, 50), _rotate),
    "noise": Corruption("deviation, of white", "{:g}", (0.08, 0.12, 0.18, 0.26, 0.38), _add_noise),
    "blur": Corruption("deviation, of the side", "{:.0%}", (0.02, 0.04, 0.06, 0.08, 0.1), _blur),
    "contrast": Corruption(
        "contrast that is left", "{:.0%}", (0.4, 0.3, 0.2, 0.1, 0.05), _lower_contrast
    ),
}
