"""Points of two classes, neurons that separate them, and their figures."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidle_jax.lessons import perceptron as lesson
from fidle_jax.lessons.perceptron import (
    CORNER_LABELS,
    CORNERS,
    Network,
    make_cloud,
    neuron_lines,
    weighted_sums,
)
from fidle_jax.nn import DNN

WEIGHTS = st.floats(-100, 100)


def neuron(w1, w2, bias):
    layer = {"kernel": jnp.array([[w1], [w2]]), "bias": jnp.array([bias])}
    return Network(DNN(classes=1, hidden=()), {"dense_1": layer})


NEURON = neuron(2.0, -1.0, 0.5)


@pytest.mark.parametrize("kind", get_args(lesson.Kind))
def test_a_cloud_has_equally_many_points_of_both_classes_in_the_plane(kind):
    points, labels = make_cloud(kind, seed=3, count=120)
    assert points.shape == (120, 2)
    assert (points.dtype, labels.dtype) == (np.float32, np.int32)
    assert np.abs(points).max() < 3
    np.testing.assert_array_equal(np.bincount(labels), [60, 60])


@pytest.mark.parametrize("kind", get_args(lesson.Kind))
def test_a_cloud_depends_only_on_the_seed(kind):
    first, again, other = (make_cloud(kind, seed, 40)[0] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


@given(w1=WEIGHTS, w2=WEIGHTS, constant=WEIGHTS)
def test_no_line_classifies_more_than_three_corners_of_the_square_correctly(w1, w2, constant):
    predicted = CORNERS.astype(np.float64) @ [w1, w2] + constant > 0
    assert np.mean(predicted == CORNER_LABELS) <= 0.75


def test_a_neuron_is_the_sigmoid_of_its_weighted_sum():
    points = np.array([[0, 0], [1, 2], [-0.25, 0]], np.float32)
    expected = 1 / (1 + np.exp([-0.5, -0.5, 0]))
    np.testing.assert_allclose(NEURON.probabilities(points), expected, rtol=1e-6)


def test_the_probability_on_the_line_of_a_neuron_is_one_half():
    (line,) = lines = neuron_lines(NEURON.params["dense_1"])
    np.testing.assert_array_equal(line, [2, -1, 0.5])
    on_it = np.array([[0, 0.5], [1, 2.5], [-0.25, 0]], np.float32)
    np.testing.assert_array_equal(weighted_sums(lines, on_it), np.zeros((3, 1)))
    np.testing.assert_array_equal(NEURON.probabilities(on_it), [0.5] * 3)


def test_the_output_of_a_hidden_layer_follows_from_its_lines():
    model = DNN(classes=1, hidden=(3,), activation=jnp.tanh)
    params = model.init(jax.random.key(0), jnp.zeros((1, 2)))["params"]
    points = np.random.default_rng(0).normal(size=(5, 4, 2)).astype(np.float32)
    hidden = np.tanh(weighted_sums(neuron_lines(params["dense_1"]), points))
    sums = hidden @ np.asarray(params["dense_2"]["kernel"])[:, 0]
    found = Network(model, params).probabilities(points)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-sums)), rtol=1e-5)


def test_accuracy_compares_probabilities_with_one_half():
    points = np.array([[-1, 0], [1, 0], [-1, 0], [1, 0]], np.float32)
    assert neuron(1.0, 0.0, 0.0).accuracy((points, np.array([0, 1, 1, 1]))) == 0.75


def test_a_neuron_learns_to_separate_the_blobs_from_a_wrong_start():
    cloud = make_cloud("blobs", seed=0, count=60)
    followed = lesson.follow_neuron(cloud, (-0.6, 1.0, 1.2), steps=60, learning_rate=0.5)
    assert len(followed) == 61
    (line,) = neuron_lines(followed[0].params["dense_1"])
    np.testing.assert_allclose(line, [-0.6, 1.0, 1.2], rtol=1e-6)
    assert followed[0].accuracy(cloud) < 0.7
    assert followed[-1].accuracy(cloud) > 0.98


def test_a_hidden_layer_learns_to_separate_xor():
    cloud = make_cloud("xor", seed=0, count=120)
    network = lesson.train_network(cloud, (4,), optax.sgd(0.5), epochs=40, seed=1)
    assert network.params["dense_1"]["kernel"].shape == (2, 4)
    assert network.accuracy(cloud) > 0.95


POINTS = np.array([[-1, 0], [1, 0], [0, 1], [1, 1]], np.float32)
CLOUD = (POINTS, np.array([0, 1, 0, 1]))
VERTICAL = neuron(1.0, 0.0, -0.5)  # the line x = 0.5
LINE = np.array([1.0, 0.0, -0.5])


@pytest.fixture(scope="module")
def hidden():
    layers = {
        "dense_1": {"kernel": jnp.eye(2), "bias": jnp.zeros(2)},
        "dense_2": {"kernel": jnp.array([[1.0], [0.5]]), "bias": jnp.zeros(1)},
    }
    return Network(DNN(classes=1, hidden=(2,), activation=jnp.tanh), layers)


def marked(axes, marker):
    return sum(len(line.get_xdata()) for line in axes.lines if line.get_marker() == marker)


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_classes_have_different_markers_and_every_point_is_drawn():
    axes, _ = lesson.neuron_figure(VERTICAL, CLOUD, LINE, 9, "step 3").axes
    assert marked(axes, "o") == marked(axes, "^") == 2
    assert axes.get_title() == "step 3"


def test_the_border_is_drawn_where_the_probability_is_one_half():
    axes, _ = lesson.neuron_figure(VERTICAL, CLOUD, LINE, 9).axes
    (contour,) = (each for each in axes.collections if len(each.get_paths()))
    np.testing.assert_allclose(contour.get_paths()[0].vertices[:, 0], 0.5, atol=1e-2)


def test_a_network_without_a_border_in_the_figure_has_no_contour():
    assert not lesson.neuron_figure(neuron(0.0, 0.0, 2.0), CLOUD, LINE, 9).axes[0].collections


def test_a_neuron_without_weights_has_no_line():
    with_line, without = (
        lesson.neuron_figure(VERTICAL, CLOUD, line, 9).axes[0].lines for line in (LINE, np.zeros(3))
    )
    assert len(with_line) == len(without) + 1


def test_the_points_of_a_neuron_lie_on_the_sigmoid():
    figure = lesson.neuron_figure(VERTICAL, CLOUD, LINE, 9)
    right = figure.axes[1]
    for line in (line for line in right.lines if line.get_marker() in ("o", "^")):
        z, output = line.get_data()
        np.testing.assert_allclose(output, 1 / (1 + np.exp(-z)), rtol=1e-6)
    assert marked(right, "o") == marked(right, "^") == 2
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["class 0", "class 1"]


def test_each_network_has_a_panel_with_its_title_and_lines_of_hidden_neurons_are_explained(hidden):
    figure = lesson.planes_figure([("one", VERTICAL, CLOUD), ("two", hidden, CLOUD)])
    titles = [axes.get_title().replace("\N{NO-BREAK SPACE}", " ") for axes in figure.axes]
    assert titles == ["one: 100.0 %", "two: 75.0 %"]
    assert set(legend(figure)) == {"class 0", "class 1", "decision boundary", "a hidden neuron"}
    assert "a hidden neuron" not in legend(lesson.planes_figure([("one", VERTICAL, CLOUD)]))


def test_the_right_panel_shows_the_outputs_of_the_hidden_neurons(hidden):
    right = lesson.folded_figure(hidden, CLOUD).axes[1]
    (zeros,) = (line for line in right.lines if line.get_marker() == "o")
    np.testing.assert_allclose(zeros.get_xydata(), np.tanh(POINTS)[[0, 2]], rtol=1e-6)
