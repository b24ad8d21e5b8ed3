import numpy as np
import pytest

from fidle_jax.lessons.perceptron import square_grid
from fidle_jax.report.lessons import perceptron as figures
from fidle_jax.report.style import png

POINTS = np.array([[-1, 0], [1, 0], [0, 1], [1, 1]], np.float32)
LABELS = np.array([0, 1, 0, 1])
LINE = np.array([1.0, 0.0, -0.5])  # the vertical x = 0.5


@pytest.fixture
def plane():
    probability = 1 / (1 + np.exp(0.5 - square_grid(2, 41)[..., 0]))
    return figures.Plane(POINTS, LABELS, probability, 2.0, title="one")


def marked(axes, marker):
    return sum(len(line.get_xdata()) for line in axes.lines if line.get_marker() == marker)


def test_classes_differ_by_marker_and_every_point_is_drawn(plane):
    axes = figures.border(plane, LINE).axes[0]
    assert marked(axes, "o") == marked(axes, "^") == 2


def test_the_border_is_drawn_where_the_probability_is_one_half(plane):
    axes = figures.border(plane, LINE).axes[0]
    (contour,) = (each for each in axes.collections if len(each.get_paths()))
    np.testing.assert_allclose(contour.get_paths()[0].vertices[:, 0], 0.5, atol=1e-6)


def test_a_probability_that_is_nowhere_one_half_has_no_border(plane):
    sure = plane._replace(probability=np.full((41, 41), 0.9))
    assert not figures.border(sure, LINE).axes[0].collections


def test_the_neuron_has_its_points_on_the_sigmoid(plane):
    sums = POINTS @ LINE[:2] + LINE[2]
    outputs = 1 / (1 + np.exp(-sums))
    figure = figures.neuron(plane, LINE, sums, outputs)
    right = figure.axes[1]
    assert marked(right, "o") == marked(right, "^") == 2
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["class 0", "class 1"]
    png(figure)


def test_each_plane_has_a_panel_with_its_title_and_hidden_lines_are_explained(plane):
    figure = figures.planes([plane, plane._replace(hidden=LINE[None], title="two")])
    assert [axes.get_title() for axes in figure.axes if axes.get_visible()] == ["one", "two"]
    assert "a hidden neuron" in [text.get_text() for text in figure.legends[0].get_texts()]
    figure = figures.planes([plane])
    assert "a hidden neuron" not in [text.get_text() for text in figure.legends[0].get_texts()]
    png(figure)


def test_a_neuron_without_weights_has_no_line(plane):
    with_line, without = (figures.border(plane, line).axes[0].lines for line in (LINE, np.zeros(3)))
    assert len(with_line) == len(without) + 1


def test_folded_points_are_those_that_the_hidden_neurons_put_out(plane):
    outputs = np.tanh(POINTS)
    figure = figures.folded(plane._replace(hidden=np.eye(2, 3)), outputs, LINE)
    right = figure.axes[1]
    (zeros,) = (line for line in right.lines if line.get_marker() == "o")
    np.testing.assert_array_equal(zeros.get_xydata(), outputs[LABELS == 0])
    png(figure)
