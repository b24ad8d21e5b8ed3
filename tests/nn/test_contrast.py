"""Local contrast is normalized as defined, whatever the light."""

import jax.numpy as jnp
import numpy as np
import pytest

from fidle_jax.nn.contrast import normalize_contrast

IMAGES = np.random.default_rng(0).uniform(size=(3, 12, 10, 3)).astype(np.float32)


def _judged(image, window, epsilon):
    """One image, pixel by pixel."""

    def mean(x, i, j):
        half = window // 2
        return x[max(i - half, 0) : i + half + 1, max(j - half, 0) : j + half + 1].mean()

    height, width, _ = image.shape
    places = [(i, j) for i in range(height) for j in range(width)]
    centred, result = np.empty_like(image), np.empty_like(image)
    for i, j in places:
        centred[i, j] = image[i, j] - mean(image, i, j)
    for i, j in places:
        result[i, j] = centred[i, j] / np.sqrt(mean(centred**2, i, j) + epsilon**2)
    return result


@pytest.mark.parametrize("window", [3, 5, 9, 31])
def test_it_is_the_mean_and_the_deviation_of_the_neighbourhood_within_the_image(window):
    y = normalize_contrast(jnp.asarray(IMAGES), window, 0.1)
    for image, normalized in zip(IMAGES, y, strict=True):
        np.testing.assert_allclose(normalized, _judged(image, window, 0.1), atol=1e-5)


def test_another_light_makes_no_difference():
    y = normalize_contrast(jnp.asarray(IMAGES), 5, 0.0)
    dim = normalize_contrast(jnp.asarray(0.3 * IMAGES + 0.2), 5, 0.0)
    np.testing.assert_allclose(dim, y, atol=1e-3)


def test_less_contrast_than_noise_stays_small():
    y = normalize_contrast(jnp.asarray(0.5 + 1e-4 * IMAGES), 5, 0.03)
    assert jnp.abs(y).max() < 0.01


def test_an_image_of_one_colour_is_zero():
    np.testing.assert_allclose(normalize_contrast(jnp.full((1, 8, 8, 1), 0.7)), 0, atol=1e-4)
