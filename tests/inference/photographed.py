"""Digits of MNIST as if they had been written on paper and photographed, and as files."""

import io

import numpy as np
from PIL import Image


def photographed(digit: np.ndarray, rng: np.random.Generator) -> bytes:
    """A JPEG file of the digit (28x28, light on black) in dark ink on unevenly lit paper, off-centre.

    The picture has 200 to 1,000 pixels a side, of which the digit's own 28x28 take 40 to 90 %.
    """
    side = int(rng.integers(200, 1001))
    scaled = int(side * rng.uniform(0.4, 0.9))
    top, left = rng.integers(0, side - scaled + 1, 2)
    large = Image.fromarray(digit).resize((scaled, scaled), Image.Resampling.BICUBIC)
    ink = np.zeros((side, side))
    ink[top : top + scaled, left : left + scaled] = np.asarray(large) / 255
    light = gradient(side, rng) * (1 - rng.uniform(0.7, 0.95) * ink)
    noisy = light + rng.normal(0, rng.uniform(0, 0.02), light.shape)
    return encoded(noisy, "JPEG", quality=int(rng.integers(60, 96)))


def gradient(side: int, rng: np.random.Generator) -> np.ndarray:
    """Paper that is bright at one end, 0.8 to 1, and darker at the other, 0.35 to 0.7, in any direction."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    along = np.cos(angle) * x + np.sin(angle) * y
    share = (along - along.min()) / np.ptp(along)
    return rng.uniform(0.35, 0.7) * (1 - share) + rng.uniform(0.8, 1) * share


def encoded(grey: np.ndarray, kind: str, **options) -> bytes:
    """A file's bytes of a picture from 0 for black to 1 for white."""
    pixels = np.rint(255 * np.clip(grey, 0, 1)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()
