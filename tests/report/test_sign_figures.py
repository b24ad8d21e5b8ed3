import numpy as np
import pytest

from fidle_jax.report import sign_figures


def flat(*greys):
    """Pictures of a single grey level."""
    return np.stack([np.full((8, 8, 3), grey, np.uint8) for grey in greys])


def greys_of(figure):
    return [int(image.get_array()[0, 0, 0]) for image in figure.axes[0].get_images()]


def texts_of(figure):
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


def test_classes_have_both_counts_the_largest_first():
    figure = sign_figures.class_counts(np.array([0, 1, 1, 1]), np.array([0, 0, 1]), ("a", "b"))
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b  1", "a  0"]
    assert [text.get_text() for text in axes.texts] == ["3 / 1", "1 / 2"]
    assert [bar.get_width() for bar in axes.patches] == [3, 1, 1, 2]


def test_the_ends_of_a_histogram_include_what_is_outside():
    panel = ("x", (np.array([-5.0, 300.0]), np.array([100.0])), np.arange(0, 256, 5))
    (axes,) = sign_figures.histograms([panel]).axes
    train, test = (patch.get_data().values for patch in axes.patches)
    assert (train[0], train[-1], train.sum()) == (50, 50, 100)
    assert test.sum() == 100


def test_elements_are_evenly_spaced():
    assert sign_figures.evenly_spaced(np.arange(9), 3).tolist() == [1, 4, 7]
    assert sign_figures.evenly_spaced(np.array([9]), 3).tolist() == [9, 9, 9]


def test_blocks_have_their_texts_in_at_most_two_lines():
    pictures = [list(flat(1, 4)), list(flat(7, 9))]
    texts = ["0 stop", "1 straight ahead or to the left again"]
    figure = sign_figures.blocks(pictures, texts, across=4)
    assert greys_of(figure) == [1, 4, 7, 9]
    assert texts_of(figure) == ["0 stop", "1 straight ahead or\nto the left again"]


@pytest.mark.parametrize("pictures", [1, 3])
def test_texts_stay_within_the_figure(pictures):
    names = [f"a rather long name of a sign with the number {k}" for k in range(5)]
    figure = sign_figures.blocks([list(flat(*range(pictures)))] * 5, names, across=4)
    figure.draw_without_rendering()
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width


def test_blocks_of_different_lengths_begin_at_the_same_column():
    figure = sign_figures.blocks([flat(1), flat(2, 3, 4)], ["first", "second"], across=1)
    assert greys_of(figure) == [1, 2, 3, 4]
    lefts = [image.get_extent()[0] for image in figure.axes[0].get_images()]
    assert lefts[0] == lefts[1] < lefts[2]
