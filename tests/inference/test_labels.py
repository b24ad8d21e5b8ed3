"""Labels of images come from the names of their folders."""

import dataclasses
from pathlib import Path

import numpy as np

from fidle_jax.inference.labels import NO_LABEL, Label, find_labels, summarise


def labels_of(trained, *names):
    return find_labels(Path("d"), [Path("d") / name for name in names], trained)


def test_class_folders_are_labels_at_any_depth(trained):
    found = labels_of(trained, "7/a.png", "7/more/b.png", "cat/c.png", "d.png")
    assert found == [Label("7", 7, True)] * 2 + [Label("cat", None, False), NO_LABEL]


def test_without_a_class_folder_there_are_no_labels(trained):
    assert labels_of(trained, "cat/7.png", "7.png") == [NO_LABEL, NO_LABEL]


def test_only_the_test_split_counts_if_there_is_one(trained):
    found = labels_of(trained, "train/1/a.png", "Test/2/b.png")
    assert found == [Label("1", 1, False), Label("2", 2, True)]
    assert labels_of(trained, "train/1/a.png", "val/2/b.png")[1].counts


def test_names_match_in_any_encoding_of_accents(trained):
    names = ("caf\u00e9", *trained.class_names[1:])
    renamed = dataclasses.replace(trained, class_names=names)
    assert labels_of(renamed, "cafe\u0301/a.png")[0].index == 0


def test_signs_may_have_the_folders_of_the_archive(trained):
    signs = tuple(f"sign {i}" for i in range(43))
    config = trained.config.replace(dataset="24x24-L")
    found = labels_of(
        dataclasses.replace(trained, class_names=signs, config=config), "00042/a.ppm", "3/b.png"
    )
    assert [label.index for label in found] == [42, 3]


def test_the_summary_shows_a_small_matrix_or_the_commonest_confusions():
    names = [f"class {i}" for i in range(30)]
    few = [Label("", i, True) for i in (0, 0, 0, 1)]
    text = summarise(few, np.array([0, 2, 2, 1]), names)
    assert "accuracy: 50.00 % (2 of 4 images" in text
    matrix = [line.split()[2:] for line in text.splitlines() if line.startswith("class ")]
    assert matrix == [["1", "0", "2"], ["0", "1", "0"], ["0", "0", "0"]]
    many = [Label("", i, True) for i in range(30)]
    text = summarise(many, np.array([*range(28), 5, 5]), names)
    assert [line.split() for line in text.splitlines()[-2:]] == [
        ["class", "28", "class", "5", "1"],
        ["class", "29", "class", "5", "1"],
    ]
