"""Splits are stratified, grouped and reproducible. Class weights follow two published rules."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from fidle_jax.data import stratified_split
from fidle_jax.data.dataset import class_weights
from fidle_jax.errors import InputError

LABELS = st.lists(st.integers(0, 5), min_size=1, max_size=200).map(np.array)
FRACTIONS = st.floats(0, 0.9)
SEEDS = st.integers(0, 2**80)
GROUPED = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=1, max_size=150)


@given(LABELS, FRACTIONS, SEEDS)
def test_every_class_is_held_out_by_its_share_and_keeps_an_example(labels, fraction, seed):
    shares = np.round(fraction * np.bincount(labels))
    assume(fraction == 0 or (shares[np.bincount(labels) > 1] > 0).any())
    train, validation = stratified_split(labels, fraction, seed)
    assert (np.sort(np.concatenate([train, validation])) == np.arange(len(labels))).all()
    assert (np.diff(train) > 0).all()
    assert (np.diff(validation) > 0).all()
    for label in np.unique(labels):
        members = (labels == label).sum()
        held_out = (labels[validation] == label).sum()
        assert (labels[train] == label).any()
        assert held_out == min(round(fraction * members), members - 1)


def test_a_split_depends_on_the_seed_and_not_on_global_state():
    labels = np.arange(1000) % 10
    np.random.seed(1)
    first = stratified_split(labels, 0.1, 3)[1]
    np.random.seed(2)
    assert (first == stratified_split(labels.astype(np.uint8), 0.1, 3)[1]).all()
    assert (first != stratified_split(labels, 0.1, 4)[1]).any()


def test_splits_are_equal_to_those_of_earlier_versions():
    labels, groups = np.arange(40) % 2, np.arange(40) // 4
    assert stratified_split(labels, 0.2, 0)[1].tolist() == [4, 6, 9, 15, 21, 22, 26, 37]
    held_out = stratified_split(labels, 0.2, 0, groups)[1].tolist()
    assert held_out == [8, 10, 12, 14, 17, 19, 29, 31]


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 2, float("nan")])
def test_a_fraction_outside_its_range_is_named(fraction):
    with pytest.raises(InputError, match=rf"fraction {fraction} is not in \[0, 1\)"):
        stratified_split(np.zeros(10, int), fraction, 0)


def test_a_fraction_that_holds_nothing_out_is_named():
    with pytest.raises(InputError, match="of 10 examples holds out no example; use a larger"):
        stratified_split(np.zeros(10, int), 0.01, 0)
    with pytest.raises(InputError, match="holds out no example; no class has two groups; use 0"):
        stratified_split(np.arange(10), 0.3, 0, np.arange(10))


def test_a_negative_seed_is_named():
    with pytest.raises(InputError, match="seed is -1; it must be an integer of at least 0"):
        stratified_split(np.zeros(10, int), 0.5, -1)


@given(GROUPED, st.just(0) | st.floats(0.01, 0.9), SEEDS)
def test_no_group_is_on_both_sides_and_every_class_is_on_each(pairs, fraction, seed):
    labels, groups = np.array(pairs).T
    of_class = {label: np.unique(groups[labels == label]) for label in np.unique(labels)}
    assume(fraction == 0 or any(len(members) > 1 for members in of_class.values()))
    train, validation = stratified_split(labels, fraction, seed, groups)
    assert (np.sort(np.concatenate([train, validation])) == np.arange(len(labels))).all()
    sides = [{pairs[i] for i in side} for side in (train, validation)]
    assert not sides[0] & sides[1]
    for label, members in of_class.items():
        held_out = len({group for of, group in sides[1] if of == label})
        least = 1 if fraction else 0
        assert held_out == min(max(round(fraction * len(members)), least), len(members) - 1)


def test_a_grouped_split_depends_on_the_seed():
    labels, groups = np.repeat(np.arange(5), 40), np.tile(np.repeat(np.arange(10), 4), 5)
    first, again, other = (stratified_split(labels, 0.3, seed, groups)[1] for seed in (1, 1, 2))
    assert (first == again).all()
    assert len(first) == len(other) == 60
    assert (first != other).any()


@given(LABELS, st.sampled_from(["inverse", "effective"]))
def test_class_weights_average_to_one_and_rarer_classes_never_weigh_less(labels, kind):
    weights = class_weights(kind, labels, 6)
    assert weights[labels].mean() == pytest.approx(1)
    by_count = weights[np.argsort(np.bincount(labels, minlength=6))]
    assert (np.diff(by_count) <= 1e-12).all()


@given(LABELS)
def test_inverse_weights_equal_those_of_scikit_learn(labels):
    present = np.unique(labels)
    expected = compute_class_weight("balanced", classes=present, y=labels)
    np.testing.assert_allclose(class_weights("inverse", labels, 6)[present], expected)


def test_effective_numbers_equal_those_of_the_paper():
    labels = np.repeat([0, 1, 2], [10, 1000, 100_000])
    numbers = np.array([(1 - 0.999**n) / 0.001 for n in (10, 1000, 100_000)])
    weights = class_weights("effective", labels, 3)
    np.testing.assert_allclose(weights[0] / weights, numbers / numbers[0])
    assert weights[0] / weights[2] == pytest.approx(100, rel=0.01)  # at most 1,000 per class


@pytest.mark.parametrize("kind", ["inverse", "effective"])
def test_a_class_without_examples_weighs_as_much_as_one_with_a_single_example(kind):
    weights = class_weights(kind, np.array([0, 0, 0, 1]), 3)
    assert weights[2] == weights[1] > weights[0]


def test_groups_of_different_sizes_hold_out_about_the_fraction_of_the_examples():
    sizes = np.random.default_rng(0).integers(1, 40, 60)
    groups = np.repeat(np.arange(60), sizes)
    for seed in range(20):
        train, held_out = stratified_split(np.zeros(len(groups), int), 0.2, seed, groups)
        assert not set(groups[train]) & set(groups[held_out])
        assert abs(len(held_out) / len(groups) - 0.2) < 0.02
