"""Figures of the two networks of equal size."""

import numpy as np

from fidle_jax.report.lessons import dense_vs_cnn as figures
from fidle_jax.report.style import BLUE, VERMILLION

ACCURACIES = {"DNN": np.array([[0.7, 0.8], [0.9, 0.9]]), "CNN": np.array([[0.8, 0.8], [0.9, 1.0]])}


def test_each_size_has_a_tick_and_each_network_a_line_through_its_means():
    figure = figures.by_training_size(np.array([100, 4000]), ACCURACIES)
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["100", "4,000"]
    for lines, values in zip(axes.containers, ACCURACIES.values(), strict=True):
        np.testing.assert_allclose(lines[0].get_ydata(), 100 * values.mean(axis=1))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["DNN", "CNN"]


def test_shifts_are_counted_from_none():
    (axes,) = figures.by_shift(ACCURACIES).axes
    np.testing.assert_array_equal(axes.get_xticks(), [0, 1])


def test_a_wrong_answer_is_told_apart_by_colour_and_weight():
    images = np.zeros((1, 2, 28, 28), np.uint8)
    answers = {"DNN": np.array([[3, 5]]), "CNN": np.array([[3, 3]])}
    figure = figures.shifted_digits(images, np.array([3]), answers, np.array([0, 4]))
    said = {text.get_text(): text for axes in figure.axes for text in axes.texts}
    assert set(said) == {"DNN: 3", "CNN: 3", "DNN: 5"}
    assert (said["DNN: 5"].get_color(), said["DNN: 5"].get_weight()) == (VERMILLION, "bold")
    assert said["DNN: 3"].get_color() == BLUE
    assert [axes.get_title() for axes in figure.axes] == ["0 px", "4 px"]
