import numpy as np
import pytest

from fidle_jax.report import explain_figures
from fidle_jax.report.explain_figures import (
    Panel,
    answer_figure,
    cam_figure,
    integrated_figure,
    maps_figure,
    occlusion_figure,
    saliency_figure,
)
from fidle_jax.report.style import png

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.integers(0, 256, (8, 9, 3)).astype(np.uint8)
GRADIENT = RANDOM.normal(size=IMAGE.shape).astype(np.float32)


def shown(figure, place):
    return figure.axes[place].get_images()[0]


def test_each_class_has_a_bar_and_the_target_another_colour():
    figure = answer_figure(IMAGE, np.log([0.2, 0.7, 0.1]), ["a", "b", "c"], target=1, truth=2)
    bars = figure.axes[1].patches
    np.testing.assert_allclose([bar.get_width() for bar in bars], [0.2, 0.7, 0.1])
    colours = [bar.get_facecolor() for bar in bars]
    assert colours[0] == colours[2] != colours[1]
    names = figure.axes[1].get_yticklabels()
    assert [name.get_text() for name in names] == ["a", "b", "c (true)"]
    assert names[0].get_color() == names[2].get_color() != names[1].get_color()


def test_of_many_classes_the_ten_likeliest_are_shown():
    names = [f"class {i}" for i in range(43)]
    logits = RANDOM.permutation(43).astype(float)
    figure = answer_figure(IMAGE, logits, names, target=int(logits.argmax()))
    labels = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert labels == [names[i] for i in np.argsort(-logits)[:10]]


@pytest.mark.parametrize("size", [0.001, 1, 50])
def test_zero_is_in_the_middle_of_the_colours_of_what_is_signed(size):
    values = size * np.array([[-0.3, 0.1], [0.2, 0.0]])
    image = shown(maps_figure(IMAGE, [Panel("map", values, signed=True)]), 1)
    low, high = image.get_clim()
    assert -low == high == pytest.approx(0.3 * size)
    red, _, blue, _ = image.cmap(image.norm(0.1 * size))
    assert red > blue


def test_what_is_not_signed_begins_at_zero():
    assert shown(maps_figure(IMAGE, [Panel("map", np.full((2, 2), 3.0))]), 1).get_clim() == (0, 3)


def test_a_map_of_zeros_is_drawn():
    zeros = np.zeros((4, 4))
    assert png(maps_figure(IMAGE, [Panel("a", zeros, signed=True), Panel("b", zeros)]))
    assert png(cam_figure(IMAGE, np.zeros(IMAGE.shape[:2])))


def test_a_map_covers_the_image_whatever_its_resolution():
    figure = maps_figure(IMAGE, [Panel("map", np.zeros((4, 3)))])
    assert shown(figure, 1).get_extent() == shown(figure, 0).get_extent()


def test_saliency_is_the_sum_and_the_largest_size_over_the_channels():
    figure = saliency_figure(IMAGE, GRADIENT)
    np.testing.assert_allclose(shown(figure, 1).get_array(), GRADIENT.sum(-1))
    np.testing.assert_allclose(shown(figure, 2).get_array(), np.abs(GRADIENT).max(-1))


def test_the_shares_of_a_pixels_channels_are_summed():
    drawn = shown(integrated_figure(IMAGE, GRADIENT), 1).get_array()
    assert drawn.sum() == pytest.approx(GRADIENT.sum(), rel=1e-5)


def test_grad_cam_is_lined_in_the_image_at_half_its_greatest_value():
    cam = np.zeros(IMAGE.shape[:2])
    cam[2:5, 3:6] = 2.0
    (contour,) = cam_figure(IMAGE, cam).axes[0].collections
    (line,) = contour.get_paths()
    np.testing.assert_allclose(line.get_extents().bounds, (2.5, 1.5, 3, 3))


def test_occlusion_shows_the_fall_of_the_logit_and_the_probability_that_is_left():
    logits = np.log([0.25, 0.75])
    occluded = np.log([[[0.25, 0.75], [0.5, 0.5]]])
    figure = occlusion_figure(IMAGE, logits, occluded, target=1)
    np.testing.assert_allclose(shown(figure, 1).get_array(), [[0, np.log(1.5)]])
    np.testing.assert_allclose(shown(figure, 2).get_array(), [[0.75, 0.5]])
    assert shown(figure, 2).get_clim() == (0, 1)


@pytest.mark.parametrize(
    "text", [*(text for _, text in explain_figures.METHODS.values()), explain_figures.KERNELS]
)
def test_every_text_says_what_not_to_conclude(text):
    assert text.count("\n\nWhat not to conclude: ") == 1
