"""Image files as a person may give them: read with one line for whatever is wrong, found in folders."""

import io
import logging
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from fidle_jax.errors import InputError

# What Pillow reads by itself: others are guessed from their name, or handed to other programs.
FORMATS = ("PNG", "JPEG", "PPM", "GIF", "BMP", "TIFF", "WEBP")
# fmt: off
SUFFIXES = (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".ppm", ".pgm", ".pbm", ".pnm", ".gif",
            ".bmp", ".tif", ".tiff", ".webp")
# fmt: on
LARGEST_BYTES = 2**29

_log = logging.getLogger("fidle_jax")


def image_files(folder: Path) -> list[Path]:
    """The image files in the folder and in those within it, by their names' endings, sorted.

    Hidden files, which systems leave beside images, do not count.

    Raises:
        InputError: there are none, or the folder cannot be read.
    """
    try:
        found = sorted(
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in SUFFIXES and path.name[0] != "." and path.is_file()
        )
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from error
    if not found:
        raise InputError(
            f"{folder} holds no image files; expected names that end in .png, .jpg, ..."
        )
    return found


def read_image(source: Path | bytes, name: str = "") -> Image.Image:
    """The image in a file, or in a file's bytes: three channels of 8 bits, upright as its EXIF data says.

    Of several pictures in a file it is the first, with a warning. What is transparent is laid over black
    where the rest is light, else over white.

    Args:
        source: where the file is, or what it holds.
        name: what messages call it; by default its path.

    Raises:
        InputError: it is no file, no image, empty, truncated or too large.
    """
    name = name or (str(source) if isinstance(source, Path) else "the image")
    file = io.BytesIO(source) if isinstance(source, bytes) else _checked(source, name)
    if source == b"":
        raise InputError(f"{name} is empty; expected an image")
    try:
        with warnings.catch_warnings():
            # What else Pillow warns of, as of strange metadata, is nothing to anyone here.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                return _first_picture(image, name)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(
            f"{name} has more than the {Image.MAX_IMAGE_PIXELS:,} pixels that are read; scale it down"
        ) from error
    except Image.UnidentifiedImageError as error:
        raise InputError(
            f"{name} is no image of a kind that is read: {', '.join(FORMATS)}"
        ) from error
    # What a damaged file makes Pillow raise is of many kinds.
    except Exception as error:
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise InputError(f"{name} is no whole image ({reason}); copy or save it again") from error


def _checked(path: Path, name: str) -> Path:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}") from error
    if not path.is_file():
        raise InputError(f"{name} is no file; give what a program writes to standard input, as -")
    if size == 0:
        raise InputError(f"{name} is empty; expected an image")
    if size > LARGEST_BYTES:
        raise InputError(f"{name} has {size:,} bytes; expected at most {LARGEST_BYTES:,}")
    return path


def _first_picture(image: Image.Image, name: str) -> Image.Image:
    # Cameras put previews and depths beside a photograph, as MPO.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        _log.warning("%s holds several pictures: the first is taken", name)
        image.seek(0)
    image.load()
    if min(image.size) == 0:
        raise ValueError(f"{image.width} x {image.height} pixels")
    return _rgb(ImageOps.exif_transpose(image))


def _rgb(image: Image.Image) -> Image.Image:
    """The image in 8 bits and three channels, nothing of it transparent."""
    if image.mode.startswith(("I", "F")):
        pixels = np.nan_to_num(np.asarray(image, np.float32))
        white = max(1.0, pixels.max()) if image.mode == "F" else 65535.0
        grey = np.rint(255 * np.clip(pixels / white, 0, 1)).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    colours = image.convert("RGBA")
    grey, opaque = np.asarray(colours.convert("LA"), np.float32).transpose(2, 0, 1)
    light = (grey * opaque).sum() > 127.5 * opaque.sum()
    ground = Image.new("RGBA", image.size, "black" if light else "white")
    return Image.alpha_composite(ground, colours).convert("RGB")
