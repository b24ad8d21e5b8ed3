"""Decode image files of untrusted origin with Pillow, and fit images into one size."""

import contextlib
import io
import logging
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFile, ImageOps

from fidle_jax.errors import InputError

Resize = Literal["fit", "crop", "stretch"]

# Pillow decodes these itself. It guesses other formats from the name or starts other programs.
FORMATS = ("PNG", "JPEG", "PPM", "GIF", "BMP", "TIFF", "WEBP")
SUFFIXES = re.compile(r"\.(a?png|jp(g|eg|e)|jfif|mpo|p[pgbn]m|gif|bmp|tiff?|webp)", re.IGNORECASE)
MAX_BYTES = 2**29
MAX_PIXELS = 40_000_000
MAX_SCANS = 100  # of a progressive JPEG; each one is decoded over the whole image
JPEG_SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")

DEEP_COLOUR = 64  # of 255; a file of 16 bits without larger values contains fewer bits
NARROW = 0.02  # part of the possible range; if the values span less, they are stretched

CONTRAST_SIDE = 256  # resolution at which transparent images are judged light or dark

_log = logging.getLogger("fidle_jax")


def read_image(source: Path | bytes, name: str = "", side: int | None = None) -> Image.Image:
    """Read an image as 8-bit RGB, or RGBA if it has transparency, rotated according to its EXIF data.

    If a file contains several pictures, return the first one and log a warning.

    Args:
        source: Path or content of the file.
        name: Name used in messages (default: the path).
        side: Size to which the image will be reduced. A JPEG is then decoded at a reduced size, which is
            at least twice as large, in a fraction of the time.

    Raises:
        InputError: The source is not a file, not an image, empty, truncated or too large.
    """
    name = name or (str(source) if isinstance(source, Path) else "the image")
    content = read_bytes(source, name) if isinstance(source, Path) else source
    with _opened(content, name) as image:
        if side is not None:
            image.draft("RGB", (2 * side, 2 * side))
        return _first_picture(image, name)


def read_size(content: bytes, name: str) -> tuple[int, int, bool]:
    """Return height, width, and whether the image is grey, from the header of an image file.

    Height and width are those after rotation. Raise what `read_image` raises.
    """
    with _opened(content, name) as image:
        width, height = image.size
        # Orientations from 5 on swap rows and columns.
        if image.getexif().get(0x0112, 1) >= 5:
            width, height = height, width
        return height, width, image.mode[0] in "L1IF" and not image.has_transparency_data


@contextlib.contextmanager
def _opened(content: bytes, name: str) -> Iterator[ImageFile.ImageFile]:
    """Open an image whose pixels are not decoded yet. Convert all errors to InputError."""
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
                yield image
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


def read_bytes(path: Path, name: str) -> bytes:
    """Return the content of a file, up to the largest size. Raise InputError if it cannot be read."""
    if os.path.exists(path) and not os.path.isfile(path):
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
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


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
    return Image.fromarray(to_bytes(pixels / white))


def flatten(image: Image.Image, background: str | None = "white") -> Image.Image:
    """Put an image on a background and return it as RGB.

    If ``background`` is None, it is black if the visible pixels are mostly light, otherwise white.
    """
    if not image.has_transparency_data:
        return image.convert("RGB")
    colours = image.convert("RGBA")
    if background is None:
        small = colours.convert("LA")
        small.thumbnail((CONTRAST_SIDE, CONTRAST_SIDE), Image.Resampling.BOX)
        grey, opacity = np.asarray(small, np.float32).transpose(2, 0, 1)
        light = (grey * opacity).sum() > 127.5 * opacity.sum()
        background = "black" if light else "white"
    base = Image.new("RGBA", image.size, background)
    return Image.alpha_composite(base, colours).convert("RGB")


def resize_image(
    image: Image.Image, shape: tuple[int, int, int], how: Resize
) -> UInt8[np.ndarray, "height width channel"]:
    """Return an RGB image in ``shape``, antialiased. An image of this size is returned unchanged.

    Args:
        image: Image of mode RGB.
        shape: Height, width, and 1 channel for grey or 3 for colour.
        how: "fit" shows the whole image between black bars, "crop" the centre of the image without bars,
            and "stretch" changes the aspect ratio.
    """
    height, width, channels = shape
    if image.size != (width, height):
        filter_ = Image.Resampling.BILINEAR  # antialiased, and without overshoot at edges
        if how == "stretch":
            image = image.resize((width, height), filter_)
        else:
            fit = ImageOps.pad if how == "fit" else ImageOps.fit
            image = fit(image, (width, height), filter_)
    return np.asarray(image if channels == 3 else image.convert("L")).reshape(shape)


def to_bytes(values: np.ndarray) -> UInt8[np.ndarray, "height width"]:
    """Convert values from 0 to 1 to pixels."""
    return np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)
