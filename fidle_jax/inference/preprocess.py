"""Read image files and convert them to the images that a network was trained on.

`read_input` reads a file with `fidle_jax/data/decode.py` and converts it with `prepare`. A digit is converted
by `normalise_digit`, which calls `_ink_strength`, `_remove_dirt` and `_centre`. The result is uint8.
`classify` in `load.py` passes it to the network. There, `scale` in `fidle_jax/data/augment.py` divides it by
255.
"""

from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from scipy import ndimage

from fidle_jax.data import SIGN_SETS, TFDS_PREFIX, is_path
from fidle_jax.data.decode import (
    SUFFIXES,
    Resize,
    flatten,
    read_image,
    resize_image,
    to_bytes,
)
from fidle_jax.data.signs import parse_name, treat
from fidle_jax.errors import InputError
from fidle_jax.inference.load import Run
from fidle_jax.train.config import Config

MNIST_SIDE, INK_SIDE = 28, 20
CENTRE = 14  # centre of mass in rows and columns; every MNIST digit is within half a pixel
BLACK = 40  # of 255; brighter pixels of an MNIST image count as ink

WORKING_SIDE = 256  # photographs are reduced to this: several pixels per pixel of the result
PAPER_SIDE = 64  # resolution at which the brightness of the paper is estimated
SHADE_SIDE = 19  # of these pixels; wider than the strokes of a digit that fills the picture

# Thresholds as fractions of the strongest ink.
FLOOR = 0.25  # weaker values are paper
EDGE = 0.5  # outlines
MIN_CONTRAST = 0.1  # of white; below it, the paper is empty

# Thresholds as fractions of the pixels in the heaviest connected component.
SPECK = 0.05  # lighter components are dirt
WHOLE = 0.2  # if the heaviest component has a smaller part of all ink, the ink is noise
INNER = 0.1  # if an inner component is heavier, components that touch the border are dropped

NO_DIGIT = "no digit found; expected one digit on plain paper"

Grey = Float[np.ndarray, "height width"]
Colour = UInt8[np.ndarray, "height width 3"]


def image_kind(dataset: str) -> Literal["digit", "traffic sign", "image"]:
    """Return what the images of a data set show. "image" means that it is unknown."""
    if dataset in SIGN_SETS:
        return "traffic sign"
    # TFDS accepts a version after a colon.
    is_mnist = dataset.removeprefix(TFDS_PREFIX).split(":")[0] == "mnist"
    return "digit" if is_mnist else "image"


def prepare(
    image: Image.Image, trained: Run, name: str | Path = "the image"
) -> UInt8[np.ndarray, "height width channel"]:
    """Convert an image as the run's data set did. Errors contain ``name``.

    Digits are located and normalised as in MNIST. Traffic signs are scaled and treated as the name of
    their set says; a run on cropped signs expects images cropped to the sign. Other images are put on white
    and resized, those of a user's own data set as `--resize` of the run says.

    Raises:
        InputError: The network expects a digit and there is none.
    """
    data = trained.config.data
    kind = image_kind(data.dataset)
    if kind == "image":
        return resize_image(flatten(image), trained.image_shape, resize_method(trained.config))
    pixels = np.asarray(flatten(image, background=None))
    if kind == "traffic sign":
        return treat(pixels, *parse_name(data.dataset))
    try:
        return normalise_digit(pixels)[..., None]
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def resize_method(config: Config) -> Resize:
    """Return how images that show no digit or traffic sign are resized."""
    return config.data.resize if is_path(config.data.dataset) else "stretch"


def read_input(
    source: Path | bytes, trained: Run, name: str = ""
) -> UInt8[np.ndarray, "height width channel"]:
    """Read an image file and convert it with `prepare`. Raise what `read_image` and `prepare` raise."""
    is_other = image_kind(trained.config.data.dataset) == "image"
    side = max(trained.image_shape[:2]) if is_other else None
    name = name or (str(source) if isinstance(source, Path) else "the image")
    return prepare(read_image(source, name, side), trained, name)


def find_images(folder: Path) -> list[Path]:
    """Return the image files in a folder and its subfolders, sorted, without hidden files.

    Raises:
        InputError: There are none, or the folder is unreadable.
    """
    try:
        found = sorted(
            path
            for path in folder.rglob("*")
            if SUFFIXES.fullmatch(path.suffix) and path.name[0] != "." and path.is_file()
        )
    except OSError as error:
        raise InputError(
            f"cannot read {folder}: {error.strerror}; check the path and its permissions"
        ) from error
    if not found:
        raise InputError(f"{folder} has no image files; expected names that end in .png, .jpg, ...")
    return found


def normalise_digit(pixels: Colour) -> UInt8[np.ndarray, "28 28"]:
    """Locate a handwritten digit and normalise it as in MNIST: light on black, centred.

    The longer side of the ink becomes 20 pixels and the centre of mass is the centre of 28x28 pixels.
    The digit may be dark or light, anywhere on unevenly lit paper. Specks, faint lines and objects
    that touch the border are ignored. Images that already look like MNIST are returned unchanged,
    apart from inversion.

    References:
        LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition"
        (1998), section III.A.

    Raises:
        InputError: The paper is empty.
    """
    image = Image.fromarray(pixels)
    image.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BOX)
    pixels, luminance = np.asarray(image), np.asarray(image.convert("L"))
    for grey in (luminance, 255 - luminance):
        if is_normalised(grey):
            return grey
    # Yellow on white has its contrast in the blue channel, not in the luminance.
    channel = max(pixels.transpose(2, 0, 1), key=np.std)
    grey = channel if channel.std() > 1.5 * luminance.std() else luminance
    return _centre(_remove_dirt(_ink_strength(grey.astype(np.float64) / 255)))


def is_normalised(grey: UInt8[np.ndarray, "height width"]) -> bool:
    """Check whether an image is a digit of the size and position used by MNIST."""
    if grey.shape != (MNIST_SIDE, MNIST_SIDE) or np.median(grey) > 10:
        return False
    rows, columns = np.nonzero(grey > BLACK)
    if rows.size == 0:
        return False
    longest = 1 + max(np.ptp(rows), np.ptp(columns))
    centre = np.array(ndimage.center_of_mass(grey.astype(float)))
    return bool(abs(longest - INK_SIDE) <= 2 and np.abs(centre - CENTRE).max() <= 1)


def _ink_strength(grey: Grey) -> Grey:
    """Return 0 for paper to 1 for ink, from an image with values 0 to 1."""
    light = _fit_light(grey)
    # Noise is symmetric; ink deviates to one side.
    if np.power(grey - light, 3).sum() > 0:
        grey, light = 1 - grey, 1 - light
    flat = 1 + (grey - light) / np.maximum(light, 0.1)
    shades = _estimate_shades(flat)
    strength = (shades - flat) / np.maximum(shades, 0.1)
    if strength.max() < MIN_CONTRAST:
        raise InputError(NO_DIGIT)
    strongest = np.median(strength[strength >= strength.max() / 2])
    paper = strength[strength <= strongest / 2]
    noise = 1.4826 * np.median(np.abs(paper - np.median(paper)))
    if strongest < 5 * noise:
        raise InputError(NO_DIGIT)
    floor = max(FLOOR * strongest, 3 * noise)
    return np.clip((strength - floor) / (0.9 * strongest - floor), 0, 1)


def _fit_light(grey: Grey) -> Grey:
    """Fit a quadratic surface to the brightness of the paper.

    Iteratively reweighted least squares with Cauchy weights, because ink is an outlier.
    """
    values, terms = _reduce(grey).ravel(), _quadratic_terms((PAPER_SIDE, PAPER_SIDE))
    weights = np.ones_like(values)
    for _ in range(20):
        weighted = terms * weights[:, None]
        surface = np.linalg.solve(weighted.T @ terms, weighted.T @ values)
        residual = values - terms @ surface
        spread = max(1.4826 * np.median(np.abs(residual)), 1 / 255)
        weights = 1 / (1 + np.square(residual / (2 * spread)))
    return np.clip(_quadratic_terms(grey.shape) @ surface, 0, 1).reshape(grey.shape)


def _estimate_shades(flat: Grey) -> Grey:
    """Return structures wider than strokes: shadows with edges and dark corners."""
    closed = ndimage.grey_closing(_reduce(flat), size=(SHADE_SIDE, SHADE_SIDE))
    return _resize(closed, flat.shape, Image.Resampling.BILINEAR)


def _reduce(grey: np.ndarray) -> np.ndarray:
    return _resize(grey, (PAPER_SIDE, PAPER_SIDE), Image.Resampling.BOX)


def _resize(grey: np.ndarray, shape, how: Image.Resampling, box=None) -> np.ndarray:
    height, width = shape
    image = Image.fromarray(grey.astype(np.float32))
    return np.asarray(image.resize((width, height), how, box=box), np.float64)


def _quadratic_terms(shape: tuple[int, int]) -> Float[np.ndarray, "pixel 6"]:
    """Evaluate 1, x, y, x², xy and y² at each pixel. Coordinates go from -1 to 1."""
    y, x = ((np.arange(side) + 0.5) / side * 2 - 1 for side in shape)
    y, x = (axis.ravel() for axis in np.meshgrid(y, x, indexing="ij"))
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], 1)


def _remove_dirt(ink: Grey) -> Grey:
    """Remove specks, and components that touch the border if there are others."""
    labels, count = ndimage.label(ink > 0, structure=np.ones((3, 3)))
    weights = ndimage.sum_labels(ink > EDGE, labels, np.arange(count + 1))
    weights[0] = 0
    outer = np.zeros(count + 1, bool)
    outer[labels[[0, -1]]] = outer[labels[:, [0, -1]]] = True
    if max(weights[~outer], default=0) > INNER * weights.max():
        weights[outer] = 0
    if weights.max() < WHOLE * weights.sum():
        raise InputError(NO_DIGIT)
    return np.where((weights >= SPECK * weights.max())[labels], ink, 0)


def _centre(ink: Grey) -> UInt8[np.ndarray, "28 28"]:
    """Scale and shift the ink with a single resampling, to fractions of a pixel."""
    (where,) = ndimage.find_objects((ink > EDGE).astype(np.uint8))
    ink = ink[where]
    scale = max(ink.shape) / INK_SIDE
    ink = np.pad(ink, int(np.ceil(scale * MNIST_SIDE)))
    y, x = np.array(ndimage.center_of_mass(ink)) + 0.5
    before, after = scale * (CENTRE + 0.5), scale * (MNIST_SIDE - CENTRE - 0.5)
    box = (x - before, y - before, x + after, y + after)
    return to_bytes(_resize(ink, (MNIST_SIDE, MNIST_SIDE), Image.Resampling.HAMMING, box))
