"""Images become what the network was trained on."""

from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from fidle_jax.data.sample import load_sample
from fidle_jax.data.signs import treat
from fidle_jax.errors import InputError
from fidle_jax.inference.classify import classify
from fidle_jax.inference.files import read_image
from fidle_jax.inference.load import Trained, load
from fidle_jax.inference.prepare import prepare
from fidle_jax.train.config import ResolvedConfig
from tests.inference.conftest import train_sample
from tests.inference.photographed import encoded, gradient, photographed

DIGITS = Mock(
    spec=Trained, config=ResolvedConfig().replace(dataset="mnist"), image_shape=(28, 28, 1)
)


def prepared(pixels, trained=DIGITS):
    return prepare(Image.fromarray(pixels), trained)


@pytest.fixture(scope="module")
def digits():
    """Digits of all classes, each in one piece: some of MNIST's have specks beside them."""
    split = load_sample(0).read("test")
    rows = np.concatenate([np.flatnonzero(split.labels == label)[:11] for label in range(10)])
    images = split.images[rows, ..., 0]
    return [image for image in images if ndimage.label(image, np.ones((3, 3)))[1] == 1]


def enlarged(digit, times):
    side = 28 * times
    return np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC))


def test_digits_as_mnist_has_them_stay_as_they_are(digits):
    for digit in digits:
        for pixels in (digit, 255 - digit):
            np.testing.assert_array_equal(prepared(pixels)[..., 0], digit)


@given(
    which=st.integers(0, 79),
    times=st.integers(2, 15),
    margins=st.tuples(*[st.floats(0, 1)] * 4),
    dark=st.booleans(),
)
def test_size_place_margins_and_polarity_make_no_difference(digits, which, times, margins, dark):
    digit = digits[which]
    above, below, left, right = (int(28 * times * share) for share in margins)
    page = np.pad(enlarged(digit, times), ((above, below), (left, right)))
    difference = prepared(255 - page if dark else page)[..., 0].astype(float) - digit
    assert np.abs(difference).mean() < 16


def test_dark_on_light_gives_what_its_negative_gives(digits):
    rng = np.random.default_rng(0)
    for digit in digits[::10]:
        photograph = np.asarray(read_image(photographed(digit, rng)))
        difference = prepared(photograph).astype(int) - prepared(255 - photograph)
        assert np.abs(difference).mean() < 2


def test_the_longer_side_of_the_ink_has_20_pixels_and_its_weight_is_in_the_middle(digits):
    rng = np.random.default_rng(1)
    for digit in digits[::4]:
        found = prepared(np.asarray(read_image(photographed(digit, rng))))[..., 0]
        rows, columns = np.nonzero(found > 60)
        assert 17 <= 1 + max(np.ptp(rows), np.ptp(columns)) <= 21
        np.testing.assert_allclose(ndimage.center_of_mass(found), 14, atol=0.1)


@pytest.mark.parametrize(
    ("ink", "paper"),
    [
        ((20, 40, 160), (250, 250, 245)),
        ((255, 240, 0), (255, 255, 255)),
        ((200, 0, 0), (0, 105, 0)),
    ],
)
def test_ink_and_paper_may_have_any_colours(digits, ink, paper):
    for digit in digits[::10]:
        share = np.pad(digit, 12)[..., None] / 255
        page = np.rint(share * ink + (1 - share) * paper).astype(np.uint8)
        difference = prepared(page)[..., 0].astype(float) - digit
        assert np.abs(difference).mean() < 16


def test_dirt_is_not_part_of_the_digit(digits):
    for digit in digits[::5]:
        page = np.pad(enlarged(digit, 8), 50)
        clean = prepared(page).astype(int)
        page[20:28, 20:28] = 255  # a speck
        page[:15] = 200  # the edge of something else
        # Were either within the ink's frame, the digit would be smaller and elsewhere: 18 and more.
        assert np.abs(prepared(page) - clean).mean() < 6


@pytest.mark.parametrize("pixels", [np.zeros((28, 28, 3)), np.full((300, 200, 3), 180)])
def test_a_blank_page_has_no_digit(pixels):
    with pytest.raises(InputError, match="there is no digit to be seen"):
        prepared(pixels.astype(np.uint8))


def test_blank_paper_has_no_digit_in_uneven_light_either():
    rng = np.random.default_rng(2)
    for side in (50, 200, 300, 800):
        photograph = read_image(encoded(gradient(side, rng), "JPEG"))
        with pytest.raises(InputError, match="there is no digit to be seen"):
            prepare(photograph, DIGITS)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_whatever_the_picture_there_is_a_digit_or_a_line(height, width, seed):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, rng.integers(1, 257), (height, width, 3), dtype=np.uint8)
    try:
        found = prepared(pixels)
    except InputError:
        return
    assert (found.shape, found.dtype) == ((28, 28, 1), np.uint8)
    assert found.max() > 0


@pytest.mark.parametrize("dataset", ["24x24-L", "48x48-RGB-HE", "32x32-L-CLAHE", "24x24-L-LHE"])
def test_a_sign_is_scaled_and_treated_as_its_set_was(dataset):
    size, _, treatment = dataset.partition("-")
    size = int(size[:2])
    photograph = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    trained = Mock(
        spec=Trained, config=ResolvedConfig().replace(dataset=dataset), image_shape=(size, size, 0)
    )
    expected = treat(photograph, size, treatment)
    np.testing.assert_array_equal(prepared(photograph, trained), expected)


@pytest.mark.parametrize("shape", [(32, 24, 3), (20, 28, 1)])
def test_images_of_other_sets_are_scaled(shape):
    trained = Mock(
        spec=Trained, config=ResolvedConfig().replace(dataset="tfds:other"), image_shape=shape
    )
    page = np.zeros((64, 64, 3), np.uint8)
    page[:32] = 200
    found = prepared(page, trained)
    assert found.shape == shape
    assert (found[0].min(), found[-1].max()) == (200, 0)


def accuracies(run_dir, step, seed):
    """Of every ``step``-th image of the test, as it is and photographed."""
    trained = load(run_dir)
    with np.load(run_dir / "evaluation.npz") as evaluation:
        images, labels = evaluation["images"][::step], evaluation["labels"][::step]
    rng = np.random.default_rng(seed)
    files = [photographed(image[..., 0], rng) for image in images]
    found = np.stack([prepare(read_image(file), trained) for file in files])
    return tuple(np.mean(classify(trained, x).argmax(1) == labels) for x in (images, found))


def test_photographed_digits_are_recognised_nearly_as_well(trained_run):
    plain, found = accuracies(trained_run, step=5, seed=3)
    assert found >= plain - 0.025


@pytest.mark.slow
def test_a_thorough_training_loses_at_most_one_and_a_half_points_on_photographs(tmp_path):
    train_sample(tmp_path / "run")
    plain, found = accuracies(tmp_path / "run", step=1, seed=4)
    assert plain > 0.98
    assert found >= plain - 0.015
