"""Figures and texts of an explanation."""

import numpy as np
import pytest

from fidle_jax.inference.explain import Example, Explanation
from fidle_jax.inference.explain_page import (
    draw_answer,
    draw_map,
    draw_methods,
    make_sections,
    summarise,
)
from fidle_jax.report.html import read_texts
from fidle_jax.report.style import png

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.integers(0, 256, (8, 9, 3)).astype(np.uint8)
GRADIENT = RANDOM.normal(size=IMAGE.shape).astype(np.float32)
CAM = np.zeros(IMAGE.shape[:2], np.float32)
CAM[2:5, 3:6] = 2
ONE = Explanation(
    example=Example("x", IMAGE),
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
    maps={"00 input": IMAGE / np.float32(255), "01 dense_1": np.zeros(2, np.float32)},
)
WITH_TRUTH = ONE._replace(example=Example("x", IMAGE, truth=0))
NAMES = ("a", "b")


def panel(figure, index):
    return figure.axes[index].get_images()[0]


def test_each_class_has_a_bar_and_the_target_another_colour():
    one = ONE._replace(example=Example("x", IMAGE, truth=2), logits=np.log([0.2, 0.7, 0.1]))
    figure = draw_answer(one, ("a", "b", "c"))
    bars = figure.axes[1].patches
    np.testing.assert_allclose([bar.get_width() for bar in bars], [0.2, 0.7, 0.1])
    colours = [bar.get_facecolor() for bar in bars]
    assert colours[0] == colours[2] != colours[1]
    names = figure.axes[1].get_yticklabels()
    assert [name.get_text() for name in names] == ["a", "b", "c (true)"]


def test_the_ten_most_probable_of_many_classes_are_shown():
    names = tuple(f"class {i}" for i in range(43))
    logits = RANDOM.permutation(43).astype(float)
    figure = draw_answer(ONE._replace(logits=logits, target=int(logits.argmax())), names)
    labels = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert labels == [names[i] for i in np.argsort(-logits)[:10]]


@pytest.mark.parametrize("size", [0.001, 1, 50])
def test_the_colours_of_signed_maps_are_centred_at_zero(size):
    values = size * np.array([[-0.3, 0.1], [0.2, 0.0]])
    image = panel(draw_map(IMAGE, values, "map", signed=True), 1)
    low, high = image.get_clim()
    assert -low == high == pytest.approx(0.3 * size)
    red, _, blue, _ = image.cmap(image.norm(0.1 * size))
    assert red > blue


def test_the_colours_of_other_maps_start_at_zero():
    assert panel(draw_map(IMAGE, np.full((2, 2), 3.0), "map"), 1).get_clim() == (0, 3)


def test_maps_of_zeros_are_drawn():
    zeros = np.zeros((4, 4))
    assert all(png(draw_map(IMAGE, zeros, "map", signed)) for signed in (True, False))
    assert png(draw_methods(ONE._replace(cam=0 * CAM), NAMES)["grad_cam"])


def test_a_map_of_any_resolution_covers_the_image():
    figure = draw_map(IMAGE, np.zeros((4, 3)), "map")
    assert panel(figure, 1).get_extent() == panel(figure, 0).get_extent()


@pytest.fixture(scope="module")
def figures():
    return draw_methods(ONE, NAMES)


@pytest.mark.parametrize("name", ["saliency", "integrated_gradients"])
def test_the_channels_are_summed(figures, name):
    np.testing.assert_allclose(panel(figures[name], 1).get_array(), GRADIENT.sum(-1))


def test_grad_cam_has_a_contour_at_half_of_its_maximum(figures):
    (contour,) = figures["grad_cam"].axes[0].collections
    (line,) = contour.get_paths()
    np.testing.assert_allclose(line.get_extents().bounds, (2.5, 1.5, 3, 3))


def test_occlusion_shows_the_fall_of_the_logit(figures):
    fall = [[0, np.log(0.75 / 0.4)]]
    np.testing.assert_allclose(panel(figures["occlusion"], 1).get_array(), fall, atol=1e-6)


def test_without_convolutions_there_is_no_grad_cam():
    sections = make_sections([ONE._replace(cam=None, layer=None)], NAMES)
    assert len(sections) == 5
    assert not any("Grad-CAM" in section.title for section in sections)


def test_captions_have_the_numbers():
    sections = make_sections([WITH_TRUTH], NAMES)
    captions = {each.name: each.caption for section in sections for each in section.shown}
    assert captions["answer_1"] == "x, class b; the answer is b with 75.0 %, the true class is a."
    sums = f"the values sum to {GRADIENT.sum():.3g}, the logits differ by 2.".replace("-", "−")
    assert captions["integrated_gradients_1"].endswith(sums)
    assert captions["occlusion_1"].endswith("the answer changes at 50 % of the positions.")
    assert captions["saliency_1"] == "x, class b."


def test_the_summary_has_the_probabilities_and_the_classes():
    numbers = summarise(WITH_TRUTH, NAMES)
    assert (numbers["truth"], numbers["answer"], numbers["target"]) == ("a", "b", "b")
    assert numbers["probabilities"] == pytest.approx({"a": 0.25, "b": 0.75})
    assert numbers["integrated_gradients"]["sum"] == pytest.approx(GRADIENT.sum(), abs=1e-4)


def test_every_text_states_what_not_to_conclude():
    values = {"steps": 8, "layer": "conv_1", "side": 3}
    for _, text in read_texts("explain.md.j2", "fidle_jax.inference", **values).values():
        assert text.count("\n\nWhat not to conclude: ") == 1
