"""A digit on its paper, found and normalised as those of MNIST were.

LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition" (1998),
section III.A: the ink's longer side becomes 20 pixels, its ratio kept, anti-aliased; the centre of mass
comes to the middle of 28x28.
"""

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from scipy import ndimage

from fidle_jax.errors import InputError

SIDE, INK_SIDE = 28, 20
MIDDLE = 14  # where the centre of mass is, in rows and columns: of all digits of MNIST within half a pixel
BLACK = 40  # of 255: what is brighter counts as ink where MNIST's own pixels are looked for

WORKING_SIDE = 256  # pixels that a photograph is scaled down to: several for each of the result
PAPER_SIDE = 64  # pixels that the paper's brightness is estimated on
SHADE_SIDE = 19  # of these: more than the width of strokes where a digit fills the picture

# Shares of the strength of the ink, where it is strongest.
FLOOR = 0.25  # weaker is paper
EDGE = 0.5  # where outlines are
FAINTEST = 0.1  # of white: with less contrast there is nothing on the paper

# Shares of the heaviest piece of ink, in pixels.
SPECK = 0.05  # lighter is dirt
WHOLE = 0.2  # of all ink: where the heaviest piece has less, it is noise
INNER = 0.1  # where there is such a piece within the picture, those that reach its border are something else

NOTHING = "there is no digit to be seen; expected one on plain paper"

Grey = Float[np.ndarray, "height width"]


def normalise_digit(pixels: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "28 28"]:
    """The digit, light on black, as MNIST has it; one that is so already, or but inverted, as it is.

    It may be dark or light, anywhere on paper that may be lit unevenly; beside it may be specks, faint lines,
    and what comes in from the picture's border.

    Raises:
        InputError: there is nothing on the paper.
    """
    pixels = _scaled_down(pixels)
    for grey in (_luminance(pixels), 255 - _luminance(pixels)):
        if is_normalised(grey):
            return grey
    grey = _clearest_channel(pixels)
    return _centred(_without_dirt(ink_strength(grey.astype(np.float64) / 255)))


def is_normalised(grey: UInt8[np.ndarray, "height width"]) -> bool:
    """Whether it is of 28x28 pixels, a light digit on black whose size and place are those of MNIST."""
    if grey.shape != (SIDE, SIDE) or np.median(grey) > 10:
        return False
    rows, columns = np.nonzero(grey > BLACK)
    if rows.size == 0:
        return False
    longest = 1 + max(np.ptp(rows), np.ptp(columns))
    middle = np.array(ndimage.center_of_mass(grey.astype(float)))
    return bool(abs(longest - INK_SIDE) <= 2 and np.abs(middle - MIDDLE).max() <= 1)


def ink_strength(grey: Grey) -> Grey:
    """From 0 for paper to 1 for ink, of a picture from 0 for black to 1 for white.

    Raises:
        InputError: there is nothing on the paper.
    """
    light = _smooth_light(grey)
    # Noise goes both ways, ink far to one side.
    if np.power(grey - light, 3).sum() > 0:
        grey, light = 1 - grey, 1 - light
    flat = 1 + (grey - light) / np.maximum(light, 0.1)
    shades = _shades(flat)
    strength = (shades - flat) / np.maximum(shades, 0.1)
    if strength.max() < FAINTEST:
        raise InputError(NOTHING)
    strongest = np.median(strength[strength >= strength.max() / 2])
    paper = strength[strength <= strongest / 2]
    noise = 1.4826 * np.median(np.abs(paper - np.median(paper)))
    if strongest < 5 * noise:
        raise InputError(NOTHING)
    floor = max(FLOOR * strongest, 3 * noise)
    return np.clip((strength - floor) / (0.9 * strongest - floor), 0, 1)


def _smooth_light(grey: Grey) -> Grey:
    """A surface of second order through the paper's brightness.

    Fitted by least squares, reweighted with Cauchy's weights, as the ink is far from it.
    """
    values, terms = _small(grey).ravel(), _terms((PAPER_SIDE, PAPER_SIDE))
    weights = np.ones_like(values)
    for _ in range(20):
        weighted = terms * weights[:, None]
        surface = np.linalg.solve(weighted.T @ terms, weighted.T @ values)
        residual = values - terms @ surface
        spread = max(1.4826 * np.median(np.abs(residual)), 1 / 255)
        weights = 1 / (1 + np.square(residual / (2 * spread)))
    return np.clip(_terms(grey.shape) @ surface, 0, 1).reshape(grey.shape)


def _shades(flat: Grey) -> Grey:
    """What is wider than strokes: shadows with edges, and dark corners."""
    closed = ndimage.grey_closing(_small(flat), size=(SHADE_SIDE, SHADE_SIDE))
    smooth = Image.fromarray(closed.astype(np.float32))
    return np.asarray(smooth.resize(flat.shape[::-1], Image.Resampling.BILINEAR), np.float64)


def _small(grey: Grey) -> Float[np.ndarray, "PAPER_SIDE PAPER_SIDE"]:
    image = Image.fromarray(grey.astype(np.float32))
    return np.asarray(image.resize((PAPER_SIDE, PAPER_SIDE), Image.Resampling.BOX), np.float64)


def _terms(shape: tuple[int, int]) -> Float[np.ndarray, "pixel 6"]:
    """The polynomials of second order at each pixel, whose places go from -1 to 1."""
    y, x = ((np.arange(side) + 0.5) / side * 2 - 1 for side in shape)
    y, x = (axis.ravel() for axis in np.meshgrid(y, x, indexing="ij"))
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], 1)


def _without_dirt(ink: Grey) -> Grey:
    """Without specks, and without what comes in from the border where there is enough besides.

    Raises:
        InputError: there are but specks.
    """
    pieces, count = ndimage.label(ink > 0, structure=np.ones((3, 3)))
    weights = ndimage.sum_labels(ink > EDGE, pieces, np.arange(count + 1))
    weights[0] = 0
    outer = np.zeros(count + 1, bool)
    outer[pieces[[0, -1]]] = outer[pieces[:, [0, -1]]] = True
    if max(weights[~outer], default=0) > INNER * weights.max():
        weights[outer] = 0
    if weights.max() < WHOLE * weights.sum():
        raise InputError(NOTHING)
    return np.where((weights >= SPECK * weights.max())[pieces], ink, 0)


def _centred(ink: Grey) -> UInt8[np.ndarray, "28 28"]:
    """The ink scaled and moved by one resampling, between pixels too."""
    (where,) = ndimage.find_objects((ink > EDGE).astype(np.uint8))
    ink = ink[where]
    scale = max(ink.shape) / INK_SIDE
    ink = np.pad(ink, int(np.ceil(scale * SIDE)))
    y, x = np.array(ndimage.center_of_mass(ink)) + 0.5
    before, after = scale * (MIDDLE + 0.5), scale * (SIDE - MIDDLE - 0.5)
    box = (x - before, y - before, x + after, y + after)
    small = Image.fromarray(ink.astype(np.float32)).resize(
        (SIDE, SIDE), Image.Resampling.HAMMING, box=box
    )
    return np.rint(255 * np.clip(np.asarray(small), 0, 1)).astype(np.uint8)


def _clearest_channel(
    pixels: UInt8[np.ndarray, "height width 3"],
) -> UInt8[np.ndarray, "height width"]:
    """The luminance; or the channel that has far more contrast, as blue has of yellow on white."""
    luminance = _luminance(pixels)
    channel = max(pixels.transpose(2, 0, 1), key=np.std)
    return channel if channel.std() > 1.5 * luminance.std() else luminance


def _luminance(pixels: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height width"]:
    return np.asarray(Image.fromarray(pixels).convert("L"))


def _scaled_down(pixels: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "h w 3"]:
    image = Image.fromarray(pixels)
    image.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BOX)
    return np.asarray(image)
