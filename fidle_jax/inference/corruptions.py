"""Corrupt images to measure the robustness of a network.

There are five corruptions with five strengths each, after Hendrycks and Dietterich, "Benchmarking Neural
Network Robustness to Common Corruptions and Perturbations" (2019), which also defines the numbers of noise
and contrast. Shift and blur are proportional to the side of the image.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage

BATCH_SIZE = 500  # images are float32 while they are processed

Images = UInt8[np.ndarray, "batch height width channel"]
Pixels = Float[np.ndarray, "batch height width channel"]


@dataclasses.dataclass(frozen=True)
class Corruption:
    """A way of making images worse."""

    format: str  # format string of a strength
    strengths: tuple[float, ...]  # from the weakest to the strongest
    # Function of images from 0 to 1, strength and random generator. Its result may leave that range.
    apply: Callable[[Pixels, float, np.random.Generator], Pixels]

    def texts(self) -> list[str]:
        """Return the formatted strengths."""
        return [self.format.format(strength) for strength in self.strengths]


def corrupt(images: Images, corruption: Corruption, strength: float, seed: int) -> Images:
    """Return corrupted images. The random numbers of an image depend on the seed, not on the strength."""
    random = np.random.default_rng(seed)
    corrupted = np.empty_like(images)
    for start in range(0, len(images), BATCH_SIZE):
        batch = slice(start, start + BATCH_SIZE)
        pixels = corruption.apply(images[batch].astype(np.float32) / 255, strength, random)
        corrupted[batch] = np.rint(255 * np.clip(pixels, 0, 1))
    return corrupted


def _shift(images: Pixels, fraction: float, random: np.random.Generator) -> Pixels:
    """Shift up, down, left or right by at least one pixel, and repeat the edge."""
    distance = max(1, round(fraction * max(images.shape[1:3])))
    directions = np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])[random.integers(0, 4, len(images))]
    moves = zip(images, distance * directions, strict=True)
    return np.stack(
        [ndimage.shift(image, (*move, 0), order=0, mode="nearest") for image, move in moves]
    )


def _rotate(images: Pixels, degrees: float, random: np.random.Generator) -> Pixels:
    """Rotate to the left or right with bilinear interpolation, and repeat the edge."""
    to_left = random.integers(0, 2, len(images)) == 0
    rotated = np.empty_like(images)
    for chosen, angle in ((to_left, degrees), (~to_left, -degrees)):
        rotated[chosen] = ndimage.rotate(
            images[chosen], angle, axes=(2, 1), reshape=False, order=1, mode="nearest"
        )
    return rotated


def _add_noise(images: Pixels, deviation: float, random: np.random.Generator) -> Pixels:
    """Add Gaussian noise that is independent in each channel."""
    return images + deviation * random.standard_normal(images.shape, dtype=np.float32)


def _blur(images: Pixels, fraction: float, random: np.random.Generator) -> Pixels:
    """Blur with a Gaussian, and repeat the edge."""
    deviation = fraction * max(images.shape[1:3])
    return ndimage.gaussian_filter(images, (0, deviation, deviation, 0), mode="nearest")


def _lower_contrast(images: Pixels, factor: float, random: np.random.Generator) -> Pixels:
    """Move the pixels towards the mean of their channel."""
    mean = images.mean(axis=(1, 2), keepdims=True)
    return mean + factor * (images - mean)


CORRUPTIONS = {
    "shift": Corruption("{:.0%}", (0.04, 0.08, 0.12, 0.16, 0.19), _shift),
    "rotation": Corruption("{:g}°", (10, 20, 30, 40, 50), _rotate),
    "noise": Corruption("{:g}", (0.08, 0.12, 0.18, 0.26, 0.38), _add_noise),
    "blur": Corruption("{:.0%}", (0.02, 0.04, 0.06, 0.08, 0.1), _blur),
    "contrast": Corruption("{:.0%}", (0.4, 0.3, 0.2, 0.1, 0.05), _lower_contrast),
}
