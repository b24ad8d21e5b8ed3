import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fidle_jax.report.scores import (
    class_scores,
    commonest_confusions,
    confusion_counts,
    group_errors,
    group_scores,
    worst_errors_of,
)

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60)


@given(PAIRS)
def test_counts_have_the_truth_in_rows(pairs):
    labels, predicted = np.array(pairs).T
    counts = confusion_counts(labels, predicted, 5)
    for true in range(5):
        for guess in range(5):
            assert counts[true, guess] == pairs.count((true, guess))


def test_scores_of_a_case_done_by_hand():
    labels = np.array([0, 0, 0, 0, 1, 1])
    predicted = np.array([0, 0, 0, 1, 1, 2])
    a, b, c = class_scores(labels, predicted, ["a", "b", "c"])
    assert a == ("a", 1.0, 0.75, 2 * 0.75 / 1.75, 4)
    assert b == ("b", 0.5, 0.5, 0.5, 2)
    assert c == ("c", 0.0, 0.0, 0.0, 0)


@given(PAIRS, st.integers(1, 30))
def test_the_commonest_confusions_are_errors_most_frequent_first(pairs, most):
    counts = confusion_counts(*np.array(pairs).T, 5)
    found = commonest_confusions(counts, most)
    kinds = {pair for pair in pairs if pair[0] != pair[1]}
    assert len(found) == min(most, len(kinds))
    assert all(true != guess and count == counts[true, guess] for true, guess, count in found)
    frequencies = [count for *_, count in found]
    assert frequencies == sorted(frequencies, reverse=True)


GROUP_OF_CLASS = np.array([1, 0, 1, 1, 3])  # the group 2 has no class


def test_group_scores_of_a_case_done_by_hand():
    labels = np.array([0, 0, 2, 3, 1, 1, 4])
    predicted = np.array([0, 2, 3, 1, 1, 0, 4])
    assert group_scores(labels, predicted, GROUP_OF_CLASS, list("abcd")) == [
        ("a", 1, 0.5, 0.5, 2),
        ("b", 3, 0.25, 0.75, 4),
        ("c", 0, 0.0, 0.0, 0),
        ("d", 1, 1.0, 1.0, 1),
    ]


@given(PAIRS)
def test_errors_by_group_are_the_confusions_of_their_classes_without_what_is_right(pairs):
    found = group_errors(*np.array(pairs).T, GROUP_OF_CLASS, 4)
    expected = np.zeros((4, 4), int)
    for true, guess in pairs:
        expected[GROUP_OF_CLASS[true], GROUP_OF_CLASS[guess]] += true != guess
    np.testing.assert_array_equal(found, expected)


def test_the_surest_errors_come_first_and_right_answers_never():
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.4, 0.6], [0.99, 0.01], [0.9, 0.1], [0.7, 0.3]])
    assert worst_errors_of(labels, probabilities, 10).tolist() == [2, 3, 0]
    assert worst_errors_of(labels, probabilities, 2).tolist() == [2, 3]


def test_no_errors_are_no_worst_errors():
    assert worst_errors_of(np.array([0, 1]), np.eye(2), 10).size == 0
