"""The ten digits as drawn by hand: strokes, which are lines through points."""

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFilter

Stroke = Float[np.ndarray, "point xy"]


def _arc(centre, radii, first, last, points=24) -> Stroke:
    """Return an arc of an ellipse. Angles are in degrees, clockwise from the right."""
    angles = np.deg2rad(np.linspace(first, last, points))
    return np.array(centre) + np.array(radii) * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _line(*points) -> Stroke:
    return np.array(points, float)


def _eight(points=48) -> Stroke:
    turn = np.linspace(0, 2 * np.pi, points)
    return np.stack([0.5 - 0.2 * np.sin(2 * turn), 0.5 - 0.36 * np.cos(turn)], axis=1)


# Coordinates from (0, 0), the upper left corner, to (1, 1), the lower right corner.
DIGITS: dict[int, list[Stroke]] = {
    0: [_arc((0.5, 0.5), (0.22, 0.35), -90, 275)],
    1: [_line((0.55, 0.14), (0.47, 0.86))],
    2: [
        np.concatenate(
            [_arc((0.48, 0.33), (0.22, 0.19), -170, 40), _line((0.28, 0.84), (0.76, 0.83))]
        )
    ],
    3: [
        np.concatenate(
            [_arc((0.46, 0.32), (0.2, 0.18), -150, 85), _arc((0.46, 0.67), (0.23, 0.19), -80, 150)]
        )
    ],
    4: [
        _line((0.36, 0.15), (0.26, 0.52), (0.76, 0.5)),
        _line((0.68, 0.2), (0.62, 0.87)),
    ],
    5: [
        np.concatenate([_line((0.36, 0.16), (0.33, 0.46)), _arc((0.46, 0.64), (0.24, 0.22), -130, 140)]),
        _line((0.36, 0.16), (0.72, 0.15)),
    ],
    6: [
        np.concatenate(
            [_line((0.62, 0.13), (0.42, 0.3)), _arc((0.5, 0.66), (0.2, 0.2), -175, 175)]
        )
    ],
    7: [_line((0.26, 0.18), (0.74, 0.16), (0.45, 0.87))],
    8: [_eight()],
    9: [
        np.concatenate(
            [_arc((0.48, 0.34), (0.19, 0.19), 0, -355), _line((0.67, 0.36), (0.6, 0.87))]
        )
    ],
}  # fmt: skip


def drawing(digit: int, side: int = 280, width: int = 20) -> Image.Image:
    """Return the digit, light on black, as the page sends it."""
    image = Image.new("L", (side, side))
    draw = ImageDraw.Draw(image)
    for stroke in DIGITS[digit]:
        points = [tuple(side * point) for point in stroke]
        draw.line(points, fill=255, width=width, joint="curve")
        for x, y in points:
            draw.circle((x, y), width / 2, fill=255)
    return image.filter(ImageFilter.GaussianBlur(2))
