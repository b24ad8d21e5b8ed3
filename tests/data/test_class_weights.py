"""Rare classes weigh more, by two published rules, and the mean example weighs 1."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from fidle_jax.data.class_weights import class_weights

LABELS = st.lists(st.integers(0, 5), min_size=1, max_size=300).map(np.array)


@given(LABELS, st.sampled_from(["inverse", "effective"]))
def test_the_mean_over_the_examples_is_one_and_rarer_classes_never_weigh_less(labels, kind):
    weights = class_weights(kind, labels, 6)
    assert weights[labels].mean() == pytest.approx(1)
    by_count = weights[np.argsort(np.bincount(labels, minlength=6))]
    assert (np.diff(by_count) <= 1e-12).all()


@given(LABELS)
def test_inverse_weights_are_those_of_scikit_learn(labels):
    present = np.unique(labels)
    expected = compute_class_weight("balanced", classes=present, y=labels)
    np.testing.assert_allclose(class_weights("inverse", labels, 6)[present], expected)


def test_effective_numbers_are_those_of_the_paper():
    labels = np.repeat([0, 1, 2], [10, 1000, 100_000])
    numbers = np.array([(1 - 0.999**n) / 0.001 for n in (10, 1000, 100_000)])
    weights = class_weights("effective", labels, 3)
    np.testing.assert_allclose(weights[0] / weights, numbers / numbers[0])
    assert weights[0] / weights[2] == pytest.approx(100, rel=0.01)  # no class counts as over 1,000


def test_a_class_without_examples_weighs_as_one_with_a_single_one():
    for kind in ("inverse", "effective"):
        weights = class_weights(kind, np.array([0, 0, 0, 1]), 3)
        assert weights[2] == weights[1] > weights[0]
