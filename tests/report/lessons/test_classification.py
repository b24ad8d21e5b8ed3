import numpy as np
import pytest

from fidle_jax.report.lessons.classification import (
    by_threshold,
    probabilities_of,
    roc_and_precision,
    two_by_two,
)
from fidle_jax.report.style import png

CURVE = (np.array([0, 0, 0.5, 1]), np.array([0, 0.8, 1, 1]))


def test_both_curves_are_named_and_the_first_models_threshold_is_marked_in_both_panels():
    models = {"network, AUC 0.9": CURVE, "no hidden layer, AUC 0.8": CURVE}
    figure = roc_and_precision(models, models, ((0.1, 0.8), (0.8, 0.7)))
    for axes, mark in zip(figure.axes, ((0.1, 0.8), (0.8, 0.7)), strict=True):
        named = [text.get_text() for text in axes.get_legend().get_texts()]
        assert named == list(models)
        (dot,) = (line for line in axes.lines if line.get_marker() == "o")
        assert (dot.get_xdata()[0], dot.get_ydata()[0]) == mark
    assert figure.axes[0].get_xlabel() == "false positive rate"
    assert figure.axes[1].get_ylabel() == "precision"
    assert png(figure).startswith(b"\x89PNG")


def test_thresholds_of_0_and_1_have_a_place_on_the_axis_of_log_odds():
    figure = by_threshold(
        np.array([0, 0.4, 1]),
        np.array([0.5, 0.7, 0.9, 1]),
        np.array([1, 0.8, 0.3, 0]),
        {"threshold 0.5": 0.5},
    )
    (axes,) = figure.axes
    assert axes.get_xscale() == "logit"
    precision, recall, threshold = axes.lines
    assert np.isfinite(axes.transData.transform(precision.get_xydata())).all()
    np.testing.assert_array_equal(precision.get_ydata(), [0.5, 0.5, 0.7, 0.9, 1])
    np.testing.assert_array_equal(recall.get_ydata(), [1, 1, 0.8, 0.3, 0])
    assert threshold.get_xdata()[0] == 0.5
    assert png(figure).startswith(b"\x89PNG")


def test_between_two_thresholds_all_is_as_at_the_upper_one():
    figure = by_threshold(np.array([0.2, 0.6]), np.array([0.5, 1, 1]), np.array([1, 0.5, 0]), {})
    assert {line.get_drawstyle() for line in figure.axes[0].lines} == {"steps-pre"}


def test_the_row_of_two_by_two_is_the_true_class_and_the_column_what_it_is_taken_for():
    counts = {"threshold 0.5": np.array([[70, 1], [3, 40]]), "threshold 0.1": np.zeros((2, 2), int)}
    figure = two_by_two(counts, ("benign", "malignant"))
    axes = figure.axes[0]
    places = {text.get_text(): text.get_position() for text in axes.texts}
    assert places == {"70": (0, 0), "1": (1, 0), "3": (0, 1), "40": (1, 1)}
    top, bottom = axes.get_ylim()[::-1]
    assert top < bottom
    assert [label.get_text() for label in axes.get_yticklabels()] == ["benign", "malignant"]


def test_no_mistake_at_all_is_drawn_too():
    figure = two_by_two({"threshold 0.5": np.diag([5, 5])}, ("benign", "malignant"))
    assert png(figure).startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def digits():
    chances = np.array([[0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
    return probabilities_of(np.zeros((3, 8, 8)), chances, np.array([0, 1, 2]), ("a", "b", "c"))


def test_what_an_example_is_wrongly_taken_for_is_hatched_and_nothing_else(digits):
    wrong, right = digits.axes[1], digits.axes[3]
    assert [bool(bar.get_hatch()) for bar in wrong.patches] == [False, True, False]
    assert not any(bar.get_hatch() for bar in right.patches)
    assert wrong.get_title() == "a, taken for b (70 %)"


def test_an_odd_number_of_examples_leaves_no_empty_panel(digits):
    assert [axes.get_visible() for axes in digits.axes] == [True] * 6 + [False] * 2
    assert png(digits).startswith(b"\x89PNG")
