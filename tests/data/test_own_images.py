"""Own images are decoded once, prepared completely or not at all, and damaged ones are skipped."""

import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fidle_jax.data import chunks, own_images
from fidle_jax.data.own import load_own
from fidle_jax.data.own_images import FOLDER, Settings
from fidle_jax.data.sources import find_source
from fidle_jax.errors import InputError
from tests.data.own_files import assert_refused, make_classes, picture, prepared, save

LENIENT = Settings(allow_skipped=0.5)


def _load(path, data_dir, settings=None):
    """Return all images of the training data, without a division, and the printed lines."""
    lines = []
    data = load_own(path, data_dir, settings, hold_out="examples", announce=lines.append)
    return data, "\n".join(lines)


def _first(path, data_dir, **settings):
    """Return the only image of the class "a" in the test split of ``path``."""
    make_classes(path / "train", "ab", **settings)
    save(path / "test" / "b" / "0.png", picture(7))
    data, _ = _load(path, data_dir)
    split = data.read("test")
    return split.images[list(split.labels).index(0)]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_rotated_according_to_exif(tmp_path, orientation):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4, :4] = (250, 0, 0)  # the corner that is shown at the top left with orientation 1
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path / "d" / "test" / "a" / "x.png", pixels, exif=exif)
    image = _first(tmp_path / "d", tmp_path)
    corner = {
        1: (0, 0),
        2: (0, 7),
        3: (7, 7),
        4: (7, 0),
        5: (0, 0),
        6: (0, 7),
        7: (7, 7),
        8: (7, 0),
    }
    assert image[corner[orientation]].tolist() == [250, 0, 0]
    assert (image == (250, 0, 0)).all(-1).sum() == 16


@pytest.mark.parametrize(
    ("name", "make", "expected"),
    [
        ("x.png", lambda: Image.new("P", (8, 8)), 0),
        ("x.png", lambda: Image.new("RGBA", (8, 8), (9, 9, 9, 0)), 255),
        ("x.png", lambda: Image.new("LA", (8, 8), (9, 0)), 255),
        ("x.png", lambda: Image.new("1", (8, 8), 1), 255),
        ("x.png", lambda: Image.fromarray(np.full((8, 8), 0x8080, np.uint16)), 128),
        ("x.TIFF", lambda: Image.fromarray(np.full((8, 8), 0x8080, np.uint16)), 128),
        ("x.jpg", lambda: Image.new("CMYK", (8, 8), (0, 0, 0, 0)), 255),
        ("x.ppm", lambda: Image.new("RGB", (8, 8), (7, 7, 7)), 7),
        ("x.bmp", lambda: Image.new("RGB", (8, 8), (7, 7, 7)), 7),
        ("x.WebP", lambda: Image.new("RGB", (8, 8), (255, 255, 255)), 255),
    ],
)
def test_images_of_all_modes_become_8_bit_on_white(tmp_path, name, make, expected):
    save(tmp_path / "d" / "test" / "a" / name, make())
    assert (_first(tmp_path / "d", tmp_path) == expected).all()


def test_a_jpeg_named_png_is_read(tmp_path):
    save(tmp_path / "d" / "test" / "a" / "x.png", Image.new("RGB", (8, 8), "white"), format="JPEG")
    assert (_first(tmp_path / "d", tmp_path) == 255).all()


@pytest.mark.parametrize("ending", ["gif", "webp"])
def test_the_first_picture_of_an_animation_is_used(tmp_path, ending, caplog):
    first, second = Image.new("RGB", (8, 8), "white"), Image.new("RGB", (8, 8))
    path = tmp_path / "d" / "test" / "a" / f"x.{ending}"
    save(path, first, save_all=True, append_images=[second])
    assert (_first(tmp_path / "d", tmp_path) == 255).all()
    assert "contains several pictures" in caplog.text


@pytest.mark.parametrize(
    ("channels", "stored", "expected"), [(1, "L", 1), (1, "RGB", 1), (3, "RGB", 3)]
)
def test_images_have_one_channel_if_all_are_grey(tmp_path, channels, stored, expected):
    for name in "ab":
        for i in range(3):
            pixels = picture(i + 3 * ord(name), channels=channels)
            save(tmp_path / "d" / name / f"{i}.png", Image.fromarray(pixels).convert(stored))
    data, _ = _load(tmp_path / "d", tmp_path, LENIENT)
    assert data.image_shape == (8, 8, expected)
    assert data.read("train").images.shape[1:] == (8, 8, expected)


def test_grey_and_colour_images_together_are_colour(tmp_path):
    make_classes(tmp_path / "d", "a", channels=1)
    make_classes(tmp_path / "d", "b", channels=3)
    data, _ = _load(tmp_path / "d", tmp_path)
    assert data.image_shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("sizes", "settings", "expected"),
    [
        ([(32, 48)], Settings(), (32, 48)),
        ([(129, 129)], Settings(), (128, 128)),
        ([(8, 8), (30, 30)], Settings(), (16, 16)),
        ([(300, 300), (500, 400)], Settings(), (128, 128)),
        ([(32, 48)], Settings(image_size=20), (20, 20)),
    ],
)
def test_the_default_size_is_a_common_size_or_from_the_median(tmp_path, sizes, settings, expected):
    for name in "ab":
        for i in range(4 * len(sizes)):
            height, width = sizes[i % len(sizes)]
            save(tmp_path / "d" / name / f"{i}.png", picture(i, height, width))
    assert _load(tmp_path / "d", tmp_path, settings)[0].image_shape[:2] == expected


def test_damaged_images_are_skipped_once_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks.decode, "MAX_PIXELS", 10_000)
    folder = make_classes(tmp_path / "d", count=6)
    content = (folder / "ant" / "0.png").read_bytes()
    (folder / "ant" / "0.png").write_bytes(content[:-40])
    (folder / "ant" / "empty.png").write_bytes(b"")
    (folder / "ant" / "text.png").write_bytes(b"hello")
    save(folder / "bee" / "dot.png", picture(0, 1, 1))
    save(folder / "bee" / "huge.png", picture(0, 101, 100))
    data, text = _load(folder, tmp_path, LENIENT)
    assert data.train_examples + data.test_examples == 11
    assert data.facts["skipped_count"] == 5
    for reason in ("is damaged", "is empty", "is not an image", "1x1 pixels", "too many pixels"):
        assert reason in " ".join(data.facts["skipped"])
    assert "11 train images in 2 classes" in text
    assert "skipped: 5 files: " in text
    assert _load(folder, tmp_path, LENIENT)[1] == text


def test_damage_that_only_decoding_finds_is_reported_each_time(tmp_path, monkeypatch, caplog):
    folder = make_classes(tmp_path / "d", count=6)
    monkeypatch.setattr(own_images, "scan_chunk", _scan_without_looking)
    content = (folder / "ant" / "0.png").read_bytes()
    (folder / "ant" / "0.png").write_bytes(content[:-40])
    data, _ = _load(folder, tmp_path, LENIENT)
    assert data.facts["skipped_count"] == 1
    assert "skipped 1 damaged image, such as: " in caplog.text
    _, text = _load(folder, tmp_path, LENIENT)
    assert "11 train images" in text
    assert "skipped: 1 file: " in text


def _scan_without_looking(chunk):
    return [chunks.Scanned(name.encode(), 8, 8, False) for name, _ in chunk]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["ant/x.txt"], r"1 of 9 files .* cannot be read as images .*not the name .*at most 1 %"),
        (["cat/x.png", "cat/y.png"], "2 of 10 files"),
    ],
)
def test_too_many_foreign_files_are_refused(tmp_path, names, message):
    folder = make_classes(tmp_path / "d")
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    assert_refused(tmp_path, folder, message)


def test_a_class_whose_images_are_all_damaged_is_refused(tmp_path):
    folder = make_classes(tmp_path / "d")
    (folder / "cat").mkdir()
    for name in ("x.png", "y.png"):
        (folder / "cat" / name).write_bytes(b"x")
    assert_refused(tmp_path, folder, "no image of the training class 'cat'", LENIENT)


def test_a_second_start_neither_scans_nor_decodes(tmp_path, monkeypatch):
    folder = make_classes(tmp_path / "d")
    first, text = _load(folder, tmp_path)
    monkeypatch.setattr(own_images, "map_chunks", pytest.fail)
    second, again = _load(folder, tmp_path)
    assert again == text
    np.testing.assert_array_equal(first.read("train").images, second.read("train").images)


def test_a_copy_of_the_images_elsewhere_is_scanned_but_not_decoded(tmp_path, monkeypatch):
    first, _ = _load(make_classes(tmp_path / "one"), tmp_path)
    monkeypatch.setattr(own_images, "decode_chunk", pytest.fail)
    second, text = _load(make_classes(tmp_path / "two"), tmp_path)
    assert second.facts["digest"] == first.facts["digest"]
    assert str(tmp_path / "two") in text


def test_changed_images_settings_and_labels_have_another_digest(tmp_path):
    folder = make_classes(tmp_path / "d")
    digests = [_load(folder, tmp_path)[0].facts["digest"]]
    digests.append(_load(folder, tmp_path, Settings(image_size=16))[0].facts["digest"])
    save(folder / "ant" / "0.png", picture(99))
    digests.append(_load(folder, tmp_path)[0].facts["digest"])
    (folder / "ant" / "0.png").rename(folder / "bee" / "10.png")
    digests.append(_load(folder, tmp_path)[0].facts["digest"])
    assert len(set(digests)) == 4


def test_a_folder_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    folder = make_classes(tmp_path / "d")
    write = own_images._write

    def change(*arguments):
        save(folder / "ant" / "0.png", picture(77, 9, 9))
        return write(*arguments)

    monkeypatch.setattr(own_images, "_write", change)
    assert_refused(tmp_path, folder, "changed while it was read; .* run again")


def test_damaged_prepared_images_are_refused_with_advice(tmp_path):
    folder = make_classes(tmp_path / "d")
    _load(folder, tmp_path)
    (info,) = (tmp_path / FOLDER).glob("*/info.json")
    info.write_text(info.read_text().replace("8", "9", 1))
    with pytest.raises(InputError, match="is damaged; delete that folder and run again"):
        _load(folder, tmp_path)


SCRIPT = """
import signal
import sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
from fidle_jax.data import own_images
from fidle_jax.data.own import load_own
write = own_images.find_groups
def slow(*arguments):
    print("writing", flush=True)
    import time; time.sleep(float(sys.argv[3]))
    return write(*arguments)
own_images.find_groups = slow
load_own(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def _start(folder, data_dir, seconds):
    command = [sys.executable, "-c", SCRIPT, folder, data_dir, str(seconds)]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_preparation_leaves_nothing_that_counts(tmp_path, sent):
    folder = make_classes(tmp_path / "d")
    process = _start(folder, tmp_path, 60)
    assert process.stdout.readline() == b"writing\n"
    process.send_signal(sent)
    process.communicate(timeout=20)
    left = prepared(tmp_path)
    assert not left if sent == signal.SIGINT else all(name.endswith(".part") for name in left)
    data, _ = _load(folder, tmp_path)
    assert data.train_examples == 6
    assert not any(name.endswith(".part") for name in prepared(tmp_path))


def test_a_second_process_waits_for_the_first_and_uses_its_images(tmp_path):
    folder = make_classes(tmp_path / "d")
    first = _start(folder, tmp_path, 3)
    assert first.stdout.readline() == b"writing\n"
    second = _start(folder, tmp_path, 0)
    assert second.communicate(timeout=60) == (b"", b"")  # it did not write
    assert first.communicate(timeout=60)[1] == b""
    assert first.returncode == second.returncode == 0


def test_hundreds_of_images_are_decoded_by_several_processes_in_order(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (600, 6, 6), np.uint8)
    np.savez(tmp_path / "x.npz", x_train=images, y_train=np.arange(600) % 2)
    data, _ = _load(tmp_path / "x.npz", tmp_path)
    rows = {image.tobytes(): i for i, image in enumerate(images)}
    split = data.read("train")
    order = [rows[image.tobytes()] for image in split.images]
    assert order == sorted(order)
    assert [i % 2 for i in order] == split.labels.tolist()


def test_sources_are_read_in_chunks(tmp_path):
    folder = make_classes(tmp_path / "d", count=chunks.CHUNK)
    sizes = map(len, chunks.chunks_of(find_source(folder).splits["train"]))
    assert list(sizes) == [chunks.CHUNK] * 2
