"""Images change only within the given ranges, labels only by a flip, and nothing depends on the batch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from scipy.interpolate import BSpline

from fidle_jax.data import augment as module
from fidle_jax.data.augment import (
    NO_AUGMENTATION,
    Augmentation,
    augment,
    beyond_line,
    random_warp,
    scale,
)

KEY = jax.random.key(5)
COUNT = 64
INDEX = jnp.arange(COUNT)
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 11, 9, 3), np.uint8)
EXTREMES = {"noise": IMAGES, "black": np.zeros_like(IMAGES), "white": np.full_like(IMAGES, 255)}
LABELS = jnp.arange(COUNT, dtype=jnp.int32) % 4
MIRRORED = (0, 2, 1, -1)  # class 0 is its own mirror image, class 3 has none
ALL = Augmentation(
    shift=2,
    rotation=20,
    elastic=1,
    blur=0.8,
    brightness=0.3,
    contrast=0.5,
    colour=0.3,
    shadow=0.5,
    cutout=0.4,
    flips=0.5,
    mirrored=MIRRORED,
)
STRONG = Augmentation(shift=2, rotation=40, scaling=0.3, shear=0.2)
WILD = dataclasses.replace(STRONG, elastic=2)

_augment = jax.jit(augment, static_argnames="ranges")
_random_warp = jax.jit(random_warp, static_argnames="ranges")


def changed(images, ranges, labels=LABELS):
    """Augment ``images`` without compiling, and return the images only."""
    return np.asarray(augment(jnp.asarray(images), labels, KEY, INDEX, ranges)[0])


def full(value, height=11, width=9, channels=3):
    return np.full((COUNT, height, width, channels), value, np.uint8)


def test_without_ranges_pixels_are_only_scaled():
    x, labels = augment(jnp.asarray(IMAGES), LABELS, KEY, INDEX, NO_AUGMENTATION)
    assert x.dtype == jnp.float32
    np.testing.assert_allclose(x, IMAGES / 255, rtol=1e-6)
    np.testing.assert_array_equal(labels, LABELS)
    np.testing.assert_array_equal(scale(jnp.array([0, 255], jnp.uint8)), [0, 1])


def test_augmentation_by_a_warp_only_is_that_warp():
    x = changed(IMAGES, STRONG)
    np.testing.assert_array_equal(x, random_warp(jnp.asarray(IMAGES), KEY, INDEX, STRONG))


def test_a_flip_swaps_left_and_right_and_returns_the_label_of_the_mirror_image():
    x, labels = augment(
        jnp.asarray(IMAGES), LABELS, KEY, INDEX, Augmentation(flips=1.0, mirrored=MIRRORED)
    )
    has_none = LABELS == 3
    np.testing.assert_allclose(x[has_none], scale(IMAGES[has_none]), atol=1e-6)
    np.testing.assert_allclose(x[~has_none], scale(IMAGES[~has_none][:, :, ::-1]), atol=1e-6)
    np.testing.assert_array_equal(labels, np.array([0, 2, 1, 3])[LABELS])


def test_flips_have_the_requested_probability():
    index = jnp.arange(4000)
    images = np.arange(2, dtype=np.uint8).reshape(1, 1, 2, 1).repeat(4000, 0)
    labels = jnp.zeros(4000, jnp.int32)
    x, _ = augment(jnp.asarray(images), labels, KEY, index, Augmentation(flips=0.3))
    assert abs((x[:, 0, 0, 0] > 0).mean() - 0.3) < 0.03


def test_blur_along_each_axis_is_gaussian_in_half_of_the_images():
    count, centre = 2000, 10
    images = np.zeros((count, 21, 21, 1), np.uint8)
    images[:, centre, centre] = 255
    labels = jnp.zeros(count, jnp.int32)
    x = augment(jnp.asarray(images), labels, KEY, jnp.arange(count), Augmentation(blur=1.5))[0]
    np.testing.assert_allclose(x.sum((1, 2, 3)), 1, atol=1e-5)
    deviations = []
    for profiles in np.asarray(x.sum((2, 3))), np.asarray(x.sum((1, 3))):
        ratio = profiles[:, centre] / np.maximum(profiles[:, centre + 1], 1e-30)
        deviation = np.sqrt(0.5 / np.log(ratio))
        deviations.append(np.where(deviation < 0.09, 0, deviation))
        for profile, each in zip(profiles, deviation, strict=True):
            point = np.zeros(21)
            point[centre] = 1
            expected = scipy.ndimage.gaussian_filter1d(point, each, radius=3)
            np.testing.assert_allclose(profile, expected, atol=1e-5)
    down, right = np.array(deviations)
    for each in (down, right):
        assert 0.48 < (each == 0).mean() < 0.58
        assert 1.4 < each.max() <= 1.5 + 1e-4
    assert 0.22 < ((down == 0) & (right == 0)).mean() < 0.34


def test_blur_does_not_change_images_of_one_value():
    np.testing.assert_allclose(changed(full(100), Augmentation(blur=2)), 100 / 255, atol=1e-6)


def test_brightness_shifts_all_values_equally_within_its_range():
    x = changed(full(128), Augmentation(brightness=0.2))
    np.testing.assert_allclose(np.ptp(x, axis=(1, 2, 3)), 0, atol=1e-6)
    shift = x[:, 0, 0, 0] - 128 / 255
    assert np.abs(shift).max() <= 0.2 + 1e-6
    assert shift.min() < -0.15
    assert shift.max() > 0.15


def test_contrast_stretches_about_mid_grey_within_its_range():
    x = changed(full(102, 1, 2, 1), Augmentation(contrast=1.0))  # 0.1 below mid-grey
    factor = (0.5 - x[:, 0, 0, 0]) / 0.1
    assert 0.5 - 1e-5 <= factor.min() < 0.6
    assert 1.7 < factor.max() <= 2 + 1e-5


def test_colour_scales_each_channel_independently_within_its_range():
    x = changed(full(100, 3, 2), Augmentation(colour=0.5))
    factors = x[:, 0, 0] / (100 / 255)
    np.testing.assert_allclose(x, np.broadcast_to(x[:, :1, :1], x.shape), atol=1e-6)
    assert 1 / 1.5 - 1e-5 <= factors.min() < 0.75
    assert 1.4 < factors.max() <= 1.5 + 1e-5
    assert np.abs(np.corrcoef(factors.T) - np.eye(3)).max() < 0.4


def test_a_shadow_darkens_one_side_of_a_line_in_half_of_the_images():
    count = 400
    white, labels = np.full((count, 12, 10, 3), 255, np.uint8), jnp.zeros(count, jnp.int32)
    ranges = Augmentation(shadow=0.6)
    x = np.asarray(augment(jnp.asarray(white), labels, KEY, jnp.arange(count), ranges)[0])
    shaded = x < 1 - 1e-6
    assert 0.3 < shaded.any(axis=(1, 2, 3)).mean() < 0.55  # some lines are outside the image
    for image, dark in zip(x, shaded[..., 0], strict=True):
        assert len(np.unique(image[dark])) <= 1
        for axis in (0, 1):
            assert np.abs(np.diff(dark, axis=axis)).sum(axis).max() <= 1
    lowest = x.min(axis=(1, 2, 3))
    assert 0.4 - 1e-6 <= lowest.min() < 0.45
    assert len(np.unique(lowest)) > count / 4


def test_cutout_draws_a_grey_square_of_the_given_side_at_a_random_position():
    x = changed(full(255, 40, 40, 1), Augmentation(cutout=0.25))
    grey = x[..., 0] == 0.5
    assert ((x == 1) | (x == 0.5)).all()
    for side in (grey.any(1).sum(1), grey.any(2).sum(1)):
        assert side.max() in (10, 11)
        assert side.min() >= 5
    assert len(np.unique(grey.reshape(COUNT, -1), axis=0)) > COUNT // 2


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
@pytest.mark.parametrize("kind", EXTREMES)
def test_values_stay_between_0_and_1(seed, kind):
    key = jax.random.key(seed)
    for x in (
        _augment(EXTREMES[kind], LABELS, key, INDEX, ALL)[0],
        _random_warp(EXTREMES[kind], key, INDEX, WILD),
    ):
        assert x.dtype == jnp.float32
        assert x.min() >= 0
        assert x.max() <= 1 + 1e-6


def test_the_result_of_an_image_depends_only_on_key_and_index():
    whole = _augment(IMAGES, LABELS, KEY, INDEX, ALL)
    order = np.random.default_rng(1).permutation(COUNT)[:17]
    part = _augment(IMAGES[order], LABELS[order], KEY, INDEX[order], ALL)
    np.testing.assert_array_equal(part[0], whole[0][order])
    np.testing.assert_array_equal(part[1], whole[1][order])


@pytest.mark.parametrize("batch", [1, 2, 3, 21, 63])
def test_a_warp_has_the_same_bits_in_a_batch_of_any_size(batch):
    images = np.random.default_rng(1).integers(0, 256, (64, 28, 28, 1), np.uint8)
    ranges = Augmentation(shift=2, rotation=15, scaling=0.15, shear=0.1, elastic=2.5)
    whole = _random_warp(images, KEY, jnp.arange(64), ranges)
    part = _random_warp(images[:batch], KEY, jnp.arange(batch), ranges)
    np.testing.assert_array_equal(part, whole[:batch])


def test_results_differ_between_examples_and_between_keys():
    same, labels = IMAGES[:1].repeat(6, 0), LABELS[:6] * 0
    results = [
        np.asarray(_augment(same, labels, jax.random.key(seed), INDEX[:6], ALL)[0])
        for seed in (5, 6)
    ]
    results += [_random_warp(same, jax.random.key(seed), INDEX[:6], WILD) for seed in (5, 6)]
    for pair in (results[:2], results[2:]):
        flat = np.concatenate(pair).reshape(12, -1)
        distances = np.abs(flat[:, None] - flat[None]).max(-1)
        assert (distances[~np.eye(12, dtype=bool)] > 0.01).all()


@pytest.mark.parametrize("ranges", [NO_AUGMENTATION, ALL])
def test_an_empty_batch_stays_empty(ranges):
    x, labels = augment(jnp.asarray(IMAGES[:0]), LABELS[:0], KEY, INDEX[:0], ranges)
    assert (x.shape, labels.shape) == ((0, 11, 9, 3), (0,))
    assert random_warp(jnp.asarray(IMAGES[:0]), KEY, INDEX[:0], NO_AUGMENTATION).shape == (
        0,
        11,
        9,
        3,
    )


def test_amounts_are_uniform_and_independent():
    amounts = np.stack(module.uniform(KEY, jnp.arange(4000), 5))
    assert np.abs(amounts).max() <= 1
    for row in amounts:
        assert scipy.stats.kstest(row, "uniform", (-1, 2)).pvalue > 1e-4
    np.testing.assert_allclose(np.corrcoef(amounts), np.eye(5), atol=4.5 / np.sqrt(4000))


def _fix_amounts(monkeypatch, *amounts):
    """Set the rotation, scaling, shear, and shift down and right of every image."""
    columns = [jnp.full(COUNT, amount, jnp.float32) for amount in amounts]
    monkeypatch.setattr(module, "uniform", lambda key, example_index, count: columns)


def test_a_warp_without_ranges_is_the_identity():
    np.testing.assert_allclose(
        _random_warp(IMAGES, KEY, INDEX, NO_AUGMENTATION), IMAGES / 255, atol=1e-6
    )


@pytest.mark.parametrize(("down", "right"), [(1, 0), (-2, 3), (0, -4), (20, 0)])
def test_a_shift_by_whole_pixels_moves_them_and_fills_with_zeros(monkeypatch, down, right):
    _fix_amounts(monkeypatch, 0, 0, 0, down, right)
    y = random_warp(jnp.asarray(IMAGES), KEY, INDEX, Augmentation(shift=1))
    height, width = IMAGES.shape[1:3]
    around = np.pad(IMAGES, ((0, 0), (20, 20), (20, 20), (0, 0)))
    moved = around[:, 20 + down : 20 + down + height, 20 + right : 20 + right + width]
    np.testing.assert_allclose(y, moved / 255, atol=1e-6)


def _scipy_warp(image, ranges, amounts):
    """Warp a channel with SciPy."""
    angle = np.deg2rad(ranges.rotation * amounts[0])
    zoom, stretch = (1 + ranges.scaling) ** amounts[1], (1 + ranges.shear) ** amounts[2]
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    matrix = np.diag([zoom / stretch, zoom * stretch]) @ rotation
    centre = (np.array(image.shape) - 1) / 2
    offset = centre + ranges.shift * np.array(amounts[3:]) - matrix @ centre
    # A margin of zeros, because SciPy does not interpolate between the edge and the outside.
    padded, margin = np.pad(image / 255, 2), np.full(2, 2)
    return scipy.ndimage.affine_transform(
        padded, matrix, offset + margin, image.shape, order=1, mode="constant"
    )


@pytest.mark.parametrize(
    "amounts",
    [
        (1, 0, 0, 0, 0),
        (0, 1, 0, 0, 0),
        (0, 0, -1, 0, 0),
        (0, 0, 0, 0.3, -0.7),
        (0.5, -1, 1, 0.4, 1),
    ],
    ids=["rotation", "scaling", "shear", "shift", "all"],
)
def test_a_warp_equals_that_of_scipy(monkeypatch, amounts):
    _fix_amounts(monkeypatch, *amounts)
    y = random_warp(jnp.asarray(IMAGES), KEY, INDEX, STRONG)
    for i, channel in np.ndindex(6, 3):
        expected = _scipy_warp(IMAGES[i, :, :, channel], STRONG, amounts)
        np.testing.assert_allclose(y[i, :, :, channel], expected, atol=1e-4)


def test_the_channels_of_an_image_move_together():
    y = _random_warp(IMAGES, KEY, INDEX, ranges=WILD)
    for channel in range(3):
        plane = _random_warp(IMAGES[..., channel : channel + 1], KEY, INDEX, ranges=WILD)
        np.testing.assert_allclose(y[..., channel : channel + 1], plane, atol=1e-6)


def test_the_elastic_field_is_a_cubic_spline_within_a_pixel_and_smooth():
    spline = BSpline.basis_element([-2, -1, 0, 1, 2], extrapolate=False)
    positions = np.linspace(1, module.GRID - 2, 28)[:, None] - np.arange(module.GRID)
    weights = module._spline_weights(28)
    np.testing.assert_allclose(weights, np.nan_to_num(spline(positions)), atol=1e-12)
    np.testing.assert_allclose(weights.sum(1), 1)

    field = module._elastic_field(KEY, jnp.arange(100), (28, 28))
    assert field.shape == (100, 2, 28, 28)
    assert 0.5 < np.abs(field).max() <= 1
    for axis in (2, 3):
        assert np.abs(np.diff(field, axis=axis)).max() < 0.2
    assert abs(np.corrcoef(field[:, 0, 14, 14], field[:, 1, 14, 14])[0, 1]) < 0.45


def test_the_elastic_field_is_added_to_the_source_coordinates(monkeypatch):
    ones = jnp.ones((COUNT, 2, 11, 9)) * jnp.array([1, -2])[:, None, None]
    monkeypatch.setattr(module, "_elastic_field", lambda key, example_index, size: ones)
    y = random_warp(jnp.asarray(IMAGES), KEY, INDEX, Augmentation(elastic=1))
    moved = np.pad(IMAGES, ((0, 0), (0, 1), (2, 0), (0, 0)))[:, 1:, :-2]
    np.testing.assert_allclose(y, moved / 255, atol=1e-6)


def _distance_beyond(angle, distance, size):
    """Return the distance of each pixel beyond the line."""
    y, x = np.indices(size)
    down, right = y - (size[0] - 1) / 2, x - (size[1] - 1) / 2
    normal = down * np.sin(np.pi * angle) + right * np.cos(np.pi * angle)
    return normal - distance * max(size) / 2


@pytest.mark.parametrize("size", [(32, 32), (5, 12)])
def test_pixels_beyond_a_line_are_those_farther_from_the_centre(size):
    angle, distance = np.random.default_rng(0).uniform(-1, 1, (2, 50)).astype(np.float32)
    found = np.asarray(beyond_line(jnp.asarray(angle), jnp.asarray(distance), size))
    for each, *line in zip(found, angle, distance, strict=True):
        far = _distance_beyond(*line, size)
        np.testing.assert_array_equal(each[np.abs(far) > 1e-3], (far > 0)[np.abs(far) > 1e-3])
    assert 0.3 < found.mean() < 0.7
