"""Photographs become images of one size, in grey or colour, with the contrast that was asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidle_jax.data.treatments import SIZES, TREATMENTS, parse_name, treat
from fidle_jax.errors import InputError


def photograph(seed, height=40, width=30, low=0, high=256):
    return np.random.default_rng(seed).integers(low, high, (height, width, 3), np.uint8)


@given(
    treatment=st.sampled_from(list(TREATMENTS)),
    size=st.sampled_from(SIZES),
    height=st.integers(1, 120),
    width=st.integers(1, 120),
    levels=st.sampled_from([(0, 1), (7, 8), (255, 256), (100, 120), (0, 256)]),
)
def test_any_photograph_becomes_bytes_of_the_size_and_the_channels_asked_for(
    treatment, size, height, width, levels
):
    image = treat(photograph(0, height, width, *levels), size, treatment)
    assert image.shape == (size, size, 3 if treatment.startswith("RGB") else 1)
    assert image.dtype == np.uint8


def test_colour_of_the_size_it_has_is_left_as_it_is():
    pixels = photograph(1, 24, 24)
    np.testing.assert_array_equal(treat(pixels, 24, "RGB"), pixels)


def test_grey_is_the_brightness_that_an_eye_sees():
    pixels = np.zeros((24, 24, 3), np.uint8)
    pixels[:] = (200, 100, 50)
    # The weights of Rec. 709: 0.2125, 0.7154 and 0.0721.
    assert np.unique(treat(pixels, 24, "L")) == round(0.2125 * 200 + 0.7154 * 100 + 0.0721 * 50)


def test_scaling_down_takes_every_pixel_into_account():
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[:, ::2] = 200
    inside = treat(stripes, 24, "L")[2:-2, 2:-2]
    assert np.abs(inside.astype(int) - 100).max() <= 3


@pytest.mark.parametrize("treatment", ["RGB-HE", "L-HE", "L-LHE", "L-CLAHE"])
def test_equalising_stretches_the_contrast_of_a_dim_photograph(treatment):
    dim = photograph(2, 48, 48, 40, 70)
    before = treat(dim, 48, "RGB" if treatment.startswith("RGB") else "L")
    assert treat(dim, 48, treatment).std() > 3 * before.std()


def test_equalising_grey_makes_its_histogram_even():
    image = treat(photograph(3, 48, 48, 40, 70), 48, "L-HE")
    counts, _ = np.histogram(image, bins=4, range=(0, 256))
    assert counts.min() > 0.15 * counts.sum()


def test_equalising_colour_keeps_the_hue():
    pixels = photograph(4, 32, 32, 40, 90)
    before, after = (treat(pixels, 32, kind).astype(int) for kind in ("RGB", "RGB-HE"))
    second, first = np.sort(before, -1)[..., 1:].transpose(2, 0, 1)
    clear = (first - second > 5) & (after.max(-1) > 50)
    assert clear.mean() > 0.5
    np.testing.assert_array_equal(before.argmax(-1)[clear], after.argmax(-1)[clear])


def test_names_are_those_of_the_course():
    assert parse_name("48x48-RGB-HE") == (48, "RGB-HE")
    assert parse_name("24x24-L") == (24, "L")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("48x48-RGB-HEE", "did you mean 48x48-RGB-HE"),
        ("25x25-L", "or 24x24-L"),
        ("24x48-L", "unknown data set"),
        ("RGB", "unknown data set"),
    ],
)
def test_a_name_that_is_none_is_refused_with_the_nearest(name, hint):
    with pytest.raises(InputError, match=hint):
        parse_name(name)
