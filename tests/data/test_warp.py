import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from fidle_jax.data import warp as module
from fidle_jax.data.warp import NO_WARP, Warp, beyond_line, random_warp

KEY = jax.random.key(5)
INDEX = jnp.arange(6)
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 11, 9, 3), np.uint8)
STRONG = Warp(shift=2, rotation=40, scaling=0.3, shear=0.2)
WILD = dataclasses.replace(STRONG, elastic=2)

_random_warp = jax.jit(random_warp, static_argnames="ranges")


def _fixed_amounts(monkeypatch, *amounts):
    """Every image gets these amounts: of rotation, scaling, shear, and shift down and right."""
    columns = [jnp.full(6, amount, jnp.float32) for amount in amounts]
    monkeypatch.setattr(module, "uniform", lambda key, example_index, count: columns)


def _judged(image, ranges, amounts):
    """One plane under the map, by scipy, with the matrices multiplied out by name."""
    angle = np.deg2rad(ranges.rotation * amounts[0])
    zoom, stretch = (1 + ranges.scaling) ** amounts[1], (1 + ranges.shear) ** amounts[2]
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    matrix = np.diag([zoom / stretch, zoom * stretch]) @ turn
    centre = (np.array(image.shape) - 1) / 2
    offset = centre + ranges.shift * np.array(amounts[3:]) - matrix @ centre
    # A margin of zeros, since scipy's own does not blend the edge with what lies beyond it.
    padded, margin = np.pad(image / 255, 2), np.full(2, 2)
    return scipy.ndimage.affine_transform(
        padded, matrix, offset + margin, image.shape, order=1, mode="constant"
    )


def test_the_map_with_no_room_is_the_identity():
    np.testing.assert_allclose(_random_warp(IMAGES, KEY, INDEX, NO_WARP), IMAGES / 255, atol=1e-6)


@pytest.mark.parametrize(("down", "right"), [(1, 0), (-2, 3), (0, -4), (20, 0)])
def test_a_shift_by_whole_pixels_moves_them_and_brings_zeros_in(monkeypatch, down, right):
    _fixed_amounts(monkeypatch, 0, 0, 0, down, right)
    y = random_warp(jnp.asarray(IMAGES), KEY, INDEX, Warp(shift=1))
    height, width = IMAGES.shape[1:3]
    around = np.pad(IMAGES, ((0, 0), (20, 20), (20, 20), (0, 0)))
    moved = around[:, 20 + down : 20 + down + height, 20 + right : 20 + right + width]
    np.testing.assert_allclose(y, moved / 255, atol=1e-6)


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
def test_a_map_is_the_one_that_scipy_computes(monkeypatch, amounts):
    _fixed_amounts(monkeypatch, *amounts)
    y = random_warp(jnp.asarray(IMAGES), KEY, INDEX, STRONG)
    for i, channel in np.ndindex(6, 3):
        expected = _judged(IMAGES[i, :, :, channel], STRONG, amounts)
        np.testing.assert_allclose(y[i, :, :, channel], expected, atol=1e-4)


def test_amounts_are_uniform_within_their_ranges_and_independent():
    amounts = np.stack(module.uniform(KEY, jnp.arange(4000), 5))
    assert np.abs(amounts).max() <= 1
    for row in amounts:
        assert scipy.stats.kstest(row, "uniform", (-1, 2)).pvalue > 1e-4
    np.testing.assert_allclose(np.corrcoef(amounts), np.eye(5), atol=4.5 / np.sqrt(4000))


def test_the_elastic_field_is_a_cubic_spline_that_stays_within_a_pixel_and_moves_neighbours_alike():
    spline = BSpline.basis_element([-2, -1, 0, 1, 2], extrapolate=False)
    places = np.linspace(1, module.GRID - 2, 28)[:, None] - np.arange(module.GRID)
    weights = module._spline_weights(28)
    np.testing.assert_allclose(weights, np.nan_to_num(spline(places)), atol=1e-12)
    np.testing.assert_allclose(weights.sum(1), 1)

    field = module._elastic_field(KEY, jnp.arange(100), (28, 28))
    assert field.shape == (100, 2, 28, 28)
    assert 0.5 < np.abs(field).max() <= 1
    for axis in (2, 3):
        assert np.abs(np.diff(field, axis=axis)).max() < 0.2
    assert abs(np.corrcoef(field[:, 0, 14, 14], field[:, 1, 14, 14])[0, 1]) < 0.45


def test_an_elastic_map_is_the_field_added_to_where_pixels_come_from(monkeypatch):
    ones = jnp.ones((6, 2, 11, 9)) * jnp.array([1, -2])[:, None, None]
    monkeypatch.setattr(module, "_elastic_field", lambda key, example_index, size: ones)
    y = random_warp(jnp.asarray(IMAGES), KEY, INDEX, Warp(elastic=1))
    moved = np.pad(IMAGES, ((0, 0), (0, 1), (2, 0), (0, 0)))[:, 1:, :-2]
    np.testing.assert_allclose(y, moved / 255, atol=1e-6)


@functools.cache
def _extreme(value):
    return np.full_like(IMAGES, value)


def _beyond(turn, distance, size):
    """How far beyond the line each pixel lies, in pixels."""
    y, x = np.indices(size)
    down, right = y - (size[0] - 1) / 2, x - (size[1] - 1) / 2
    return down * np.sin(np.pi * turn) + right * np.cos(np.pi * turn) - distance * max(size) / 2


@pytest.mark.parametrize("size", [(32, 32), (5, 12)])
def test_beyond_a_line_lies_what_is_further_from_the_middle_than_it_that_way(size):
    turn, distance = np.random.default_rng(0).uniform(-1, 1, (2, 50)).astype(np.float32)
    found = np.asarray(beyond_line(jnp.asarray(turn), jnp.asarray(distance), size))
    for each, *line in zip(found, turn, distance, strict=True):
        far = _beyond(*line, size)
        np.testing.assert_array_equal(each[np.abs(far) > 1e-3], (far > 0)[np.abs(far) > 1e-3])
    assert 0.3 < found.mean() < 0.7


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["noise", "white"]))
def test_values_stay_between_0_and_1(seed, kind):
    images = IMAGES if kind == "noise" else _extreme(255)
    y = _random_warp(images, jax.random.key(seed), INDEX, ranges=WILD)
    assert y.dtype == jnp.float32
    assert y.min() >= 0
    assert y.max() <= 1 + 1e-6


def test_an_images_map_depends_on_key_and_index_alone():
    order = np.array([3, 0, 5, 1, 4, 2])
    whole = _random_warp(IMAGES, KEY, INDEX, ranges=WILD)
    permuted = _random_warp(IMAGES[order], KEY, INDEX[order], ranges=WILD)
    np.testing.assert_allclose(permuted, whole[order], atol=1e-6)
    alone = _random_warp(IMAGES[4:5], KEY, INDEX[4:5], ranges=WILD)
    np.testing.assert_allclose(alone[0], whole[4], atol=1e-6)


@pytest.mark.parametrize("batch", [1, 2, 3, 21, 63])
def test_an_image_gets_the_same_bits_in_a_batch_of_any_size(batch):
    images = np.random.default_rng(1).integers(0, 256, (64, 28, 28, 1), np.uint8)
    ranges = Warp(shift=2, rotation=15, scaling=0.15, shear=0.1, elastic=2.5)
    whole = _random_warp(images, KEY, jnp.arange(64), ranges)
    part = _random_warp(images[:batch], KEY, jnp.arange(batch), ranges)
    np.testing.assert_array_equal(part, whole[:batch])


def test_maps_differ_between_examples_and_between_keys():
    same = np.repeat(IMAGES[:1], 6, axis=0)
    y = np.asarray(_random_warp(same, KEY, INDEX, ranges=WILD))
    other = np.asarray(_random_warp(same, jax.random.key(6), INDEX, ranges=WILD))
    results = np.concatenate([y, other]).reshape(12, -1)
    distances = np.abs(results[:, None] - results[None]).max(-1)
    assert (distances[~np.eye(12, dtype=bool)] > 0.01).all()


def test_the_planes_of_a_colour_image_move_together():
    y = _random_warp(IMAGES, KEY, INDEX, ranges=WILD)
    for channel in range(3):
        plane = _random_warp(IMAGES[..., channel : channel + 1], KEY, INDEX, ranges=WILD)
        np.testing.assert_allclose(y[..., channel : channel + 1], plane, atol=1e-6)


@pytest.mark.parametrize("ranges", [NO_WARP, WILD])
def test_an_empty_batch_stays_empty(ranges):
    assert random_warp(jnp.asarray(IMAGES[:0]), KEY, INDEX[:0], ranges).shape == (0, 11, 9, 3)
