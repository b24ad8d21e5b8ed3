"""Classification on one split, thresholds and their costs, and the figures."""

import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logit

from fidle_jax.data.tables import DataTable, Parts
from fidle_jax.lessons import classification as lesson
from fidle_jax.lessons.classification import COMMONEST, LINEAR, NETWORK, Comparison
from fidle_jax.lessons.tables import Trial
from fidle_jax.nn import DNN
from fidle_jax.train.evaluation import BINARY
from fidle_jax.train.step import Task

LABELS = np.array([0, 0, 1, 1, 1])
PROBABILITIES = np.array([0.1, 0.6, 0.4, 0.7, 0.9])


def comparison(outputs, labels, names=(NETWORK,)):
    outputs = np.asarray(outputs, np.float32)
    trials = {name: Trial(outputs.reshape(len(labels), -1), {}, 1) for name in names}
    return Comparison(Parts(*[np.arange(len(labels))] * 3), np.asarray(labels), 0, trials)


FIVE = comparison(logit(PROBABILITIES), LABELS, (NETWORK, LINEAR))


@pytest.mark.parametrize(
    ("threshold", "counts"),
    [(0.5, [[1, 1], [1, 2]]), (0.3, [[1, 1], [0, 3]]), (0.95, [[2, 0], [3, 0]])],
)
def test_rows_of_the_counts_are_true_classes_and_columns_predictions(threshold, counts):
    np.testing.assert_array_equal(lesson.counts_at(FIVE, threshold), counts)


@given(
    st.lists(st.tuples(st.integers(0, 1), st.floats(-9, 9)), min_size=1), st.floats(1e-3, 1 - 1e-3)
)
def test_every_example_is_counted_once_and_a_lower_threshold_never_misses_more(examples, threshold):
    labels, logits = map(np.array, zip(*examples, strict=True))
    compared = comparison(logits, labels)
    counts = lesson.counts_at(compared, threshold)
    assert counts.sum() == len(examples)
    assert lesson.counts_at(compared, threshold / 2)[1, 0] <= counts[1, 0]


def test_a_confident_logit_is_not_rounded_to_probability_1():
    # In float32 the sigmoid of 30 is exactly 1.
    sure = comparison([30.0], [0])
    np.testing.assert_array_equal(lesson.counts_at(sure, 1 - 1e-12), [[0, 1], [0, 0]])
    np.testing.assert_array_equal(lesson.counts_at(sure, 1 - 1e-14), [[1, 0], [0, 0]])


def test_class_1_has_a_positive_logit_and_the_largest_of_several_logits_wins():
    assert comparison([-0.1, 0.1], [0, 0]).predicted().tolist() == [0, 1]
    assert comparison([[1, 3, 2], [5, 0, 0]], [0, 0]).predicted().tolist() == [1, 0]


def test_accuracies_are_those_of_each_split_beginning_with_the_most_frequent_class():
    splits = [comparison(each, [0, 0, 0, 1]) for each in ([-1, -1, 1, 1], [-1, -1, -1, 1])]
    found = lesson.accuracies(splits)
    assert list(found) == [COMMONEST, NETWORK]
    np.testing.assert_array_equal(found[COMMONEST], [0.75, 0.75])
    np.testing.assert_array_equal(found[NETWORK], [0.75, 1])


def test_two_clusters_are_classified_correctly_in_any_unit():
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], [60, 40]).astype(np.int32)
    centres = np.array([[0, 7000], [3, 4000]])[labels]
    features = (centres + random.normal(0, [0.3, 300], (100, 2))).astype(np.float32)
    table = DataTable("points", features, ("x", "y"), labels, "cluster", class_names=("a", "b"))
    task = Task(DNN(classes=1, hidden=()), optax.adam(0.05), objective=BINARY)
    found = lesson.compare(table, {NETWORK: task}, epochs=15, batch_size=16, seed=0)
    assert found.most_frequent == 0
    np.testing.assert_array_equal(found.labels, labels[found.parts.test])
    assert lesson.accuracies([found])[NETWORK][0] == 1


def test_both_curves_name_the_models_and_mark_the_networks_threshold():
    left, right = lesson.roc_figure(FIVE).axes
    for axes, score, mark in ((left, "AUC 0.833", (0.5, 2 / 3)), (right, "AP", (2 / 3, 2 / 3))):
        network, linear = (text.get_text() for text in axes.get_legend().get_texts())
        assert network.startswith(f"network, {score}")
        assert linear.startswith(f"no hidden layer, {score}")
        (dot,) = (line for line in axes.lines if line.get_marker() == "o")
        np.testing.assert_allclose(np.ravel(dot.get_data()), mark)
    assert left.get_xlabel() == "false positive rate"
    assert right.get_ylabel() == "precision"
