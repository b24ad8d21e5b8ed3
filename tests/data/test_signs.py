"""The tables of the signs agree with one another."""

from collections import Counter

import pytest

from fidle_jax.data import load_dataset
from fidle_jax.data.signs import GROUPS, MIRRORED, NAMES, mirror_table


def test_there_are_43_signs_each_with_a_name_of_its_own():
    assert len(set(NAMES)) == len(NAMES) == 43


def test_every_sign_is_in_one_group():
    assert Counter(label for group in GROUPS.values() for label in group) == Counter(range(43))


def test_the_mirror_image_of_the_mirror_image_is_the_sign_itself():
    assert {MIRRORED[other]: other for other in MIRRORED.values()} == MIRRORED
    assert set(MIRRORED) <= set(range(43))


def test_mirror_images_stay_within_their_group():
    group_of = {label: name for name, group in GROUPS.items() for label in group}
    assert all(group_of[label] == group_of[other] for label, other in MIRRORED.items())


@pytest.mark.parametrize(("one", "other"), [("left", "right"), ("right", "left")])
def test_what_names_a_side_becomes_the_same_of_the_other_side(one, other):
    sided = [label for label, name in enumerate(NAMES) if one in name]
    assert sided
    for label in sided:
        assert NAMES[MIRRORED[label]] == NAMES[label].replace(one, other)


def test_no_sign_with_digits_or_a_diagonal_bar_has_a_mirror_image():
    assert not [NAMES[label] for label in MIRRORED if "km/h" in NAMES[label]]
    assert not [NAMES[label] for label in MIRRORED if "end of" in NAMES[label]]


def test_the_table_has_an_entry_for_each_sign():
    table = mirror_table()
    assert len(table) == 43
    assert {label: other for label, other in enumerate(table) if other >= 0} == MIRRORED


def test_groups_have_the_sizes_and_the_order_of_the_benchmarks():
    assert [len(labels) for labels in GROUPS.values()] == [8, 4, 4, 8, 15, 4]


def test_a_set_of_signs_has_these_groups_and_mirror_images(tmp_path):
    dataset = load_dataset("24x24-L", archives=tmp_path, data_dir=tmp_path)
    assert dataset.class_groups == GROUPS
    assert dataset.mirrored == mirror_table()
