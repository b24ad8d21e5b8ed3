"""Digits elsewhere in their image."""

import numpy as np
from jaxtyping import UInt8

# Of one pixel: (down, right).
DIRECTIONS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}


def shifted(
    images: UInt8[np.ndarray, "example height width channel"], down: int, right: int
) -> UInt8[np.ndarray, "example height width channel"]:
    """The images moved by so many pixels; what comes in is black, what leaves is lost."""
    height, width = images.shape[1:3]
    moved = np.zeros_like(images)
    if abs(down) >= height or abs(right) >= width:
        return moved
    rows, columns = (
        slice(max(down, 0), height + min(down, 0)),
        slice(max(right, 0), width + min(right, 0)),
    )
    from_rows = slice(max(-down, 0), height + min(-down, 0))
    from_columns = slice(max(-right, 0), width + min(-right, 0))
    moved[:, rows, columns] = images[:, from_rows, from_columns]
    return moved
