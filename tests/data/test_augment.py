"""Images are altered as the ranges say, labels only by a flip, and nothing depends on the batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fidle_jax.data.augment import NO_AUGMENTATION, Augmentation, augment, scale
from fidle_jax.data.warp import Warp, random_warp

KEY = jax.random.key(5)
COUNT = 64
INDEX = jnp.arange(COUNT)
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 12, 10, 3), np.uint8)
LABELS = jnp.arange(COUNT, dtype=jnp.int32) % 4
MIRRORED = (0, 2, 1, -1)  # of the class 0 each is its own mirror image; 3 has none
ALL = Augmentation(
    Warp(shift=2, rotation=20, elastic=1),
    brightness=0.3,
    contrast=0.5,
    colour=0.3,
    shadow=0.5,
    cutout=0.4,
    flips=0.5,
    mirrored=MIRRORED,
)

_augment = jax.jit(augment, static_argnames="ranges")


def test_without_ranges_pixels_are_scaled_to_one_and_nothing_else():
    x, labels = augment(jnp.asarray(IMAGES), LABELS, KEY, INDEX, NO_AUGMENTATION)
    assert x.dtype == jnp.float32
    np.testing.assert_allclose(x, IMAGES / 255, rtol=1e-6)
    np.testing.assert_array_equal(labels, LABELS)
    np.testing.assert_array_equal(scale(jnp.array([0, 255], jnp.uint8)), [0, 1])


def test_a_warp_alone_is_that_warp():
    ranges = Warp(shift=2, rotation=20)
    x, _ = augment(jnp.asarray(IMAGES), LABELS, KEY, INDEX, Augmentation(ranges))
    np.testing.assert_array_equal(x, random_warp(jnp.asarray(IMAGES), KEY, INDEX, ranges))


def test_a_flip_swaps_left_and_right_and_gives_the_label_of_the_mirror_image():
    x, labels = augment(
        jnp.asarray(IMAGES), LABELS, KEY, INDEX, Augmentation(flips=1.0, mirrored=MIRRORED)
    )
    has_none = LABELS == 3
    np.testing.assert_allclose(x[has_none], scale(IMAGES[has_none]), atol=1e-6)
    np.testing.assert_allclose(x[~has_none], scale(IMAGES[~has_none][:, :, ::-1]), atol=1e-6)
    np.testing.assert_array_equal(labels, np.array([0, 2, 1, 3])[LABELS])


def test_as_many_are_flipped_as_asked_for():
    index = jnp.arange(4000)
    images, labels = np.arange(2, dtype=np.uint8).reshape(1, 1, 2, 1), jnp.zeros(4000, jnp.int32)
    x, _ = augment(jnp.asarray(images.repeat(4000, 0)), labels, KEY, index, Augmentation(flips=0.3))
    assert abs((x[:, 0, 0, 0] > 0).mean() - 0.3) < 0.03


def test_brightness_moves_all_values_alike_within_its_range():
    grey = np.full((COUNT, 12, 10, 3), 128, np.uint8)
    x, _ = augment(jnp.asarray(grey), LABELS, KEY, INDEX, Augmentation(brightness=0.2))
    moved = np.ptp(x, axis=(1, 2, 3)), x[:, 0, 0, 0] - 128 / 255
    np.testing.assert_allclose(moved[0], 0, atol=1e-6)
    assert np.abs(moved[1]).max() <= 0.2 + 1e-6
    assert moved[1].min() < -0.15
    assert moved[1].max() > 0.15


def test_contrast_stretches_about_mid_grey_within_its_range():
    images = np.full((COUNT, 1, 2, 1), 102, np.uint8)  # 0.1 below the middle
    x, _ = augment(jnp.asarray(images), LABELS, KEY, INDEX, Augmentation(contrast=1.0))
    factor = (0.5 - np.asarray(x)[:, 0, 0, 0]) / 0.1
    assert 0.5 - 1e-5 <= factor.min() < 0.6
    assert 1.7 < factor.max() <= 2 + 1e-5


def test_colour_changes_each_channel_by_a_factor_of_its_own_within_its_range():
    grey = np.full((COUNT, 3, 2, 3), 100, np.uint8)
    x, _ = augment(jnp.asarray(grey), LABELS, KEY, INDEX, Augmentation(colour=0.5))
    factors = np.asarray(x)[:, 0, 0] / (100 / 255)
    np.testing.assert_allclose(x, np.broadcast_to(x[:, :1, :1], x.shape), atol=1e-6)
    assert 1 / 1.5 - 1e-5 <= factors.min() < 0.75
    assert 1.4 < factors.max() <= 1.5 + 1e-5
    assert np.abs(np.corrcoef(factors.T) - np.eye(3)).max() < 0.4


def test_a_shadow_lies_on_one_side_of_a_line_on_half_of_the_images_and_takes_a_share_of_the_light():
    count = 400
    white = np.full((count, 12, 10, 3), 255, np.uint8)
    labels, index = jnp.zeros(count, jnp.int32), jnp.arange(count)
    x = np.asarray(augment(jnp.asarray(white), labels, KEY, index, Augmentation(shadow=0.6))[0])
    shaded = x < 1 - 1e-6
    assert 0.3 < shaded.any(axis=(1, 2, 3)).mean() < 0.55  # of some the line runs outside
    for image, dark in zip(x, shaded[..., 0], strict=True):
        assert len(np.unique(image[dark])) <= 1
        for axis in (0, 1):
            assert np.abs(np.diff(dark, axis=axis)).sum(axis).max() <= 1
    lowest = x.min(axis=(1, 2, 3))
    assert 0.4 - 1e-6 <= lowest.min() < 0.45
    assert len(np.unique(lowest)) > count / 4


def test_cutout_lays_a_grey_square_of_that_side_somewhere():
    white = np.full((COUNT, 40, 40, 1), 255, np.uint8)
    x, _ = augment(jnp.asarray(white), LABELS, KEY, INDEX, Augmentation(cutout=0.25))
    grey = np.asarray(x)[..., 0] == 0.5
    assert ((x == 1) | (x == 0.5)).all()
    sides = grey.any(1).sum(1), grey.any(2).sum(1)
    for side in sides:
        assert side.max() in (10, 11)
        assert side.min() >= 5
    assert len(np.unique(grey.reshape(COUNT, -1), axis=0)) > COUNT // 2


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 255, None]))
def test_values_stay_between_0_and_1(seed, value):
    images = IMAGES if value is None else np.full_like(IMAGES, value)
    x, _ = _augment(images, LABELS, jax.random.key(seed), INDEX, ALL)
    assert x.min() >= 0
    assert x.max() <= 1 + 1e-6


def test_what_happens_to_an_image_depends_on_key_and_index_alone():
    whole = _augment(IMAGES, LABELS, KEY, INDEX, ALL)
    order = np.random.default_rng(1).permutation(COUNT)[:17]
    part = _augment(IMAGES[order], LABELS[order], KEY, INDEX[order], ALL)
    np.testing.assert_array_equal(part[0], whole[0][order])
    np.testing.assert_array_equal(part[1], whole[1][order])


def test_another_key_alters_images_otherwise():
    same = functools.partial(_augment, IMAGES, LABELS, example_index=INDEX, ranges=ALL)
    assert jnp.abs(same(key=KEY)[0] - same(key=jax.random.key(6))[0]).max() > 0.1


@pytest.mark.parametrize("ranges", [NO_AUGMENTATION, ALL])
def test_an_empty_batch_stays_empty(ranges):
    x, labels = augment(jnp.asarray(IMAGES[:0]), LABELS[:0], KEY, INDEX[:0], ranges)
    assert (x.shape, labels.shape) == ((0, 12, 10, 3), (0,))
