"""The tables of the signs are consistent, and photographs become images of the requested kind."""

from collections import Counter

import numpy as np
import pytest

from fidle_jax.data.signs import (
    GROUPS,
    MIRRORED,
    NAMES,
    SIZES,
    TREATMENTS,
    parse_name,
    treat,
)
from fidle_jax.errors import InputError


def test_there_are_43_signs_with_different_names():
    assert len(set(NAMES)) == len(NAMES) == 43


def test_every_sign_is_in_one_group_and_groups_have_the_sizes_and_order_of_the_benchmark():
    assert Counter(label for group in GROUPS.values() for label in group) == Counter(range(43))
    assert [len(labels) for labels in GROUPS.values()] == [8, 4, 4, 8, 15, 4]


def test_mirroring_twice_is_the_identity_and_stays_in_the_group():
    assert len(MIRRORED) == 43
    pairs = [(label, other) for label, other in enumerate(MIRRORED) if other >= 0]
    assert all(MIRRORED[other] == label for label, other in pairs)
    group_of = {label: name for name, group in GROUPS.items() for label in group}
    assert all(group_of[label] == group_of[other] for label, other in pairs)


@pytest.mark.parametrize(("one", "other"), [("left", "right"), ("right", "left")])
def test_mirroring_swaps_left_and_right_in_names(one, other):
    sided = [label for label, name in enumerate(NAMES) if one in name]
    assert sided
    for label in sided:
        assert NAMES[MIRRORED[label]] == NAMES[label].replace(one, other)


def test_no_sign_with_digits_or_a_diagonal_bar_has_a_mirror_image():
    names = [NAMES[label] for label in MIRRORED if label >= 0]
    assert not [name for name in names if "km/h" in name or "end of" in name]


def photograph(seed, height=40, width=30, low=0, high=256):
    return np.random.default_rng(seed).integers(low, high, (height, width, 3), np.uint8)


@pytest.mark.parametrize("treatment", TREATMENTS)
@pytest.mark.parametrize("levels", [(0, 1), (7, 8), (255, 256), (100, 120), (0, 256)])
def test_any_photograph_becomes_bytes_of_the_requested_size_and_channels(treatment, levels):
    sides = ((1, 1), (1, 120), (33, 24), (120, 97))
    for size, (height, width) in zip((*SIZES, 24), sides, strict=True):
        image = treat(photograph(0, height, width, *levels), size, treatment)
        assert image.shape == (size, size, 3 if treatment.startswith("RGB") else 1)
        assert image.dtype == np.uint8


def test_a_colour_image_of_the_right_size_is_unchanged():
    pixels = photograph(1, 24, 24)
    np.testing.assert_array_equal(treat(pixels, 24, "RGB"), pixels)


def test_grey_is_the_luminance_of_rec_709():
    pixels = np.zeros((24, 24, 3), np.uint8)
    pixels[:] = (200, 100, 50)
    assert np.unique(treat(pixels, 24, "L")) == round(0.2125 * 200 + 0.7154 * 100 + 0.0721 * 50)


def test_downscaling_averages_all_pixels():
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[:, ::2] = 200
    inside = treat(stripes, 24, "L")[2:-2, 2:-2]
    assert np.abs(inside.astype(int) - 100).max() <= 3


@pytest.mark.parametrize("treatment", ["RGB-HE", "L-HE", "L-LHE", "L-CLAHE"])
def test_equalising_increases_the_contrast_of_a_dim_photograph(treatment):
    dim = photograph(2, 48, 48, 40, 70)
    before = treat(dim, 48, "RGB" if treatment.startswith("RGB") else "L")
    assert treat(dim, 48, treatment).std() > 3 * before.std()


def test_equalising_grey_flattens_its_histogram():
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
def test_an_unknown_name_is_refused_with_the_closest(name, hint):
    with pytest.raises(InputError, match=hint):
        parse_name(name)
