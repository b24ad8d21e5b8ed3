import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidle_jax.data.tables import DataTable, Parts
from fidle_jax.lessons.classification import (
    COMMONEST,
    NETWORK,
    Comparison,
    Decisions,
    cheapest_threshold,
    compare,
    decide,
    ranking,
    shares_right,
    sigmoid,
    softmax,
    standard_error,
    taken_for,
    telling_examples,
)
from fidle_jax.lessons.trial import Trial
from fidle_jax.nn import DNN
from fidle_jax.train.objectives import BINARY
from fidle_jax.train.step import Task

LABELS = np.array([0, 0, 1, 1, 1])
PROBABILITIES = np.array([0.1, 0.6, 0.4, 0.7, 0.9])


def test_a_threshold_of_one_half_misses_one_and_gives_one_false_alarm():
    found = decide(LABELS, PROBABILITIES)
    assert found == Decisions(2, 1, 1, 1)
    assert found.precision() == pytest.approx(2 / 3)
    assert found.recall() == pytest.approx(2 / 3)
    np.testing.assert_array_equal(found.table(), [[1, 1], [1, 2]])


def test_a_lower_threshold_finds_all():
    assert decide(LABELS, PROBABILITIES, 0.3) == Decisions(3, 1, 0, 1)


def test_precision_of_no_alarm_is_no_number():
    assert np.isnan(decide(LABELS, PROBABILITIES, 0.95).precision())


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1), st.floats(0, 1))
def test_every_example_is_counted_once_and_a_lower_threshold_never_misses_more(examples, threshold):
    labels, probabilities = map(np.array, zip(*examples, strict=True))
    found = decide(labels, probabilities, threshold)
    assert sum(found) == len(examples)
    assert decide(labels, probabilities, threshold / 2).false_negatives <= found.false_negatives


@given(st.floats(0.01, 1000))
def test_at_the_cheapest_threshold_an_alarm_costs_as_much_as_a_miss(cost):
    threshold = cheapest_threshold(cost)
    assert 1 - threshold == pytest.approx(threshold * cost)


def test_the_area_under_the_roc_curve_is_how_often_a_positive_is_above_a_negative():
    found = ranking(LABELS, PROBABILITIES)
    above = [p > n for p in PROBABILITIES[LABELS == 1] for n in PROBABILITIES[LABELS == 0]]
    assert found.auc == pytest.approx(np.mean(above))
    assert found.auc == pytest.approx(
        np.trapezoid(found.true_positive_rate, found.false_positive_rate)
    )


def test_precision_and_recall_are_those_at_each_threshold():
    found = ranking(LABELS, PROBABILITIES)
    for place, threshold in enumerate(found.thresholds):
        decided = decide(LABELS, PROBABILITIES, threshold - 1e-9)
        assert found.precision[place] == pytest.approx(decided.precision())
        assert found.recall[place] == pytest.approx(decided.recall())
    assert (found.precision[-1], found.recall[-1]) == (1, 0)


def test_a_sure_logit_is_not_rounded_to_1():
    assert 0 < 1 - sigmoid(np.float32([30]))[0] < 1e-12
    assert sigmoid(np.float32([0]))[0] == 0.5


def test_softmax_sums_to_1_however_large_the_logits():
    found = softmax(np.float32([[1000, 0, -1000], [2, 2, 2]]))
    np.testing.assert_allclose(found, [[1, 0, 0], [1 / 3] * 3])


def test_one_logit_is_class_1_above_0_and_of_several_the_highest_wins():
    assert taken_for(np.float32([[-0.1], [0.1]])).tolist() == [0, 1]
    assert taken_for(np.float32([[1, 3, 2], [5, 0, 0]])).tolist() == [1, 0]


def test_114_examples_of_which_97_percent_are_right_are_known_to_1_6_points():
    assert standard_error(0.97, 114) == pytest.approx(0.016, abs=5e-4)


def test_telling_examples_are_the_missed_the_doubtful_and_the_surest():
    probabilities = np.array([[0.99, 0.01], [0.01, 0.99], [0.55, 0.45], [0.2, 0.8]])
    labels = np.array([1, 1, 0, 1])
    assert telling_examples(labels, probabilities, each=1).tolist() == [0, 2, 1]


@given(st.integers(6, 30), st.integers(0, 1000))
def test_no_telling_example_is_there_twice(examples, seed):
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(3), examples)
    found = telling_examples(random.integers(0, 3, examples), probabilities, each=2)
    assert len(set(found)) == len(found) == 6


def test_shares_that_are_right_of_each_split():
    def split(outputs):
        trials = {NETWORK: Trial(np.float32(outputs)[:, None], {}, 1)}
        return Comparison(Parts(*[np.arange(4)] * 3), np.array([0, 0, 0, 1]), 0, trials)

    found = shares_right([split([-1, -1, 1, 1]), split([-1, -1, -1, 1])])
    assert list(found) == [COMMONEST, NETWORK]
    np.testing.assert_array_equal(found[COMMONEST], [0.75, 0.75])
    np.testing.assert_array_equal(found[NETWORK], [0.75, 1])


def test_two_heaps_are_told_apart_in_any_unit():
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], [60, 40]).astype(np.int32)
    centres = np.array([[0, 7000], [3, 4000]])[labels]
    features = (centres + random.normal(0, [0.3, 300], (100, 2))).astype(np.float32)
    table = DataTable("points", features, ("x", "y"), labels, "heap", class_names=("a", "b"))
    task = Task(DNN(classes=1, hidden=()), optax.adam(0.05), objective=BINARY)
    found = compare(table, {NETWORK: task}, epochs=15, batch_size=16, seed=0)
    assert found.commonest == 0
    np.testing.assert_array_equal(found.labels, labels[found.parts.test])
    assert shares_right([found])[NETWORK][0] == 1
