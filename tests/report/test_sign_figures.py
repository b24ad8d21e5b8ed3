import numpy as np

from fidle_jax.report import signs


def test_classes_have_both_counts_the_largest_first():
    figure = signs.class_counts(np.array([0, 1, 1, 1]), np.array([0, 0, 1]), ("a", "b"))
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b  1", "a  0"]
    assert [text.get_text() for text in axes.texts] == ["3 / 1", "1 / 2"]
    assert [bar.get_width() for bar in axes.patches] == [3, 1, 1, 2]


def test_the_ends_of_a_histogram_include_what_is_outside():
    panel = ("x", (np.array([-5.0, 300.0]), np.array([100.0])), np.arange(0, 256, 5))
    (axes,) = signs.histograms([panel]).axes
    train, test = (patch.get_data().values for patch in axes.patches)
    assert (train[0], train[-1], train.sum()) == (50, 50, 100)
    assert test.sum() == 100


def test_elements_are_evenly_spaced():
    assert signs.evenly_spaced(np.arange(9), 3).tolist() == [1, 4, 7]
    assert signs.evenly_spaced(np.array([9]), 3).tolist() == [9, 9, 9]
