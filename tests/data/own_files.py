"""Small image files for the tests of own images."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from fidle_jax.data.own import load_own
from fidle_jax.data.own_images import FOLDER
from fidle_jax.errors import InputError


def picture(seed=0, height=8, width=8, channels=3):
    """Return noise, which has no near-duplicates."""
    rng = np.random.default_rng(seed)
    shape = (height, width) if channels == 1 else (height, width, channels)
    return rng.integers(0, 256, shape, np.uint8)


def save(path, pixels=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = picture(zlib.crc32(str(path).encode())) if pixels is None else pixels
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)


def png(seed=0):
    content = io.BytesIO()
    Image.fromarray(picture(seed)).save(content, "PNG")
    return content.getvalue()


def make_classes(folder, classes=("ant", "bee"), count=4, **size):
    for number, name in enumerate(classes):
        for i in range(count):
            save(folder / name / f"{i}.png", picture(1000 * number + i, **size))
    return folder


def prepared(data_dir):
    """Return what lies in the folder of prepared images."""
    return sorted(path.name for path in (data_dir / FOLDER).glob("*"))


def assert_refused(data_dir, path, pattern, settings=None):
    """Check that ``path`` is refused in one line, and that nothing is prepared."""
    with pytest.raises(InputError, match=pattern) as caught:
        load_own(path, data_dir, settings)
    assert "\n" not in str(caught.value)
    assert not prepared(data_dir)
