"""The signs' groups and mirror images fit the signs there are."""

from fidle_jax.data import load_dataset
from fidle_jax.data.signs import GROUPS, MIRRORED, NAMES, mirror_table


def test_each_class_is_in_one_group():
    assert sorted(label for labels in GROUPS.values() for label in labels) == list(range(43))
    assert len(set(NAMES)) == 43


def test_groups_have_the_sizes_and_the_order_of_the_benchmarks():
    assert [len(labels) for labels in GROUPS.values()] == [8, 4, 4, 8, 15, 4]


def test_the_mirror_image_of_a_mirror_image_is_the_sign():
    assert all(MIRRORED[MIRRORED[label]] == label for label in MIRRORED)


def test_the_table_has_minus_one_where_there_is_no_mirror_image():
    assert mirror_table()[38:40] == (39, 38)
    assert mirror_table()[0] == -1
    assert len(mirror_table()) == 43


def test_a_set_of_signs_has_these_groups_and_mirror_images(tmp_path):
    dataset = load_dataset("24x24-L", archives=tmp_path, data_dir=tmp_path)
    assert dataset.class_groups == GROUPS
    assert dataset.mirrored == mirror_table()
