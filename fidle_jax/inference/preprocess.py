"""Read image files and convert them to the images that a network was trained on.

`read_image` reads a file. `prepare` converts the image, a digit with `normalise_digit`, which calls
`_ink_strength`, `_remove_dirt` and `_centre`. The result is uint8. `classify` in `load.py` passes it to the
network. There, `scale` in `fidle_jax/data/augment.py` divides it by 255.
"""

import io
import logging
import re
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageFile, ImageOps
from scipy import ndimage

from fidle_jax.data import SIGN_SETS, TFDS_PREFIX
from fidle_jax.data.signs import parse_name, treat
from fidle_jax.errors import InputError
from fidle_jax.inference.load import Trained

# Pillow decodes these itself. It guesses other formats from the name or starts other programs.
FORMATS = ("PNG", "JPEG", "PPM", "GIF", "BMP", "TIFF", "WEBP")
SUFFIXES = re.compile(r"\.(a?png|jp(g|eg|e)|jfif|mpo|p[pgbn]m|gif|bmp|tiff?|webp)", re.IGNORECASE)
MAX_BYTES = 2**29
MAX_PIXELS = 40_000_000
MAX_SCANS = 100  # of a progressive JPEG; each one is decoded over the whole image
JPEG_SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")

DEEP_COLOUR = 64  # of 255; a file of 16 bits without larger values contains fewer bits
NARROW = 0.02  # part of the possible range; if the values span less, they are stretched

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

_log = logging.getLogger("fidle_jax")


def image_kind(dataset: str) -> Literal["digit", "traffic sign", "image"]:
    """Return what the images of a data set show. "image" means that it is unknown."""
    if dataset in SIGN_SETS:
        return "traffic sign"
    # TFDS accepts a version after a colon.
    is_mnist = dataset.removeprefix(TFDS_PREFIX).split(":")[0] == "mnist"
    return "digit" if is_mnist else "image"


def prepare(
    image: Image.Image, trained: Trained, name: str | Path = "the image"
) -> UInt8[np.ndarray, "height width channel"]:
    """Convert an image as the run's data set did. Errors contain ``name``.

    Digits are located and normalised as in MNIST. Traffic signs are scaled and treated as the name of
    their set says; a run on cropped signs expects images cropped to the sign. Other images are scaled.

    Raises:
        InputError: The network expects a digit and there is none.
    """
    dataset, image = trained.config.data.dataset, image.convert("RGB")
    kind = image_kind(dataset)
    if kind == "traffic sign":
        return treat(np.asarray(image), *parse_name(dataset))
    if kind == "digit":
        try:
            return normalise_digit(np.asarray(image))[..., None]
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    height, width, channels = trained.image_shape
    scaled = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(scaled if channels == 3 else scaled.convert("L")).reshape(trained.image_shape)


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


def read_image(source: Path | bytes, name: str = "") -> Image.Image:
    """Read an image as 8-bit RGB, rotated according to its EXIF data.

    If a file contains several pictures, return the first one and log a warning. Transparent pixels
    become black if the others are mostly light, otherwise white.

    Args:
        source: Path or content of the file.
        name: Name used in messages (default: the path).

    Raises:
        InputError: The source is not a file, not an image, empty, truncated or too large.
    """
    name = name or (str(source) if isinstance(source, Path) else "the image")
    content = _read(source, name) if isinstance(source, Path) else source
    if not content:
        raise InputError(f"{name} is empty; expected an image")
    if len(content) > MAX_BYTES:
        raise InputError(f"{name} is larger than {MAX_BYTES:,} bytes; scale the image down")
    try:
        with warnings.catch_warnings():
            # Pillow also warns about details such as unusual metadata.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                if image.format in ("JPEG", "MPO") and len(JPEG_SCAN.findall(content)) > MAX_SCANS:
                    raise InputError(
                        f"{name} has more than {MAX_SCANS} scans; save it as a baseline JPEG"
                    )
                return _first_picture(image, name)
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(
            f"{name} has too many pixels; expected at most {MAX_PIXELS:,}; scale it down"
        ) from error
    except Image.UnidentifiedImageError as error:
        raise InputError(f"{name} is not an image; expected {', '.join(FORMATS)}") from error
    # Pillow raises many types of exceptions for damaged files.
    except Exception as error:
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise InputError(f"{name} is damaged ({reason}); copy or save it again") from error


def _read(path: Path, name: str) -> bytes:
    if path.exists() and not path.is_file():
        raise InputError(f"{name} is not a regular file; to read from a pipe, pass -")
    try:
        with path.open("rb") as file:
            # Files of /proc have no size, and some of them never end.
            return file.read(MAX_BYTES + 1) if path.stat().st_size else b""
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror}") from error


def _first_picture(image: ImageFile.ImageFile, name: str) -> Image.Image:
    # Cameras store previews and depth maps next to the photograph, as MPO.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        _log.warning("%s contains several pictures; using the first", name)
        image.seek(0)
    # Pillow reads the upper 8 bits of each colour. For a PPM file, it divides by the maximum in the header.
    how: Any = image.tile[0].args if image.tile else ""
    is_deep = ";16" in str(how) or (image.format == "PPM" and how[-1] in range(256, 2**16))
    image.load()
    if min(image.size) == 0:
        raise ValueError(f"{image.width} x {image.height} pixels")
    if (
        is_deep
        and image.mode[0] not in "IF"
        and np.asarray(image.convert("RGB")).max() < DEEP_COLOUR
    ):
        raise InputError(
            f"{name} has 16 bits per colour but only small values; convert it to 8 bits per colour"
        )
    return _to_rgb(ImageOps.exif_transpose(image), name)


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode[0] in "IF":
        return _to_grey(image, name).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    colours = image.convert("RGBA")
    small = colours.convert("LA")
    small.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BOX)
    grey, opacity = np.asarray(small, np.float32).transpose(2, 0, 1)
    light = (grey * opacity).sum() > 127.5 * opacity.sum()
    background = Image.new("RGBA", image.size, "black" if light else "white")
    return Image.alpha_composite(background, colours).convert("RGB")


def _to_grey(image: Image.Image, name: str) -> Image.Image:
    """Scale the values of an image with a single channel of more than 8 bits, or of floats."""
    pixels = np.asarray(image, np.float32)
    finite = pixels[np.isfinite(pixels)]
    low, high = map(float, (finite.min(), finite.max())) if finite.size else (0.0, 0.0)
    pixels = np.nan_to_num(pixels, nan=low, posinf=high, neginf=low)
    # Files of 16 bits often contain 8, 10 or 12.
    bits = max(8, int(high).bit_length()) if image.mode[0] == "I" else None
    white = max(1.0, high) if bits is None else 2**bits - 1
    if low < high and (low < 0 or high - low < NARROW * white):
        _log.warning("%s has values from %g to %g; reading them as black to white", name, low, high)
        pixels, white = pixels - low, high - low
    elif bits not in (16, None):
        _log.warning("%s has values up to %d; reading it as %d bits", name, high, bits)
    return Image.fromarray(_to_bytes(pixels / white))


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
    return _to_bytes(_resize(ink, (MNIST_SIDE, MNIST_SIDE), Image.Resampling.HAMMING, box))


def _to_bytes(values: np.ndarray) -> UInt8[np.ndarray, "height width"]:
    return np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)
