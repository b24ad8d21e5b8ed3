"""GTSRB's archives are read in place, and what is wrong with a copy is named."""

import contextlib
import os
import re
import struct
import zlib
from pathlib import Path

import made_up_gtsrb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fidle_jax.data import gtsrb_archives as gtsrb
from fidle_jax.errors import InputError

OFFICIAL = Path(os.environ.get("FIDLE_JAX_ARCHIVES", "")).parent / "gtsrb"
FIRST = "GTSRB/Final_Training/Images/00000/00000_00000.ppm"
FIRST_TABLE = "GTSRB/Final_Training/Images/00000/GT-00000.csv"


@pytest.fixture
def archives(tmp_path, monkeypatch):
    """``archives(change)``: the folder of made-up archives, whose members ``change`` was given."""
    made_up_gtsrb.install(monkeypatch)

    def make(change=lambda members: None):
        members = made_up_gtsrb.members()
        change(members)
        made_up_gtsrb.write(tmp_path, members)
        return tmp_path

    return make


def read_all(folder, crop=False):
    """Every image of both splits."""
    images = {}
    for split, name in (("train", gtsrb.TRAIN_IMAGES), ("test", gtsrb.TEST_IMAGES)):
        photos = gtsrb.read_photos(folder, split)
        with gtsrb.open_archive(folder / name) as archive:
            images |= {photo.member: gtsrb.read_image(archive, photo, crop) for photo in photos}
    return images


def test_every_photograph_is_read_with_its_class_and_track(archives):
    photos = gtsrb.read_photos(archives(), "train")
    assert [(photo.label, photo.track) for photo in photos] == (
        [(0, 0)] * 30 + [(1, 0)] * 30 + [(1, 1)] * 29
    )
    assert (photos[0].member, photos[0].size) == (FIRST, (40, 32))
    test = gtsrb.read_photos(archives(), "test")
    assert [(photo.label, photo.member[-9:]) for photo in test] == [
        (0, "00001.ppm"),
        (0, "00002.ppm"),
        (1, "00000.ppm"),
    ]
    assert {photo.track for photo in test} == {None}


def test_images_are_those_that_were_written_and_the_region_is_scaled_with_the_copy(archives):
    folder = archives()
    expected = made_up_gtsrb.image((0, 0, 0))
    np.testing.assert_array_equal(read_all(folder)[FIRST], expected)
    # Columns 4 to 35 of 40 and rows 2 to 29 of 32, in a copy half as large.
    np.testing.assert_array_equal(read_all(folder, crop=True)[FIRST], expected[1:15, 2:18])


def _png(pixels):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width, _ = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = b"".join(b"\0" + line.tobytes() for line in pixels)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


CHANGES = {
    "no PPM": (FIRST, _png(made_up_gtsrb.image(0)), "is no whole PPM image"),
    "text": (FIRST, b"hello", "is no whole PPM image"),
    "truncated": (FIRST, made_up_gtsrb.ppm(made_up_gtsrb.image(0))[:-1], "is no whole PPM image"),
    "grey": (FIRST, b"P5 2 2 255\nabcd", "expected RGB"),
    "wide": (FIRST, b"P6 1001 1 255\n" + b"x" * 3003, "1001 x 1 pixels, expected at most 1000"),
    "a bomb": (FIRST, b"P6 99999 99999 255\n" + b"x", "00000_00000.ppm"),
    "a smaller bomb": (FIRST, b"P6 10000 10000 255\n" + b"x", "10000 x 10000 pixels, expected at"),
    "large": (FIRST, b"x" * (gtsrb.LARGEST_BYTES + 1), "bytes, expected at most"),
    "no columns": (FIRST_TABLE, b"Filename;Width\r\na;3\r\n", "lacks the columns Height, Roi.X1"),
    "no CSV": (FIRST_TABLE, b"\xff\xfe", "is no CSV"),
    "empty": (FIRST_TABLE, b"", "lacks the columns"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_member_that_is_wrong_is_named_with_its_archive(archives, what):
    member, content, named = CHANGES[what]
    folder = archives(lambda members: members[gtsrb.TRAIN_IMAGES].update({member: content}))
    with pytest.raises(InputError, match=named) as caught:
        read_all(folder)
    assert str(folder / gtsrb.TRAIN_IMAGES) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (";0\r\n", ";43\r\n", "is of class 43, expected 0 to 42"),
        (";0\r\n", ";-1\r\n", "is of class -1"),
        (";0\r\n", ";one\r\n", "the row of 00000_00000.ppm is not of whole numbers"),
        (";0\r\n", "\r\n", "row 1 has not as many values as there are columns"),
        (";0\r\n", ";0;0\r\n", "row 1 has not as many values as there are columns"),
        ("00000_00000.ppm", '"00000_00000.ppm', "00000_00000.ppm is not there"),
        (";0\r\n", ";0\r;\r\n", "is no CSV"),
        (";40;", ";0;", "region 4, 2 to 35, 29 of 0 x 32 pixels"),
        (";35;", ";40;", "region 4, 2 to 40, 29 of 40 x 32 pixels"),
        (";35;", ";3;", "region 4, 2 to 3, 29 of 40 x 32 pixels"),
        (";2;", ";-1;", "region 4, -1 to 35"),
        (";40;", f";{10**400};", "region 4, 2 to 35, 29 of 1000"),
        ("00000_00001.ppm", "00000_00000.ppm", "00000/00000_00000.ppm has two rows"),
        ("00000_00000.ppm", "00000_00030.ppm", "00000_00030.ppm is not there"),
        ("00000_00000.ppm;40;32;4;2;35;29;0\r\n", "", "29 images of class 0, track 0, expected 30"),
    ],
)
def test_a_row_that_is_wrong_is_named(archives, old, new, named):
    def change(members):
        table = members[gtsrb.TRAIN_IMAGES]
        table[FIRST_TABLE] = table[FIRST_TABLE].replace(old.encode(), new.encode(), 1)

    folder = archives(change)
    with pytest.raises(InputError, match=named) as caught:
        gtsrb.read_photos(folder, "train")
    assert str(folder / gtsrb.TRAIN_IMAGES) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_wrong_with_the_test_labels_names_their_archive_and_table(archives):
    def change(members):
        table = members[gtsrb.TEST_LABELS]
        table["GT-final_test.csv"] = table["GT-final_test.csv"].replace(b";1\r\n", b";43\r\n")

    folder = archives(change)
    named = f"{folder / gtsrb.TEST_LABELS}: GT-final_test.csv: 00000.ppm is of class 43"
    with pytest.raises(InputError, match=re.escape(named)):
        gtsrb.read_photos(folder, "test")


@pytest.mark.parametrize(
    "name", ["../evil.ppm", "/etc/evil.ppm", "a/../../evil.ppm", "a\\evil.ppm"]
)
def test_a_name_that_leads_out_of_the_archive_is_refused(archives, name):
    folder = archives(lambda members: members[gtsrb.TEST_IMAGES].update({name: b""}))
    with pytest.raises(InputError, match="leads out of it"):
        gtsrb.read_photos(folder, "test")


@pytest.mark.parametrize("name", [gtsrb.TRAIN_IMAGES, gtsrb.TEST_IMAGES, gtsrb.TEST_LABELS])
def test_an_archive_that_is_missing_or_cut_off_is_named(archives, name):
    path = archives() / name
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=f"{name}: truncated"):
        read_all(path.parent)
    path.unlink()
    with pytest.raises(InputError, match=f"{name} is missing"):
        read_all(path.parent)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="does not exist or is no folder"):
        gtsrb.read_photos(tmp_path / "nowhere", "train")


@given(where=st.floats(0, 1), byte=st.integers(1, 255))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_archive_is_read_as_it_was_or_refused(archives, where, byte):
    folder = archives()
    expected = read_all(folder)
    path = folder / gtsrb.TEST_IMAGES
    content = bytearray(path.read_bytes())
    content[int(where * (len(content) - 1))] ^= byte
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        for member, image in read_all(folder).items():
            np.testing.assert_array_equal(image, expected[member])


@pytest.mark.skipif(
    not (OFFICIAL / gtsrb.TRAIN_IMAGES).exists(),
    reason="no gtsrb beside the archives that FIDLE_JAX_ARCHIVES names",
)
def test_the_complete_set_has_the_benchmarks_classes_and_tracks():
    train, test = (gtsrb.read_photos(OFFICIAL, split) for split in ("train", "test"))
    assert (len(train), len(test)) == (39_209, 12_630)
    assert len({(photo.label, photo.track) for photo in train}) == 1307
    assert {photo.label for photo in test} == set(range(43))
