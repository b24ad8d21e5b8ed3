"""Attributions of networks that are simple enough to know the result."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from fidle_jax.inference.explain import (
    Example,
    border_colour,
    explain,
    grad_cam,
    integrated_gradients,
    occlusion,
    saliency,
)
from fidle_jax.nn.intermediates import last_feature_maps, resize_map

SHAPE = (9, 8, 2)


class Smooth(nn.Module):
    """A differentiable network."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.tanh(nn.Dense(7)(x.reshape(len(x), -1))))


class Angular(nn.Module):
    """A network with ReLUs."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.relu(nn.Dense(20)(x.reshape(len(x), -1))))


class OnePixel(nn.Module):
    """Class 1 is the brightness where the mask is 1; class 0 is constant."""

    def __call__(self, x):
        light = (x.sum(-1) * self.get_variable("params", "mask")).sum((1, 2))
        return jnp.stack([jnp.full_like(light, 0.5), light], -1)


class Bars(nn.Module):
    """Class 0 for vertical bars, class 1 for horizontal ones, at any position."""

    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Conv(2, (5, 5), padding="valid", name="conv")(x)).mean((1, 2))


def one_pixel(row, column):
    mask = np.zeros(SHAPE[:2], np.float32)
    mask[row, column] = 1
    return {"params": {"mask": mask}}


def random_image(seed=0):
    return np.random.default_rng(seed).uniform(size=SHAPE).astype(np.float32)


def random_variables(model, seed=0):
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0), random_image()[None])
    return jax.tree.map(lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32), shapes)


def test_saliency_agrees_with_finite_differences():
    model, image, target = Smooth(), random_image(), 2
    variables = random_variables(model)
    steps = 0.01 * np.eye(image.size, dtype=np.float32).reshape(-1, *SHAPE)
    above, below = (model.apply(variables, image + sign * steps)[:, target] for sign in (1, -1))
    slopes = ((above - below) / 0.02).reshape(SHAPE)
    assert np.abs(slopes).max() > 0.01
    (found,) = saliency(model, variables, image[None], target)
    np.testing.assert_allclose(found, slopes, atol=2e-4)


@pytest.mark.parametrize("seed", range(6))
def test_integrated_gradients_sum_to_the_difference_of_the_logits(seed):
    model, image, target = Angular(), random_image(seed), seed % 3
    variables = random_variables(model, seed)
    baseline = np.array([0.2 * seed, 1 - 0.2 * seed], np.float32)
    found, difference = integrated_gradients(model, variables, image, target, baseline, steps=256)
    ends = model.apply(variables, np.stack([np.broadcast_to(baseline, SHAPE), image]))[:, target]
    assert difference == pytest.approx(float(ends[1] - ends[0]), abs=1e-5)
    assert found.sum() == pytest.approx(difference, abs=0.01)


def test_the_error_of_integrated_gradients_vanishes_with_more_steps():
    model, image = Angular(), 3 * random_image()
    variables, baseline = random_variables(model), np.zeros(2, np.float32)
    errors = []
    for steps in (2, 256):
        found, difference = integrated_gradients(model, variables, image, 0, baseline, steps)
        errors.append(abs(found.sum() - difference))
    assert errors[1] < 0.05 * errors[0]


def test_a_pixel_of_the_baselines_colour_contributes_nothing():
    model, image = Smooth(), random_image()
    found, _ = integrated_gradients(model, random_variables(model), image, 1, image[3, 4])
    assert np.all(found[3, 4] == 0)
    assert np.count_nonzero(found) >= image.size - 4


@pytest.mark.parametrize(("target", "row", "column"), [(0, 6, 5), (1, 14, 17)])
def test_grad_cam_is_largest_at_the_pattern_of_the_class(target, row, column):
    kernel = np.zeros((5, 5, 1, 2), np.float32)
    kernel[:, 2, 0, 0] = kernel[2, :, 0, 1] = 1
    # Only all five pixels of a bar exceed the bias.
    variables = {"params": {"conv": {"kernel": kernel, "bias": np.full(2, -4, np.float32)}}}
    image = np.zeros((22, 24, 1), np.float32)
    image[4:9, 5] = image[14, 15:20] = 1
    maps = grad_cam(Bars(), variables, image, target, "conv")
    assert maps.shape == (18, 20)
    assert np.unravel_index(np.argmax(maps), maps.shape) == (row - 2, column - 2)
    assert np.count_nonzero(maps) == 1


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 7), (4, 3), (8, 0), (8, 7)])
def test_occlusion_changes_the_logits_where_the_square_covers_what_they_depend_on(row, column):
    image, colour = np.ones(SHAPE, np.float32), np.array([0.0, 0.25])
    logits = occlusion(OnePixel(), one_pixel(row, column), image, colour, side=3)
    assert logits.shape == (*SHAPE[:2], 2)
    rows, columns = np.indices(SHAPE[:2])
    covered = (np.abs(rows - row) <= 1) & (np.abs(columns - column) <= 1)
    np.testing.assert_array_equal(logits[..., 1], np.where(covered, 0.25, 2))
    assert np.all(logits[..., 0] == 0.5)


@pytest.mark.parametrize(("stride", "first"), [(2, 0), (3, 1)])
def test_occlusion_may_skip_positions(stride, first):
    image, variables, colour = random_image(), one_pixel(4, 4), np.zeros(2)
    every = occlusion(OnePixel(), variables, image, colour, side=5)
    some = occlusion(OnePixel(), variables, image, colour, side=5, stride=stride)
    np.testing.assert_array_equal(some, every[first::stride, first::stride])


def test_the_border_colour_is_that_of_most_border_pixels_or_mid_grey():
    image = random_image()
    np.testing.assert_array_equal(border_colour(image), (0.5, 0.5))
    image[0] = image[-1] = image[:, 0] = (0.25, 0.75)
    np.testing.assert_array_equal(border_colour(image), np.float32((0.25, 0.75)))


def test_explain_uses_the_predicted_class_or_the_given_one(trained, evaluation):
    image, probabilities = evaluation["images"][3], evaluation["probabilities"][3]
    one = explain(trained, Example("x", image))
    assert one.target == probabilities.argmax()
    np.testing.assert_allclose(jax.nn.softmax(one.logits), probabilities, atol=1e-5)
    assert (one.baseline, one.side, one.layer) == (0, 7, "conv_2")
    assert one.cam.shape == one.gradient.shape[:2] == (28, 28)
    assert one.occluded.shape == (28, 28, 10)
    assert abs(one.integrated.sum() - one.difference) < 0.05 * abs(one.difference)
    # The corner and the square are black.
    np.testing.assert_allclose(one.occluded[0, 0], one.logits, atol=1e-4)

    other = explain(trained, Example("x", image), target=int(probabilities.argmin()))
    assert other.target == probabilities.argmin()
    assert np.abs(other.gradient - one.gradient).max() > 0.01


def test_grad_cam_is_drawn_at_the_centres_of_the_receptive_fields(trained):
    maps = np.zeros((11, 11), np.float32)
    maps[4, 7] = 1
    layer, grid = last_feature_maps(trained.model, (28, 28, 1))
    assert layer == "conv_2"
    enlarged = resize_map(maps, grid, (28, 28, 1))
    # Cell (i, j) of conv_2 sees 8 x 8 pixels, starting at (2 i, 2 j).
    weights = enlarged / enlarged.sum()
    rows, columns = np.indices((28, 28))
    centre = (weights * rows).sum(), (weights * columns).sum()
    np.testing.assert_allclose(centre, (2 * 4 + 3.5, 2 * 7 + 3.5), atol=1e-4)
