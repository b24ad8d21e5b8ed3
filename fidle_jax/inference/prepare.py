"""What a network is given of an image: the same that was made of the images it was trained on."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fidle_jax.data import SIGN_SETS, TFDS_PREFIX
from fidle_jax.data.signs import parse_name, treat
from fidle_jax.inference.digits import normalise_digit
from fidle_jax.inference.load import Trained


def prepare(image: Image.Image, trained: Trained) -> UInt8[np.ndarray, "height width channel"]:
    """The image as the run's data set would hold it.

    Digits are found on their paper and normalised as those of MNIST were (see
    `fidle_jax.inference.digits`). Traffic signs are scaled and treated as their set's name says; a run on
    cropped signs expects images that are cropped to the sign. Other images are scaled.

    Raises:
        InputError: a digit is expected, and there is nothing on the paper.
    """
    dataset = trained.config.data.dataset
    image = image.convert("RGB")
    if dataset in SIGN_SETS:
        size, treatment = parse_name(dataset)
        return treat(np.asarray(image), size, treatment)
    height, width, channels = trained.image_shape
    # TFDS takes a version after a colon.
    if dataset.removeprefix(TFDS_PREFIX).split(":")[0] == "mnist":
        return normalise_digit(np.asarray(image))[..., None]
    scaled = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(scaled if channels == 3 else scaled.convert("L")).reshape(trained.image_shape)
