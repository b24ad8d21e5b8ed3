import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from fidle_jax.report.confusion import (
    class_scores,
    commonest_confusions,
    count_confusions,
    draw_confusion_matrix,
    group_scores,
    select_worst_errors,
)
from fidle_jax.train.run_content import Evaluation, Groups

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60)
GROUP_OF_CLASS = np.array([1, 0, 1, 1, 3])  # group 2 has no class


def data_of(labels, probabilities):
    names = [f"class {k}" for k in range(probabilities.shape[1])]
    images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    return Evaluation(images, np.array(labels), probabilities, names)


@given(PAIRS)
def test_the_most_frequent_confusions_come_first(pairs):
    labels, predicted = np.array(pairs).T
    counts = count_confusions(data_of(labels, np.eye(5)[predicted]))
    assert counts.sum() == len(pairs)
    assert all(counts[pair] == pairs.count(pair) for pair in pairs)
    found = commonest_confusions(counts, 3)
    assert all(true != guess and count == counts[true, guess] for true, guess, count in found)
    frequencies = [count for *_, count in found]
    assert frequencies == sorted(frequencies, reverse=True)
    assert len(found) == min(3, np.count_nonzero(counts - np.diag(np.diag(counts))))


def test_scores_of_classes_in_an_example_by_hand():
    scores = class_scores(np.array([[3, 1, 0], [0, 1, 1], [0, 0, 0]]))
    expected = [[1.0, 0.75, 1.5 / 1.75, 4], [0.5, 0.5, 0.5, 2], [0, np.nan, np.nan, 0]]
    assert list(scores) == ["precision", "recall", "f1", "support"]
    np.testing.assert_allclose(np.stack(list(scores.values()), axis=1), expected)


@given(PAIRS)
def test_scores_of_classes_agree_with_scikit_learn(pairs):
    labels, predicted = np.array(pairs).T
    counts = count_confusions(data_of(labels, np.eye(5)[predicted]))
    np.testing.assert_array_equal(
        counts, metrics.confusion_matrix(labels, predicted, labels=range(5))
    )
    expected = metrics.precision_recall_fscore_support(
        labels, predicted, labels=range(5), zero_division=np.nan
    )
    expected[2][expected[3] == 0] = np.nan
    np.testing.assert_allclose(list(class_scores(counts).values()), expected)


def test_scores_of_groups_in_an_example_by_hand():
    data = data_of([0, 0, 2, 3, 1, 1, 4], np.eye(5)[[0, 2, 3, 1, 1, 0, 4]])
    scores = group_scores(count_confusions(data), Groups(list("abcd"), GROUP_OF_CLASS))
    assert {name: column.tolist() for name, column in scores.items()} == {
        "classes": [1, 3, 0, 1],
        "accuracy": [0.5, 0.25, pytest.approx(np.nan, nan_ok=True), 1],
        "group_accuracy": [0.5, 0.75, pytest.approx(np.nan, nan_ok=True), 1],
        "support": [2, 4, 0, 1],
    }


def test_the_most_confident_errors_come_first():
    probabilities = np.array([[0.4, 0.6], [0.99, 0.01], [0.9, 0.1], [0.7, 0.3]])
    data = data_of([0, 0, 1, 1], probabilities)
    assert select_worst_errors(data, 10).images.ravel().tolist() == [2, 3, 0]
    assert select_worst_errors(data, 2).images.ravel().tolist() == [2, 3]
    assert len(select_worst_errors(data_of([0, 1], np.eye(2)), 10).labels) == 0


def counts_of(classes):
    counts = 1000 * np.eye(classes, dtype=int)
    counts[0, 1] = 7
    return counts


def names_of(classes, name="class {}"):
    return [name.format(i) for i in range(classes)]


def written(axes):
    return {text.get_position(): text.get_text() for text in axes.texts}


def test_cells_have_their_counts_and_the_colour_scale_is_that_of_the_errors():
    axes = draw_confusion_matrix(counts_of(3), names_of(3)).axes[0]
    assert written(axes) == {(0, 0): "1000", (1, 1): "1000", (2, 2): "1000", (1, 0): "7"}
    assert axes.get_images()[1].get_clim() == (0, 7)


def test_a_single_error_among_many_is_visible():
    counts = counts_of(3)
    counts[2, 0] = 10_000
    shades = draw_confusion_matrix(counts, names_of(3)).axes[0].get_images()[1]
    assert np.abs(np.array(shades.to_rgba(7)[:3]) - 1).max() > 0.2


@pytest.mark.parametrize("classes", [1, 4])
def test_without_errors_there_is_no_colour_bar(classes):
    assert len(draw_confusion_matrix(np.eye(classes, dtype=int), names_of(classes)).axes) == 1


@pytest.mark.parametrize(("classes", "step"), [(43, 1), (100, 2)])
def test_many_classes_have_colours_without_counts_and_some_names(classes, step):
    names = names_of(classes, "{} no overtaking by trucks")
    axes = draw_confusion_matrix(counts_of(classes), names).axes[0]
    assert not axes.texts
    assert [label.get_text() for label in axes.get_yticklabels()] == names[::step]


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("name", ["{}", "{} end of the limit of speed for vehicles over 3.5 tons"])
def test_nothing_is_cut_off(classes, name):
    figure = draw_confusion_matrix(counts_of(classes), names_of(classes, name))
    figure.draw_without_rendering()
    axes = figure.axes[0]
    for label in (axes.yaxis.label, axes.xaxis.label, *axes.get_yticklabels()):
        box = label.get_window_extent().transformed(figure.transFigure.inverted())
        assert box.x0 >= 0
        assert box.y0 >= 0
