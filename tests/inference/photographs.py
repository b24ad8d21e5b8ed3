"""MNIST digits that look as if they were written on paper and photographed."""

import io

import numpy as np
from PIL import Image


def photograph(digit: np.ndarray, rng: np.random.Generator) -> bytes:
    """Return a JPEG file with the digit (28x28, light on black) in dark ink on unevenly lit paper.

    The side has 200 to 1,000 pixels. The 28x28 pixels of the digit fill 40 to 90 % of it.
    """
    side = int(rng.integers(200, 1001))
    scaled = int(side * rng.uniform(0.4, 0.9))
    top, left = rng.integers(0, side - scaled + 1, 2)
    large = Image.fromarray(digit).resize((scaled, scaled), Image.Resampling.BICUBIC)
    ink = np.zeros((side, side))
    ink[top : top + scaled, left : left + scaled] = np.asarray(large) / 255
    light = gradient(side, rng) * (1 - rng.uniform(0.7, 0.95) * ink)
    noisy = light + rng.normal(0, rng.uniform(0, 0.02), light.shape)
    return encode(noisy, "JPEG", quality=int(rng.integers(60, 96)))


def gradient(side: int, rng: np.random.Generator) -> np.ndarray:
    """Return paper that is bright (0.8 to 1) at one end and darker (0.35 to 0.7) at the other end."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    along = np.cos(angle) * x + np.sin(angle) * y
    share = (along - along.min()) / np.ptp(along)
    return rng.uniform(0.35, 0.7) * (1 - share) + rng.uniform(0.8, 1) * share


def encode(grey: np.ndarray, kind: str, **options) -> bytes:
    """Return an image file of values from 0 (black) to 1 (white)."""
    pixels = np.rint(255 * np.clip(grey, 0, 1)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()
