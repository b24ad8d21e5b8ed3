"""GTSRB's archives are read in place and within limits, and faults are named."""

import contextlib
import multiprocessing
import os
import re
import struct
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from fidle_jax.data import gtsrb_archives as gtsrb
from fidle_jax.data import workers as workers_module
from fidle_jax.data.gtsrb_archives import open_archive, process_photos, read_member
from fidle_jax.errors import InputError
from tests.data import small_gtsrb

FIRST = "GTSRB/Final_Training/Images/00000/00000_00000.ppm"
FIRST_TABLE = "GTSRB/Final_Training/Images/00000/GT-00000.csv"
LIMIT = 10_000


def rewrite(folder, archive, change):
    """Write the archives again, after ``change(members)`` of one of them."""
    members = small_gtsrb.members()
    change(members[archive])
    small_gtsrb.write(folder, members)


def read_all(folder, crop=False):
    """Return every image of both splits by its name."""
    images = {}
    for split in ("train", "test"):
        photos = gtsrb.read_photos(folder, split)
        with open_archive(folder / gtsrb.image_archive(split)) as archive:
            images |= {photo.member: gtsrb.read_image(archive, photo, crop) for photo in photos}
    return images


def write_zip(path, content, method=zipfile.ZIP_DEFLATED, name="photo"):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(name, content)
    return path


def test_a_member_is_read_up_to_the_limit(tmp_path):
    with open_archive(write_zip(tmp_path / "a.zip", b"x" * LIMIT)) as archive:
        assert read_member(archive, "photo", LIMIT) == b"x" * LIMIT
        with pytest.raises(InputError, match=r"photo has 10,000 bytes, expected at most 9,999"):
            read_member(archive, "photo", LIMIT - 1)


def test_a_member_larger_than_it_claims_is_never_decompressed_completely(tmp_path):
    path = write_zip(tmp_path / "a.zip", bytes(100_000_000))
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (300).to_bytes(4, "little")
    path.write_bytes(content)
    with open_archive(path) as archive:
        tracemalloc.start()
        with pytest.raises(InputError, match="zip: photo is damaged"):
            read_member(archive, "photo", LIMIT)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_method_without_a_limit_is_refused(tmp_path, method):
    with (
        open_archive(write_zip(tmp_path / "a.zip", b"x", method)) as archive,
        pytest.raises(InputError, match=f"photo has compression method {method}, expected 8"),
    ):
        read_member(archive, "photo", LIMIT)


@pytest.mark.parametrize(("offset", "byte"), [(6, 0xFF), (8 + 1, 0x08)], ids=["version", "UTF-8"])
def test_a_damaged_list_of_members_is_reported_in_one_line(tmp_path, offset, byte):
    path = write_zip(tmp_path / "a.zip", b"x", name="photo")
    content = bytearray(path.read_bytes().replace(b"photo", b"\xff\xfeoto"))
    content[content.index(b"PK\x01\x02") + offset] |= byte
    path.write_bytes(content)
    with pytest.raises(InputError, match="truncated or not a zip file") as caught:
        open_archive(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["../evil.ppm", "/etc/evil.ppm", "a/../../evil.ppm", "a\\evil.ppm"]
)
def test_a_name_that_leads_out_of_the_archive_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="contains the unsafe name"):
        open_archive(write_zip(tmp_path / "a.zip", b"", name=name))


@pytest.mark.parametrize("name", [gtsrb.TRAIN_IMAGES, gtsrb.TEST_IMAGES, gtsrb.TEST_LABELS])
def test_a_missing_or_truncated_archive_is_named(sign_archives, name):
    path = sign_archives / name
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=f"{name} is truncated"):
        read_all(sign_archives)
    path.unlink()
    with pytest.raises(InputError, match=f"{name} is missing"):
        read_all(sign_archives)


def test_every_photograph_is_read_with_its_class_and_track(sign_archives):
    photos = gtsrb.read_photos(sign_archives, "train")
    assert [(photo.label, photo.track) for photo in photos] == (
        [(0, 0)] * 30 + [(1, 0)] * 30 + [(1, 1)] * 29
    )
    assert (photos[0].member, photos[0].size) == (FIRST, (40, 32))
    test = gtsrb.read_photos(sign_archives, "test")
    names = [(photo.label, photo.track, photo.member[-9:]) for photo in test]
    assert names == [(0, None, "00001.ppm"), (0, None, "00002.ppm"), (1, None, "00000.ppm")]


def test_images_are_exact_and_the_region_is_scaled_with_the_copy(sign_archives):
    expected = small_gtsrb.image((0, 0, 0))
    np.testing.assert_array_equal(read_all(sign_archives)[FIRST], expected)
    # Columns 4 to 35 of 40 and rows 2 to 29 of 32, in a copy of half the size.
    np.testing.assert_array_equal(read_all(sign_archives, crop=True)[FIRST], expected[1:15, 2:18])


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


NOISE = small_gtsrb.image(0)
BAD_MEMBERS = {
    "PNG": (FIRST, _png(NOISE), "is not a complete PPM image"),
    "text": (FIRST, b"hello", "is not a complete PPM image"),
    "truncated": (FIRST, small_gtsrb.ppm(NOISE)[:-1], "is not a complete PPM image"),
    "grey": (FIRST, b"P5 2 2 255\nabcd", "has mode L, expected RGB"),
    "wide": (FIRST, b"P6 1001 1 255\n" + b"x" * 3003, "1001 x 1 pixels, expected sides of at most"),
    "a bomb": (FIRST, b"P6 99999 99999 255\n" + b"x", "00000_00000.ppm"),
    "a smaller bomb": (FIRST, b"P6 10000 10000 255\n" + b"x", "10000 x 10000 pixels, expected"),
    "large": (FIRST, b"x" * (gtsrb.LARGEST_BYTES + 1), "bytes, expected at most"),
    "no columns": (FIRST_TABLE, b"Filename;Width\r\na;3\r\n", "lacks the columns Height, Roi.X1"),
    "no CSV": (FIRST_TABLE, b"\xff\xfe", "is not a CSV file"),
    "empty": (FIRST_TABLE, b"", "lacks the columns"),
}


@pytest.mark.parametrize("fault", BAD_MEMBERS)
def test_a_bad_member_is_named_with_its_archive_in_one_line(sign_archives, fault):
    member, content, named = BAD_MEMBERS[fault]
    rewrite(sign_archives, gtsrb.TRAIN_IMAGES, lambda members: members.update({member: content}))
    with pytest.raises(InputError, match=named) as caught:
        read_all(sign_archives)
    assert str(sign_archives / gtsrb.TRAIN_IMAGES) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (";0\r\n", ";43\r\n", "has class 43, expected 0 to 42"),
        (";0\r\n", ";-1\r\n", "has class -1"),
        (";0\r\n", ";one\r\n", "the row of 00000_00000.ppm must have an integer per column"),
        (";0\r\n", "\r\n", "the row of 00000_00000.ppm must have an integer per column"),
        (";0\r\n", ";0;0\r\n", "the row of 00000_00000.ppm has too many values"),
        ("00000_00000.ppm", '"00000_00000.ppm', "00000_00000.ppm is missing"),
        (";0\r\n", ";0\r;\r\n", "is not a CSV file"),
        (";40;", ";0;", "region 4, 2 to 35, 29 in 0 x 32 pixels"),
        (";35;", ";40;", "region 4, 2 to 40, 29 in 40 x 32 pixels"),
        (";35;", ";3;", "region 4, 2 to 3, 29 in 40 x 32 pixels"),
        (";2;", ";-1;", "region 4, -1 to 35"),
        (";40;", f";{10**400};", "region 4, 2 to 35, 29 in 1000"),
        ("00000_00001.ppm", "00000_00000.ppm", "00000/00000_00000.ppm has 2 rows, expected one"),
        ("00000_00000.ppm", "00000_00030.ppm", "00000_00030.ppm is missing"),
        ("00000_00000.ppm;40;32;4;2;35;29;0\r\n", "", "29 images of class 0, track 0, expected 30"),
    ],
)
def test_a_wrong_row_is_named_with_its_archive_in_one_line(sign_archives, old, new, named):
    def change(members):
        members[FIRST_TABLE] = members[FIRST_TABLE].replace(old.encode(), new.encode(), 1)

    rewrite(sign_archives, gtsrb.TRAIN_IMAGES, change)
    with pytest.raises(InputError, match=named) as caught:
        gtsrb.read_photos(sign_archives, "train")
    assert str(sign_archives / gtsrb.TRAIN_IMAGES) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_row_of_the_test_labels_is_named_with_its_archive_and_table(sign_archives):
    def change(members):
        members["GT-final_test.csv"] = members["GT-final_test.csv"].replace(b";1\r\n", b";43\r\n")

    rewrite(sign_archives, gtsrb.TEST_LABELS, change)
    named = f"{sign_archives / gtsrb.TEST_LABELS}: GT-final_test.csv: 00000.ppm has class 43"
    with pytest.raises(InputError, match=re.escape(named)):
        gtsrb.read_photos(sign_archives, "test")


def test_a_damaged_archive_is_read_exactly_or_refused(sign_archives):
    expected = read_all(sign_archives)
    path = sign_archives / gtsrb.TEST_IMAGES
    intact = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(40):
        content = bytearray(intact)
        content[rng.integers(len(content))] ^= rng.integers(1, 256)
        path.write_bytes(content)
        with contextlib.suppress(InputError):
            for member, image in read_all(sign_archives).items():
                np.testing.assert_array_equal(image, expected[member])


def test_photographs_are_processed_in_order_in_chunks_of_any_size(sign_archives, monkeypatch):
    monkeypatch.setattr(gtsrb, "CHUNK", 7)
    monkeypatch.setattr(workers_module, "FEW", 0)
    photos, sums = zip(*process_photos(sign_archives, "train", np.sum, title=""), strict=True)
    assert photos == tuple(gtsrb.read_photos(sign_archives, "train"))
    assert sums[30] == small_gtsrb.image((1, 0, 0)).sum()


def test_stopping_half_way_warns_of_nothing(sign_archives, monkeypatch, recwarn):
    monkeypatch.setattr(gtsrb, "CHUNK", 4)
    monkeypatch.setattr(workers_module, "FEW", 0)
    photos = process_photos(sign_archives, "train", np.sum, title="")
    next(photos)
    photos.close()
    assert len(list(process_photos(sign_archives, "test", np.sum, title=""))) == 3
    assert [str(warning.message) for warning in recwarn if warning.category is UserWarning] == []


def _die(pixels):
    os._exit(1)


def test_a_killed_worker_is_reported_in_one_line(sign_archives, monkeypatch):
    monkeypatch.setattr(workers_module, "FEW", 0)
    with pytest.raises(InputError, match="was killed, possibly for lack of memory; run again"):
        list(process_photos(sign_archives, "train", _die, title=""))
    assert len(list(process_photos(sign_archives, "test", np.sum, title=""))) == 3


def _pid(pixels):
    return os.getpid()


def _process_slowly(folder, pipe):
    with pytest.MonkeyPatch.context() as monkeypatch:
        small_gtsrb.install(monkeypatch)
        monkeypatch.setattr(gtsrb, "CHUNK", 4)
        monkeypatch.setattr(workers_module, "FEW", 0)
        photos = process_photos(folder, "train", _pid, title="")
        pipe.send({next(photos)[1] for _ in range(8)})
        time.sleep(60)


def _runs(pid):
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_workers_end_soon_after_a_parent_that_is_killed(sign_archives):
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    parent = spawn.Process(target=_process_slowly, args=(sign_archives, there))
    parent.start()
    workers = here.recv()
    assert workers
    assert all(_runs(pid) for pid in workers)
    parent.kill()
    parent.join()
    deadline = time.monotonic() + 20
    while any(_runs(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(_runs(pid) for pid in workers)


def test_the_official_archives_have_the_classes_and_tracks_of_the_benchmark(official_archives):
    folder = official_archives("gtsrb")
    train, test = (gtsrb.read_photos(folder, split) for split in ("train", "test"))
    assert (len(train), len(test)) == (39_209, 12_630)
    assert len({(photo.label, photo.track) for photo in train}) == 1307
    assert {photo.label for photo in test} == set(range(43))
