"""The 43 traffic signs of GTSRB, and the sizes and treatments in which the course uses their images."""

import warnings

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fidle_jax.errors import check_name

# Names of the classes 0 to 42, after the German road traffic regulations (StVO).
# fmt: off
NAMES = (
    "20 km/h", "30 km/h", "50 km/h", "60 km/h", "70 km/h", "80 km/h", "end of 80 km/h", "100 km/h",
    "120 km/h", "no overtaking", "no overtaking by trucks", "priority at the next crossing",
    "priority road", "give way", "stop", "no vehicles", "no trucks", "no entry", "danger",
    "bend to the left", "bend to the right", "double bend", "uneven road", "slippery road",
    "road narrows", "road works", "traffic lights", "pedestrians", "children", "cyclists",
    "ice or snow", "wild animals", "end of all limits", "turn right ahead", "turn left ahead",
    "straight ahead only", "straight ahead or right", "straight ahead or left", "keep right",
    "keep left", "roundabout", "end of no overtaking", "end of no overtaking by trucks",
)
# fmt: on

# The six groups by which the benchmark compares results (Stallkamp et al., 2012, table 4), in its order.
GROUPS: dict[str, tuple[int, ...]] = {
    "speed limits": (0, 1, 2, 3, 4, 5, 7, 8),
    "other prohibitions": (9, 10, 15, 16),
    "ends of prohibitions": (6, 32, 41, 42),
    "mandatory": tuple(range(33, 41)),
    "warnings": (11, *range(18, 32)),
    "unique": (12, 13, 14, 17),
}

# Class of each sign's mirror image, or -1 for none, checked by eye in the figure of
# `experiments/gtsrb_prepare.py`.
# Signs that are almost their own mirror image (trucks, road works, roundabout) are left out.
_PAIRS: dict[int, int] = {
    **{label: label for label in (11, 12, 13, 15, 17, 18, 22, 26, 30, 35)},
    **{19: 20, 20: 19, 33: 34, 34: 33, 36: 37, 37: 36, 38: 39, 39: 38},
}
MIRRORED: tuple[int, ...] = tuple(_PAIRS.get(label, -1) for label in range(len(NAMES)))

# The names of the treatments are those of the course (notebook GTSRB1).
SIZES = (24, 32, 48)
TREATMENTS = ("RGB", "RGB-HE", "L", "L-HE", "L-LHE", "L-CLAHE")
SET_NAMES = tuple(f"{size}x{size}-{treatment}" for size in SIZES for treatment in TREATMENTS)
LOCAL_RADIUS = 10  # of the disk over which "L-LHE" equalises the histogram, in pixels

Pixels = UInt8[np.ndarray, "height width channel"]
Grey = UInt8[np.ndarray, "height width 1"]


def parse_name(name: str) -> tuple[int, str]:
    """Return the size and treatment of a set, e.g. 24 and "L-CLAHE" for ``"24x24-L-CLAHE"``."""
    check_name("data set", name, SET_NAMES)
    size, _, treatment = name.partition("-")
    return int(size.partition("x")[0]), treatment


def treat(
    pixels: UInt8[np.ndarray, "height width 3"], size: int, treatment: str
) -> UInt8[np.ndarray, "{size} {size} channel"]:
    """Resize a photograph to ``size`` x ``size`` pixels and apply one of `TREATMENTS`.

    Pillow's bilinear filter averages all pixels that an output pixel covers.
    """
    scaled = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))
    if treatment == "RGB":
        return scaled
    return _equalize_value(scaled) if treatment == "RGB-HE" else _grey(scaled, treatment)


# scikit-image imports slowly, so commands that only need names must not import it.


def _equalize_value(pixels: Pixels) -> Pixels:
    """Equalise the value channel (HSV)."""
    from skimage import color, exposure

    hsv = color.rgb2hsv(pixels)
    hsv[..., 2] = exposure.equalize_hist(hsv[..., 2])
    return _to_bytes(color.hsv2rgb(hsv))


def _grey(pixels: Pixels, treatment: str) -> Grey:
    """Convert to grey. Equalise the histogram of the image, of each neighbourhood, or adaptively."""
    from skimage import exposure

    # The weights of scikit-image, times 10,000. Its rgb2gray adds floats in an order that depends on the
    # BLAS library, so halves may be rounded up on one machine and down on another.
    grey = pixels @ np.array([2125, 7154, 721]) / (10_000 * 255)
    if treatment == "L-HE":
        grey = exposure.equalize_hist(grey)
    if treatment == "L-LHE":
        from skimage.filters import rank
        from skimage.morphology import disk

        return rank.equalize(_to_bytes(grey), disk(LOCAL_RADIUS))[..., None]
    if treatment == "L-CLAHE":
        with warnings.catch_warnings():
            # An image of a single grey has no contrast and stays unchanged.
            warnings.simplefilter("ignore", RuntimeWarning)
            grey = exposure.equalize_adapthist(grey)
    return _to_bytes(grey)[..., None]


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(255 * np.clip(np.nan_to_num(values), 0, 1)).astype(np.uint8)
