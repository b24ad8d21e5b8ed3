"""What an answer depends on, of networks small enough to know."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st

from fidle_jax.errors import InputError
from fidle_jax.inference.attribution import (
    background,
    explain,
    grad_cam,
    integrated_gradients,
    occlusion,
    saliency,
)
from fidle_jax.inference.load import load
from fidle_jax.nn.intermediates import feature_grid, resize_map

SHAPE = (9, 8, 2)


class Smooth(nn.Module):
    """A network with a slope everywhere."""

    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Dense(7)(x.reshape(len(x), -1)))
        return nn.Dense(3)(x)


class Angular(nn.Module):
    """A network with the corners of ReLUs."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(20)(x.reshape(len(x), -1)))
        return nn.Dense(3)(x)


class Place(NamedTuple):
    row: int
    column: int


class OnePixel(nn.Module):
    """Class 1 for what is light where the mask is 1, class 0 for all else."""

    def __call__(self, x):
        light = (x.sum(-1) * self.get_variable("params", "mask")).sum((1, 2))
        return jnp.stack([jnp.full_like(light, 0.5), light], -1)


def one_pixel(place):
    mask = np.zeros(SHAPE[:2], np.float32)
    mask[place] = 1
    return {"params": {"mask": mask}}


class Bars(nn.Module):
    """Class 0 for upright bars, class 1 for level ones, wherever they are."""

    fuse: bool = True

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(2, (5, 5), padding="valid", name="conv")(x))
        return x.mean((1, 2))


def random_image(seed=0, shape=SHAPE):
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


def initialised(model, seed=0):
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0), random_image()[None])
    return jax.tree.map(lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32), shapes)


def test_saliency_is_what_finite_differences_say():
    model, image, target = Smooth(), random_image(), 2
    variables = initialised(model)
    steps = 0.01 * np.eye(image.size, dtype=np.float32).reshape(-1, *SHAPE)
    above, below = (model.apply(variables, image + sign * steps)[:, target] for sign in (1, -1))
    slopes = ((above - below) / 0.02).reshape(SHAPE)
    assert np.abs(slopes).max() > 0.01
    found = saliency(model, variables, image, target)
    np.testing.assert_allclose(found, slopes, atol=2e-4)


@settings(max_examples=20)
@given(seed=st.integers(0, 100), target=st.integers(0, 2), grey=st.floats(0, 1, width=32))
def test_integrated_gradients_sum_up_to_the_difference_of_the_logits(seed, target, grey):
    model, image = Angular(), random_image(seed)
    variables = initialised(model, seed)
    start = np.array([grey, 1 - grey], np.float32)
    found = integrated_gradients(model, variables, image, target, start, steps=256)
    ends = model.apply(variables, np.stack([np.broadcast_to(start, SHAPE), image]))[:, target]
    assert found.difference == pytest.approx(float(ends[1] - ends[0]), abs=1e-5)
    assert found.values.sum() == pytest.approx(found.difference, abs=0.01)
    assert found.error == pytest.approx(found.values.sum() - found.difference, abs=1e-6)


def test_the_error_of_integrated_gradients_vanishes_with_the_steps():
    model, image = Angular(), 3 * random_image()
    variables = initialised(model)
    few, many = (
        abs(integrated_gradients(model, variables, image, 0, np.zeros(2), steps).error)
        for steps in (2, 256)
    )
    assert many < 0.05 * few


def test_a_pixel_of_the_starts_colour_has_no_share():
    model, image = Smooth(), random_image()
    start = image[3, 4]
    values = integrated_gradients(model, initialised(model), image, 1, start).values
    assert np.all(values[3, 4] == 0)
    assert np.count_nonzero(values) >= image.size - 4


@pytest.mark.parametrize(("target", "place"), [(0, Place(6, 5)), (1, Place(14, 17))])
def test_grad_cam_is_largest_where_what_the_class_answers_to_is(target, place):
    kernel = np.zeros((5, 5, 1, 2), np.float32)
    kernel[:, 2, 0, 0] = kernel[2, :, 0, 1] = 1
    # Less than all five pixels of a bar are not enough.
    variables = {"params": {"conv": {"kernel": kernel, "bias": np.full(2, -4, np.float32)}}}
    image = np.zeros((22, 24, 1), np.float32)
    image[4:9, 5] = image[14, 15:20] = 1
    maps = grad_cam(Bars(), variables, image, target, "conv")
    assert maps.shape == (18, 20)
    assert np.unravel_index(np.argmax(maps), maps.shape) == (place.row - 2, place.column - 2)
    assert np.count_nonzero(maps) == 1


@settings(max_examples=30)
@given(row=st.integers(0, 8), column=st.integers(0, 7))
def test_occlusion_changes_the_logits_where_the_square_hides_what_they_depend_on(row, column):
    place, image = Place(row, column), np.ones(SHAPE, np.float32)
    logits = occlusion(OnePixel(), one_pixel(place), image, np.array([0.0, 0.25]), side=3)
    assert logits.shape == (*SHAPE[:2], 2)
    rows, columns = np.indices(SHAPE[:2])
    hidden = (np.abs(rows - row) <= 1) & (np.abs(columns - column) <= 1)
    np.testing.assert_array_equal(logits[..., 1], np.where(hidden, 0.25, 2))
    assert np.all(logits[..., 0] == 0.5)


@pytest.mark.parametrize(("stride", "first"), [(2, 0), (3, 1)])
def test_occlusion_may_leave_places_out(stride, first):
    image, variables, colour = random_image(), one_pixel(Place(4, 4)), np.zeros(2)
    every = occlusion(OnePixel(), variables, image, colour, side=5)
    some = occlusion(OnePixel(), variables, image, colour, side=5, stride=stride)
    np.testing.assert_array_equal(some, every[first::stride, first::stride])


def test_the_background_is_the_colour_of_most_of_the_border():
    image = random_image()
    image[0] = image[-1] = image[:, 0] = (0.25, 0.75)
    np.testing.assert_array_equal(background(image), np.float32((0.25, 0.75)))


def test_a_photograph_has_mid_grey_for_a_background():
    np.testing.assert_array_equal(background(random_image()), (0.5, 0.5))


def test_a_run_explains_its_answer_or_the_class_that_is_asked_for(trained_run):
    trained = load(trained_run)
    with np.load(trained_run / "evaluation.npz") as evaluation:
        image, probabilities = evaluation["images"][3], evaluation["probabilities"][3]
    one = explain(trained, image)
    assert one.target == probabilities.argmax()
    np.testing.assert_allclose(jax.nn.softmax(one.logits), probabilities, atol=1e-5)
    assert (one.start, one.side, one.layer) == (0, 7, "conv_2")
    assert one.cam.shape == one.gradient.shape[:2] == (28, 28)
    assert one.occluded.shape == (28, 28, 10)
    assert abs(one.integrated.error) < 0.05 * abs(one.integrated.difference)
    # The corner is empty, and so is the square.
    np.testing.assert_allclose(one.occluded[0, 0], one.logits, atol=1e-4)

    other = explain(trained, image, target=int(probabilities.argmin()))
    assert other.target == probabilities.argmin()
    assert np.abs(other.gradient - one.gradient).max() > 0.01


def test_a_network_that_has_diverged_is_said_to_have(trained_run):
    trained = load(trained_run)
    lost = trained._replace(variables=jax.tree.map(lambda leaf: leaf * np.nan, trained.variables))
    with pytest.raises(InputError, match="no finite number"):
        explain(lost, np.zeros((28, 28, 1), np.uint8))


def test_grad_cams_map_is_drawn_where_its_cells_lie(trained_run):
    trained = load(trained_run)
    maps = np.zeros((11, 11), np.float32)
    maps[4, 7] = 1
    enlarged = resize_map(maps, feature_grid(trained.model, (28, 28, 1), "conv_2"), (28, 28, 1))
    # conv_2's cell (i, j) sees 8 x 8 pixels from (2 i, 2 j) on.
    weights = enlarged / enlarged.sum()
    rows, columns = np.indices((28, 28))
    centre = (weights * rows).sum(), (weights * columns).sum()
    np.testing.assert_allclose(centre, (2 * 4 + 3.5, 2 * 7 + 3.5), atol=1e-4)
