"""The sets of traffic signs are prepared from the published archives or copies of them, and read back."""

import hashlib
import logging
import os

import numpy as np
import pytest

from fidle_jax.data import gtsrb, gtsrb_archives, prepared
from fidle_jax.data.gtsrb_archives import open_archive
from fidle_jax.data.signs import GROUPS, MIRRORED, treat
from fidle_jax.errors import InputError
from tests.data import small_gtsrb

NAME = "24x24-RGB"
MEMBER = "GTSRB/Final_Training/Images/00001/00000_00020.ppm"
TABLE = "GTSRB/Final_Training/Images/00001/GT-00001.csv"


def _checksums(folder):
    return {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in gtsrb.MD5}


@pytest.mark.parametrize(("name", "size", "treatment"), [(NAME, 24, "RGB"), ("32x32-L", 32, "L")])
def test_prepared_signs_are_read_back_with_classes_and_tracks(
    sign_archives, tmp_path, name, size, treatment
):
    def expected(*frames):
        return np.stack([treat(small_gtsrb.image(frame), size, treatment) for frame in frames])

    gtsrb.prepare(name, tmp_path, lambda: sign_archives)
    signs = gtsrb.load_gtsrb(name, tmp_path)
    train, test = signs.read("train"), signs.read("test")
    frames = [(c, t, k) for c, t, n in ((0, 0, 30), (1, 0, 30), (1, 1, 29)) for k in range(n)]
    np.testing.assert_array_equal(train.images, expected(*frames))
    assert train.images.shape[1:] == signs.image_shape
    assert train.labels.tolist() == [0] * 30 + [1] * 59
    assert train.groups.tolist() == [0] * 60 + [1] * 29
    np.testing.assert_array_equal(test.images, expected((9, 1), (9, 2), (9, 0)))
    assert test.labels.tolist() == [0, 0, 1]
    assert test.groups is None
    assert (signs.train_examples, signs.test_examples) == (89, 3)
    assert (signs.class_groups, signs.mirrored) == (GROUPS, MIRRORED)


def test_the_region_of_interest_is_a_set_of_its_own(sign_archives, tmp_path):
    gtsrb.prepare(NAME, tmp_path, lambda: sign_archives, crop="roi")
    assert not prepared.is_prepared(gtsrb.open_set(NAME, tmp_path))
    read = gtsrb.load_gtsrb(NAME, tmp_path, crop="roi").read("train").images
    cropped = small_gtsrb.image((0, 0, 0))[1:15, 2:18]
    np.testing.assert_array_equal(read[0], treat(cropped, 24, "RGB"))


def test_data_with_other_classes_or_tracks_is_not_read(sign_archives, tmp_path, monkeypatch):
    gtsrb.prepare(NAME, tmp_path, lambda: sign_archives)
    monkeypatch.setattr(gtsrb_archives, "SHORT_TRACK", (1, 0))
    with pytest.raises(InputError, match="is damaged"):
        gtsrb.load_gtsrb(NAME, tmp_path).read("train")


def test_reading_prepares_first_and_is_silent_without_a_terminal(
    sign_archives, tmp_path, capfd, monkeypatch
):
    monkeypatch.setattr(gtsrb, "MD5", _checksums(sign_archives))
    assert len(gtsrb.load_gtsrb(NAME, tmp_path, sign_archives).read("test").labels) == 3
    assert capfd.readouterr() == ("", "")


def test_copies_cause_one_line_of_warning_and_the_published_files_none(
    sign_archives, tmp_path, monkeypatch, caplog
):
    assert gtsrb.find_archives(sign_archives, tmp_path) == sign_archives
    (warning,) = caplog.records
    assert (warning.name, warning.levelno) == ("fidle_jax", logging.WARNING)
    assert all(name in warning.getMessage() for name in gtsrb.MD5)
    assert "\n" not in warning.getMessage()
    caplog.clear()
    monkeypatch.setattr(gtsrb, "MD5", _checksums(sign_archives))
    gtsrb.find_archives(sign_archives, tmp_path)
    assert caplog.records == []


def test_the_archives_are_downloaded_once_if_none_are_given(
    sign_archives, tmp_path, serve, monkeypatch, caplog
):
    monkeypatch.setattr(gtsrb, "URL", serve(sign_archives))
    monkeypatch.setattr(gtsrb, "MD5", _checksums(sign_archives))
    data_dir = tmp_path / "data"
    assert len(gtsrb.load_gtsrb(NAME, data_dir).read("train").labels) == 89
    assert caplog.records == []
    for path in sign_archives.iterdir():
        path.unlink()
    gtsrb.load_gtsrb("24x24-L", data_dir).read("test")


def _damage(folder):
    """Overwrite compressed bytes of a member, so that its checksum is wrong."""
    path = folder / gtsrb_archives.TRAIN_IMAGES
    with open_archive(path) as archive:
        start = archive.getinfo(MEMBER).header_offset + 30 + len(MEMBER)
    content = bytearray(path.read_bytes())
    content[start + 50 : start + 60] = bytes(10)
    path.write_bytes(content)


def _rewrite(change):
    def damage(folder):
        members = small_gtsrb.members()
        change(members[gtsrb_archives.TRAIN_IMAGES])
        small_gtsrb.write(folder, members)

    return damage


FAULTS = {
    "damaged": (_damage, rf"{MEMBER} is damaged"),
    "text": (_rewrite(lambda m: m.update({MEMBER: b"text"})), rf"{MEMBER} is not a complete PPM"),
    "missing": (_rewrite(lambda m: m.pop(MEMBER)), rf"{MEMBER} is missing"),
    "no table": (_rewrite(lambda m: m.pop(TABLE)), "0 images of class 1, track 0, expected 30"),
    "unsafe": (_rewrite(lambda m: m.update({"../x": b""})), "contains the unsafe name"),
    "truncated": (
        lambda folder: os.truncate(folder / gtsrb_archives.TRAIN_IMAGES, 5000),
        "is truncated or not a zip file",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_archives_is_one_line_and_leaves_no_files(
    sign_archives, tmp_path, monkeypatch, fault
):
    damage, named = FAULTS[fault]
    damage(sign_archives)
    monkeypatch.setattr(gtsrb_archives, "CHUNK", 4)  # tasks are submitted while results arrive
    with pytest.raises(InputError, match=named) as caught:
        gtsrb.prepare(NAME, tmp_path / "data", lambda: sign_archives)
    assert str(sign_archives / gtsrb_archives.TRAIN_IMAGES) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not prepared.is_prepared(gtsrb.open_set(NAME, tmp_path / "data"))
    files = (path.name for path in (tmp_path / "data").rglob("*") if path.is_file())
    assert set(files) <= {"metadata.json"}  # in which TFDS records where data came from


@pytest.mark.slow
def test_the_complete_set_is_prepared_and_read(official_archives, tmp_path):
    gtsrb.prepare("24x24-L", tmp_path, lambda: official_archives("gtsrb"))
    signs = gtsrb.load_gtsrb("24x24-L", tmp_path)
    assert signs.read("train").images.shape == (39_209, 24, 24, 1)
    assert signs.read("test").images.shape == (12_630, 24, 24, 1)
