import numpy as np
import pytest

from fidle_jax.inference.corruptions import BATCH_SIZE, CORRUPTIONS, corrupt

NAMES = sorted(CORRUPTIONS)


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def blob(side):
    """A bright blob on black, not in the centre."""
    y, x = np.mgrid[:side, :side] / side
    image = 255 * np.exp(-((y - 0.4) ** 2 + (x - 0.55) ** 2) / 0.02)
    return image.astype(np.uint8)[None, :, :, None]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 8, 20, 1), (5, 13, 9, 3)])
def test_images_of_any_size_keep_their_shape_and_a_seed_gives_the_same_result(name, shape):
    images = noise(shape)
    original = images.copy()
    for strength in CORRUPTIONS[name].strengths:
        worse = corrupt(images, CORRUPTIONS[name], strength, seed=4)
        assert (worse.shape, worse.dtype) == (images.shape, np.uint8)
        np.testing.assert_array_equal(worse, corrupt(images, CORRUPTIONS[name], strength, seed=4))
    np.testing.assert_array_equal(images, original)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", [24, 28, 48])
def test_each_strength_changes_an_image_more_than_the_one_before(name, side):
    images = np.repeat(blob(side), 20, axis=0)
    distances = [
        np.abs(corrupt(images, CORRUPTIONS[name], each, 0).astype(float) - images).mean()
        for each in CORRUPTIONS[name].strengths
    ]
    assert distances[0] > 0
    assert np.all(np.diff(distances) > 0)


def test_shifts_go_in_all_directions_by_whole_pixels():
    images = np.zeros((100, 25, 25, 3), np.uint8)
    images[:, 12, 12] = 10, 20, 30
    worse = corrupt(images, CORRUPTIONS["shift"], 0.16, seed=0)
    assert {tuple(each) for each in np.argwhere(worse[..., 0])[:, 1:]} == {
        (8, 12),
        (16, 12),
        (12, 8),
        (12, 16),
    }
    np.testing.assert_array_equal(worse.max(axis=(1, 2)), images.max(axis=(1, 2)))


def test_shifts_repeat_the_edge():
    image = np.arange(36, dtype=np.uint8).reshape(1, 6, 6, 1)
    down = np.repeat(image, 50, axis=0)
    shifted = {each.tobytes() for each in corrupt(down, CORRUPTIONS["shift"], 0.2, seed=0)}
    assert image[0, [0, 0, 1, 2, 3, 4]].tobytes() in shifted
    assert image[0, :, [1, 2, 3, 4, 5, 5]].swapaxes(0, 1).tobytes() in shifted
    assert len(shifted) == 4


def test_a_rotation_by_a_right_angle_is_exact_in_both_directions():
    images = np.repeat(noise((1, 9, 9, 3)), 20, axis=0)
    turned = {each.tobytes() for each in corrupt(images, CORRUPTIONS["rotation"], 90, seed=0)}
    assert turned == {np.rot90(images[0], k).tobytes() for k in (1, -1)}


@pytest.mark.parametrize("deviation", [0.08, 0.12])
def test_noise_has_the_given_deviation(deviation):
    grey = np.full((100, 20, 20, 3), 128, np.uint8)
    worse = corrupt(grey, CORRUPTIONS["noise"], deviation, seed=1) / 255
    assert worse.std() == pytest.approx(deviation, rel=0.02)
    assert worse.mean() == pytest.approx(128 / 255, abs=0.002)


def test_noise_depends_on_the_seed_and_the_image():
    grey = np.full((BATCH_SIZE + 2, 8, 8, 1), 128, np.uint8)
    first, other = (corrupt(grey, CORRUPTIONS["noise"], 0.1, seed) for seed in (0, 1))
    assert len({each.tobytes() for each in (*first, *other)}) == 2 * (BATCH_SIZE + 2)


def test_a_blur_spreads_light_and_preserves_its_sum():
    images = np.zeros((1, 41, 41, 1), np.uint8)
    images[0, 18:23, 18:23] = 255
    worse = corrupt(images, CORRUPTIONS["blur"], 0.06, seed=0).astype(float)
    assert worse.sum() == pytest.approx(images.sum(), rel=0.02)
    y = np.arange(41) - 20
    variance = (worse[0, :, :, 0].sum(axis=1) * y**2).sum() / worse.sum()
    assert variance == pytest.approx((0.06 * 41) ** 2 + 2, rel=0.05)


def test_low_contrast_moves_pixels_towards_the_mean_of_their_channel():
    images = noise((3, 16, 16, 3))
    worse = corrupt(images, CORRUPTIONS["contrast"], 0.3, seed=0)
    axes = (1, 2)
    np.testing.assert_allclose(worse.mean(axes), images.mean(axes), atol=0.5)
    np.testing.assert_allclose(worse.std(axes), 0.3 * images.std(axes), rtol=0.02)


@pytest.mark.parametrize("name", ["blur", "contrast", "rotation", "shift"])
def test_an_image_of_one_colour_is_unchanged(name):
    flat = np.full((2, 12, 12, 3), (10, 120, 250), np.uint8)
    for strength in CORRUPTIONS[name].strengths:
        np.testing.assert_array_equal(corrupt(flat, CORRUPTIONS[name], strength, 0), flat)
