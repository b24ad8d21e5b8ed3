"""The sets of traffic signs are prepared whole or not at all, and read back as they were."""

import os
from pathlib import Path

import made_up_gtsrb
import numpy as np
import pytest

from fidle_jax.data import Split, gtsrb, gtsrb_archives
from fidle_jax.data.treatments import treat
from fidle_jax.errors import InputError

NAME = "24x24-RGB"
OFFICIAL = Path(os.environ.get("FIDLE_JAX_ARCHIVES", "")).parent / "gtsrb"
TRAIN_FILE = "fidle_gtsrb-train.array_record-00000-of-00001"


def _expected(size, treatment):
    """Images of the training set in their order."""
    frames = [(0, 0, k) for k in range(30)] + [(1, 0, k) for k in range(30)]
    frames += [(1, 1, k) for k in range(29)]
    return np.stack([treat(made_up_gtsrb.image(frame), size, treatment) for frame in frames])


@pytest.mark.parametrize(("name", "size", "treatment"), [(NAME, 24, "RGB"), ("32x32-L", 32, "L")])
def test_what_was_prepared_is_read_back_with_its_classes_and_tracks(
    made_up_signs, tmp_path, name, size, treatment
):
    gtsrb.prepare(name, tmp_path, made_up_signs)
    signs = gtsrb.load_gtsrb(name, tmp_path)
    train, test = signs.read("train"), signs.read("test")
    np.testing.assert_array_equal(train.images, _expected(size, treatment))
    assert train.images.shape[1:] == signs.image_shape
    assert train.labels.tolist() == [0] * 30 + [1] * 59
    assert train.groups.tolist() == [0] * 60 + [1] * 29
    assert test.labels.tolist() == [0, 0, 1]
    assert test.groups is None
    in_order = [treat(made_up_gtsrb.image((9, number)), size, treatment) for number in (1, 2, 0)]
    np.testing.assert_array_equal(test.images, in_order)
    assert (train.images.dtype, train.labels.dtype) == (np.uint8, np.int32)
    assert (signs.train_examples, signs.test_examples) == (89, 3)


def test_the_region_of_interest_is_a_set_of_its_own(made_up_signs, tmp_path):
    gtsrb.prepare(NAME, tmp_path, made_up_signs, crop="roi")
    assert not gtsrb.is_prepared(NAME, tmp_path)
    read = gtsrb.load_gtsrb(NAME, tmp_path, crop="roi").read("train").images
    np.testing.assert_array_equal(
        read[0], treat(made_up_gtsrb.image((0, 0, 0))[1:15, 2:18], 24, "RGB")
    )


def test_parts_are_the_whole_when_put_together_and_are_checked_then(made_up_signs, tmp_path):
    gtsrb.prepare(NAME, tmp_path, made_up_signs)
    signs = gtsrb.load_gtsrb(NAME, tmp_path)
    parts = [signs.read("train", (index, 4)) for index in range(4)]
    assert [len(part.labels) for part in parts] == [23, 23, 23, 20]
    images, labels, groups = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("images", "labels", "groups")
    )
    np.testing.assert_array_equal(images, signs.read("train").images)
    signs.check("train", Split(images, labels, groups))
    with pytest.raises(InputError, match="is damaged"):
        signs.check("train", Split(images, labels, groups[::-1]))


def _flip_a_pixel(folder):
    content = bytearray((folder / TRAIN_FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / TRAIN_FILE).write_bytes(content)


def _truncate(folder):
    os.truncate(folder / TRAIN_FILE, 100)


def _remove_records(folder):
    (folder / TRAIN_FILE).unlink()


def _break_the_info(folder):
    (folder / "dataset_info.json").write_text("{")


@pytest.mark.parametrize("damage", [_flip_a_pixel, _truncate, _remove_records, _break_the_info])
def test_damaged_prepared_data_is_named_and_not_read(made_up_signs, tmp_path, damage):
    gtsrb.prepare(NAME, tmp_path, made_up_signs)
    folder = tmp_path / "fidle_gtsrb" / NAME / "1.0.0"
    damage(folder)
    with pytest.raises(InputError, match=f"{folder} is damaged; delete that folder and run again"):
        gtsrb.load_gtsrb(NAME, tmp_path).read("train")


def test_data_with_other_classes_or_tracks_is_not_read(made_up_signs, tmp_path, monkeypatch):
    gtsrb.prepare(NAME, tmp_path, made_up_signs)
    monkeypatch.setattr(gtsrb_archives, "SHORT_TRACK", (1, 0))
    with pytest.raises(InputError, match="is damaged"):
        gtsrb.load_gtsrb(NAME, tmp_path).read("train")


@pytest.mark.slow
@pytest.mark.skipif(
    not (OFFICIAL / gtsrb_archives.TRAIN_IMAGES).exists(),
    reason="no gtsrb beside the archives that FIDLE_JAX_ARCHIVES names",
)
def test_the_complete_set_is_prepared_and_read(tmp_path):
    gtsrb.prepare("24x24-L", tmp_path, OFFICIAL)
    signs = gtsrb.load_gtsrb("24x24-L", tmp_path)
    assert signs.read("train").images.shape == (39_209, 24, 24, 1)
    assert signs.read("test").images.shape == (12_630, 24, 24, 1)
