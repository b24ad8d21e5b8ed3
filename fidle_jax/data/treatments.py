"""What a photograph of a traffic sign becomes before it is stored: a size, and perhaps more contrast.

The names and treatments are those of the Fidle course (notebook GTSRB1): ``48x48-RGB-HE`` is 48 pixels a
side, in colour, its histogram equalised.
"""

import warnings
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from skimage import color, exposure

from fidle_jax.errors import check_name

SIZES = (24, 32, 48)
LOCAL_RADIUS = 10  # pixels; of the disk whose histogram "L-LHE" equalises

Pixels = UInt8[np.ndarray, "height width channel"]
Grey = UInt8[np.ndarray, "height width 1"]


def parse_name(name: str) -> tuple[int, str]:
    """Size and treatment of a data set's name, e.g. 24 and "L-CLAHE" of ``"24x24-L-CLAHE"``.

    Raises:
      InputError: there is no such size or treatment.
    """
    check_name("data set", name, SET_NAMES)
    size, _, treatment = name.partition("-")
    return int(size.partition("x")[0]), treatment


def treat(
    pixels: UInt8[np.ndarray, "height width 3"], size: int, treatment: str
) -> UInt8[np.ndarray, "{size} {size} channel"]:
    """The photograph scaled to ``size`` pixels a side and treated: of one channel, or of three.

    Each scaled pixel is a mean over those that it covers (Pillow's bilinear filter), as scaling down
    would otherwise pick some and pass over others.
    """
    scaled = Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR)
    return TREATMENTS[treatment](np.asarray(scaled))


def _as_it_is(pixels: Pixels) -> Pixels:
    return pixels


def _equalize_value(pixels: Pixels) -> Pixels:
    """Colour, with the histogram of its value (of hue, saturation and value) made even."""
    hsv = color.rgb2hsv(pixels)
    hsv[..., 2] = exposure.equalize_hist(hsv[..., 2])
    return _to_bytes(color.hsv2rgb(hsv))


def _grey(pixels: Pixels) -> Grey:
    return _to_bytes(color.rgb2gray(pixels))[..., None]


def _equalize_grey(pixels: Pixels) -> Grey:
    return _to_bytes(exposure.equalize_hist(color.rgb2gray(pixels)))[..., None]


def _equalize_locally(pixels: Pixels) -> Grey:
    """Grey, the histogram of each pixel's neighbourhood made even."""
    # Half a second, which every command that knows the sets' names would wait for.
    from skimage.filters import rank
    from skimage.morphology import disk

    return rank.equalize(_grey(pixels)[..., 0], disk(LOCAL_RADIUS))[..., None]


def _equalize_adaptively(pixels: Pixels) -> Grey:
    """Grey, by contrast limited adaptive histogram equalisation."""
    with warnings.catch_warnings():
        # An image of one grey alone has no contrast to stretch: it stays what it is.
        warnings.simplefilter("ignore", RuntimeWarning)
        return _to_bytes(exposure.equalize_adapthist(color.rgb2gray(pixels)))[..., None]


TREATMENTS: dict[str, Callable[[Pixels], Pixels]] = {
    "RGB": _as_it_is,
    "RGB-HE": _equalize_value,
    "L": _grey,
    "L-HE": _equalize_grey,
    "L-LHE": _equalize_locally,
    "L-CLAHE": _equalize_adaptively,
}


SET_NAMES = tuple(f"{size}x{size}-{treatment}" for size in SIZES for treatment in TREATMENTS)


def _to_bytes(shares: np.ndarray) -> np.ndarray:
    return np.rint(255 * np.clip(np.nan_to_num(shares), 0, 1)).astype(np.uint8)
