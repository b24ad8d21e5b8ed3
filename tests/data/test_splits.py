import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fidle_jax.data import grouped_split, stratified_split
from fidle_jax.data.splits import check_seed
from fidle_jax.errors import InputError

LABELS = st.lists(st.integers(0, 5), min_size=1, max_size=200).map(np.array)
FRACTIONS = st.floats(0, 0.9)
SEEDS = st.integers(0, 2**80)


def _parts(labels, fraction, seed):
    shares = np.round(fraction * np.bincount(labels))
    assume(fraction == 0 or (shares[np.bincount(labels) > 1] > 0).any())
    return stratified_split(labels, fraction, seed)


@given(LABELS, FRACTIONS, SEEDS)
def test_every_example_is_in_exactly_one_part_in_ascending_order(labels, fraction, seed):
    train, validation = _parts(labels, fraction, seed)
    assert (np.sort(np.concatenate([train, validation])) == np.arange(len(labels))).all()
    assert (np.diff(train) > 0).all()
    assert (np.diff(validation) > 0).all()


@given(LABELS, FRACTIONS, SEEDS)
def test_every_class_gives_its_share_and_keeps_an_example(labels, fraction, seed):
    train, validation = _parts(labels, fraction, seed)
    for label in np.unique(labels):
        members = (labels == label).sum()
        held_out = (labels[validation] == label).sum()
        assert (labels[train] == label).any()
        assert held_out == min(round(fraction * members), members - 1)


@given(LABELS, SEEDS)
def test_a_fraction_of_zero_holds_nothing_out(labels, seed):
    train, validation = stratified_split(labels, 0, seed)
    assert len(train) == len(labels)
    assert len(validation) == 0


def test_the_split_depends_on_the_seed_and_not_on_global_state():
    labels = np.arange(1000) % 10
    np.random.seed(1)
    first = stratified_split(labels, 0.1, 3)[1]
    np.random.seed(2)
    assert (first == stratified_split(labels.astype(np.uint8), 0.1, 3)[1]).all()
    assert (first != stratified_split(labels, 0.1, 4)[1]).any()


def test_the_split_stays_what_it_was_in_earlier_versions():
    assert stratified_split(np.arange(40) % 2, 0.2, 0)[1].tolist() == [4, 6, 9, 15, 21, 22, 26, 37]


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 2, float("nan")])
def test_a_fraction_outside_its_range_is_named(fraction):
    with pytest.raises(InputError, match=rf"fraction {fraction} is not in \[0, 1\)"):
        stratified_split(np.zeros(10, int), fraction, 0)


def test_a_fraction_that_holds_nothing_out_is_named():
    with pytest.raises(InputError, match="of 10 examples holds none out"):
        stratified_split(np.zeros(10, int), 0.01, 0)


@pytest.mark.parametrize("seed", [-1, 0.5, "0"])
def test_a_seed_that_is_no_whole_number_is_named(seed):
    with pytest.raises(InputError, match="is not a whole number of at least 0"):
        check_seed(seed)


GROUPED = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=1, max_size=150)


def _groups_of(pairs):
    labels, groups = np.array(pairs).T
    return (
        labels,
        groups,
        {label: np.unique(groups[labels == label]) for label in np.unique(labels)},
    )


@given(GROUPED, st.floats(0.01, 0.9), SEEDS)
def test_no_group_stands_on_both_sides_and_every_class_on_each(pairs, fraction, seed):
    labels, groups, of_class = _groups_of(pairs)
    assume(any(len(members) > 1 for members in of_class.values()))
    train, validation = grouped_split(labels, groups, fraction, seed)
    assert (np.sort(np.concatenate([train, validation])) == np.arange(len(labels))).all()
    sides = [{pairs[i] for i in side} for side in (train, validation)]
    assert not sides[0] & sides[1]
    for label, members in of_class.items():
        held_out = len({group for of, group in sides[1] if of == label})
        assert held_out == min(max(round(fraction * len(members)), 1), len(members) - 1)


@given(GROUPED, SEEDS)
def test_a_grouped_fraction_of_zero_holds_nothing_out(pairs, seed):
    labels, groups, _ = _groups_of(pairs)
    train, validation = grouped_split(labels, groups, 0, seed)
    assert (len(train), len(validation)) == (len(labels), 0)


def test_a_grouped_split_depends_on_the_seed_and_is_refused_where_it_can_hold_none_out():
    labels, groups = np.repeat(np.arange(5), 40), np.tile(np.repeat(np.arange(10), 4), 5)
    first, again, other = (grouped_split(labels, groups, 0.3, seed)[1] for seed in (1, 1, 2))
    assert (first == again).all()
    assert len(first) == len(other) == 60
    assert (first != other).any()
    with pytest.raises(InputError, match="no class has two groups"):
        grouped_split(labels, labels, 0.3, 0)
    with pytest.raises(InputError, match="is not in"):
        grouped_split(labels, groups, 1.0, 0)
