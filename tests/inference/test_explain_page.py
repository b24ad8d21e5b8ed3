"""Figures and texts of an explanation."""

import numpy as np
import pytest

from fidle_jax.inference.explain import Explanation
from fidle_jax.inference.explain_page import (
    Example,
    Panel,
    draw_answer,
    draw_maps,
    draw_methods,
    summarise,
)
from fidle_jax.nn.intermediates import Intermediates
from fidle_jax.report.html import read_texts
from fidle_jax.report.style import png

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.integers(0, 256, (8, 9, 3)).astype(np.uint8)
GRADIENT = RANDOM.normal(size=IMAGE.shape).astype(np.float32)
CAM = np.zeros(IMAGE.shape[:2], np.float32)
CAM[2:5, 3:6] = 2
ONE = Explanation(
    logits=np.log([0.25, 0.75]).astype(np.float32),
    target=1,
    baseline=np.array([0, 0.5, 1], np.float32),
    gradient=GRADIENT,
    integrated=GRADIENT,
    difference=2.0,
    layer="conv_1",
    cam=CAM,
    side=3,
    occluded=np.log([[[0.25, 0.75], [0.6, 0.4]]]).astype(np.float32),
    intermediates=Intermediates(
        {}, {"00 input": IMAGE / np.float32(255), "01 dense_1": np.zeros(2, np.float32)}
    ),
)
NAMES = ("a", "b")


def panel(figure, index):
    return figure.axes[index].get_images()[0]


def test_each_class_has_a_bar_and_the_target_another_colour():
    figure = draw_answer(IMAGE, np.log([0.2, 0.7, 0.1]), ["a", "b", "c"], target=1, truth=2)
    bars = figure.axes[1].patches
    np.testing.assert_allclose([bar.get_width() for bar in bars], [0.2, 0.7, 0.1])
    colours = [bar.get_facecolor() for bar in bars]
    assert colours[0] == colours[2] != colours[1]
    names = figure.axes[1].get_yticklabels()
    assert [name.get_text() for name in names] == ["a", "b", "c (true)"]
    assert names[0].get_color() == names[2].get_color() != names[1].get_color()


def test_the_ten_most_probable_of_many_classes_are_shown():
    names = [f"class {i}" for i in range(43)]
    logits = RANDOM.permutation(43).astype(float)
    figure = draw_answer(IMAGE, logits, names, target=int(logits.argmax()))
    labels = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert labels == [names[i] for i in np.argsort(-logits)[:10]]


@pytest.mark.parametrize("size", [0.001, 1, 50])
def test_the_colours_of_signed_maps_are_centred_at_zero(size):
    values = size * np.array([[-0.3, 0.1], [0.2, 0.0]])
    image = panel(draw_maps(IMAGE, Panel("map", values, signed=True)), 1)
    low, high = image.get_clim()
    assert -low == high == pytest.approx(0.3 * size)
    red, _, blue, _ = image.cmap(image.norm(0.1 * size))
    assert red > blue


def test_the_colours_of_other_maps_start_at_zero():
    assert panel(draw_maps(IMAGE, Panel("map", np.full((2, 2), 3.0))), 1).get_clim() == (0, 3)


def test_maps_of_zeros_are_drawn():
    zeros = np.zeros((4, 4))
    assert png(draw_maps(IMAGE, Panel("a", zeros, signed=True), Panel("b", zeros)))
    assert png(draw_methods(Example("x", IMAGE), ONE._replace(cam=0 * CAM), NAMES)["grad_cam"])


def test_a_map_of_any_resolution_covers_the_image():
    figure = draw_maps(IMAGE, Panel("map", np.zeros((4, 3))))
    assert panel(figure, 1).get_extent() == panel(figure, 0).get_extent()


@pytest.fixture(scope="module")
def figures():
    return draw_methods(Example("x", IMAGE), ONE, NAMES)


def test_saliency_is_the_sum_and_the_largest_absolute_gradient_over_the_channels(figures):
    np.testing.assert_allclose(panel(figures["saliency"], 1).get_array(), GRADIENT.sum(-1))
    largest = np.abs(GRADIENT).max(-1)
    np.testing.assert_allclose(panel(figures["saliency"], 2).get_array(), largest)


def test_the_contributions_of_the_channels_are_summed(figures):
    drawn = panel(figures["integrated_gradients"], 1).get_array()
    np.testing.assert_allclose(drawn, GRADIENT.sum(-1))


def test_grad_cam_has_a_contour_at_half_of_its_maximum(figures):
    (contour,) = figures["grad_cam"].axes[0].collections
    (line,) = contour.get_paths()
    np.testing.assert_allclose(line.get_extents().bounds, (2.5, 1.5, 3, 3))


def test_occlusion_shows_the_fall_of_the_logit_and_the_remaining_probability(figures):
    figure = figures["occlusion"]
    fall = [[0, np.log(0.75 / 0.4)]]
    np.testing.assert_allclose(panel(figure, 1).get_array(), fall, atol=1e-6)
    np.testing.assert_allclose(panel(figure, 2).get_array(), [[0.75, 0.4]], rtol=1e-6)
    assert panel(figure, 2).get_clim() == (0, 1)


def test_without_convolutions_there_is_no_grad_cam():
    assert "grad_cam" not in draw_methods(Example("x", IMAGE), ONE._replace(cam=None), NAMES)


def test_the_summary_has_the_numbers_of_the_captions():
    numbers = summarise(Example("x", IMAGE, truth=0), ONE, NAMES)
    assert (numbers["truth"], numbers["answer"], numbers["target"]) == ("a", "b", "b")
    assert numbers["probabilities"] == pytest.approx({"a": 0.25, "b": 0.75})
    sums = numbers["integrated_gradients"]
    assert sums["error"] == pytest.approx(GRADIENT.sum() - 2, abs=1e-4)
    assert numbers["occlusion"]["answer_changes"] == 0.5
    assert numbers["occlusion"]["largest_fall"] == pytest.approx(np.log(0.75 / 0.4))


@pytest.mark.parametrize("layer", ["conv_1", None])
def test_every_text_states_what_not_to_conclude(layer):
    values = {"steps": 8, "layer": layer, "side": 3}
    for name, (_, text) in read_texts("explain.md.j2", "fidle_jax.inference", **values).items():
        omitted = name == "grad_cam" and layer is None
        assert text.count("\n\nWhat not to conclude: ") == (not omitted)
