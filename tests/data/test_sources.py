"""Folders of images: layouts, links, foreign files, and class names that cannot be used."""

import os
import shutil
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidle_jax.data import sources
from fidle_jax.data.sources import check_classes, find_source, sort_naturally
from fidle_jax.errors import InputError
from tests.data.own_files import make_classes, save


def _classes(path):
    return check_classes(path, find_source(path))


def test_the_folders_are_the_classes_in_natural_order(tmp_path):
    make_classes(tmp_path, ("sign 10", "sign 2", "日本 $x <i>"))
    assert _classes(tmp_path) == ("sign 2", "sign 10", "日本 $x <i>")


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_numbers_in_names_are_sorted_by_value(numbers):
    assert sort_naturally(f"x{n}.png" for n in numbers) == [f"x{n}.png" for n in sorted(numbers)]


@given(st.lists(st.text(max_size=6)))
def test_any_names_can_be_sorted(names):
    assert sorted(sort_naturally(names)) == sorted(names)
    assert sort_naturally(reversed(names)) == sort_naturally(names)


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("train", "val", "test"), ("train", "validation", "test")),
        (("Training", "Validation", "Testing"), ("train", "validation", "test")),
        (("train",), ("train",)),
    ],
)
def test_the_folders_of_splits_are_recognized(tmp_path, names, splits):
    for name in names:
        make_classes(tmp_path / name)
    source = find_source(tmp_path)
    assert tuple(source.splits) == splits
    assert check_classes(tmp_path, source) == ("ant", "bee")


def test_other_folders_next_to_splits_are_ignored_and_named(tmp_path):
    for name in ("train", "test", "notes"):
        make_classes(tmp_path / name)
    source = find_source(tmp_path)
    assert check_classes(tmp_path, source) == ("ant", "bee")
    assert source.ignored == [f"{tmp_path / 'notes'}: no split"]


def test_a_class_may_be_named_train(tmp_path):
    assert _classes(make_classes(tmp_path, ("car", "train"))) == ("car", "train")


def test_a_test_folder_without_classes_is_ignored(tmp_path):
    make_classes(tmp_path / "train")
    save(tmp_path / "test" / "1.png")
    source = find_source(tmp_path)
    assert list(source.splits) == ["train"]
    assert source.ignored == [f"{tmp_path / 'test'}: no class folders"]


def test_images_in_subfolders_belong_to_the_class_above(tmp_path):
    make_classes(tmp_path)
    save(tmp_path / "ant" / "2024" / "may" / "x.JPEG")
    assert find_source(tmp_path).splits["train"].labels.count("ant") == 5


def test_foreign_files_are_named_and_system_files_do_not_count(tmp_path):
    make_classes(tmp_path)
    for name in ("ant/notes.txt", "ant/._0.png", "ant/Thumbs.db", ".DS_Store"):
        (tmp_path / name).write_bytes(b"x")
    os.mkfifo(tmp_path / "ant" / "pipe.png")
    os.symlink("/dev/zero", tmp_path / "ant" / "zero.png")
    os.symlink("nowhere", tmp_path / "ant" / "gone.png")
    save(tmp_path / "top.png")
    source = find_source(tmp_path)
    assert [each.removeprefix(f"{tmp_path}/") for each in source.skipped] == [
        "top.png: in no class folder",
        "ant/gone.png: not a file",
        "ant/notes.txt: not the name of an image",
        "ant/pipe.png: not a file",
        "ant/zero.png: not a file",
    ]
    assert len(source.ignored) == 3
    assert len(source.splits["train"].labels) == 8


def test_each_folder_is_listed_once_although_links_form_loops(tmp_path):
    make_classes(tmp_path)
    for i in range(40):  # 2^40 paths lead to the last folder
        (tmp_path / "ant" / f"{i}").mkdir()
        if i:
            for name in ("x", "y"):
                os.symlink(tmp_path / "ant" / f"{i}", tmp_path / "ant" / f"{i - 1}" / name)
    os.symlink(tmp_path, tmp_path / "bee" / "up")
    os.symlink(tmp_path / "bee", tmp_path / "ant" / "bee")
    os.symlink(tmp_path / "ant", tmp_path / "bee" / "ant")
    source = find_source(tmp_path)
    assert len(source.splits["train"].labels) == 8
    assert sum("already used" in each for each in source.skipped) == 78 + 3


def test_class_folders_may_be_links(tmp_path):
    make_classes(tmp_path / "real")
    for name in ("ant", "bee"):
        (tmp_path / "links").mkdir(exist_ok=True)
        os.symlink(tmp_path / "real" / name, tmp_path / "links" / name)
    assert len(find_source(tmp_path / "links").splits["train"].labels) == 8


def _empty(path):
    pass


def _flat(path):
    save(path / "1.png")


def _one_class(path):
    make_classes(path, ("ant",))


def _empty_class(path):
    make_classes(path)
    (path / "cat").mkdir()
    (path / "cat" / ".DS_Store").write_bytes(b"")


def _case(path):
    make_classes(path, ("Ant", "ant"))


def _accents(path):
    make_classes(path, ("é", unicodedata.normalize("NFD", "é")))


def _newline(path):
    make_classes(path, ("a\nb", "c"))


def _not_utf8(path):
    make_classes(path)
    os.rename(path / "ant", os.fsencode(path) + b"/\xff")


def _new_in_test(path):
    make_classes(path / "train")
    make_classes(path / "test", ("ant", "cat"))


def _no_train(path):
    make_classes(path / "test")
    make_classes(path / "val")


def _twice(path):
    for name in ("train", "val", "valid"):
        make_classes(path / name)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_empty, "no class folders with images"),
        (_flat, "no class folders with images"),
        (_one_class, "only the class 'ant'; expected at least two"),
        (_empty_class, "class folder .*cat is empty"),
        (_case, "'Ant' and 'ant' .* differ only in case"),
        (_accents, "encoding of accents"),
        (_newline, r"'a\\\\nb' .* control characters"),
        (_not_utf8, "is not UTF-8"),
        (_new_in_test, "test split .* the class 'cat', which has no training images"),
        (_no_train, "expected train"),
        (_twice, "expected train"),
    ],
)
def test_folders_that_cannot_be_used_are_refused_in_one_line(tmp_path, make, message):
    path = tmp_path / "images"
    path.mkdir()
    make(path)
    with pytest.raises(InputError, match=message) as caught:
        _classes(path)
    assert "\n" not in str(caught.value)


def test_too_many_classes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_CLASSES", 3)
    make_classes(tmp_path, "abcd", 1)
    with pytest.raises(InputError, match="has 4 classes; expected at most 3"):
        _classes(tmp_path)


@pytest.mark.parametrize("name", ["missing", "x" * 5000, "not utf-8 \udcff"])
def test_a_path_that_cannot_be_read_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"does not exist|cannot be read"):
        find_source(tmp_path / name)


def test_an_archive_or_a_pipe_is_refused_with_advice(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match="unpack it"):
        find_source(tmp_path / "x.zip")
    os.mkfifo(tmp_path / "p.csv")
    with pytest.raises(InputError, match="not a regular file"):
        find_source(tmp_path / "p.csv")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_folder_without_permissions_is_refused(tmp_path):
    make_classes(tmp_path)
    (tmp_path / "ant").chmod(0)
    with pytest.raises(InputError, match="Permission denied; check its permissions"):
        find_source(tmp_path)
    (tmp_path / "ant").chmod(0o700)
    shutil.rmtree(tmp_path / "ant")


def test_regions_need_a_table(tmp_path):
    make_classes(tmp_path)
    with pytest.raises(InputError, match=r"--crop is roi, but .* has no regions"):
        find_source(tmp_path, regions=True)
