"""A user's own images: every format has the same examples, and wrong ones are refused in one line."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from fidle_jax.data import load_dataset, own_images
from fidle_jax.errors import InputError
from tests.data import own_sets

GREY = np.arange(0, 192, dtype=np.uint8).reshape(16, 12)


@pytest.fixture
def load(tmp_path):
    """``load(path, **settings)`` loads a data set. Afterwards, nothing half-prepared may be left."""

    def load_own(path, **settings):
        return load_dataset(str(path), data_dir=tmp_path / "prepared", **settings)

    yield load_own
    assert not list((tmp_path / "prepared").glob("**/*.part"))


def refuse(load, path, **settings):
    """Return the message of the refusal, which is one line in three parts, and writes nothing."""
    prepared = path.parent / "prepared" / "own_images"
    before = sorted(prepared.glob("*"))
    with pytest.raises(InputError) as error:
        load(path, **settings)
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 700
    assert sorted(prepared.glob("*")) == before
    return message


@pytest.mark.parametrize("write", own_sets.FORMATS, ids=lambda write: write.__name__)
def test_every_format_has_the_same_examples_in_the_same_order(write, load, tmp_path):
    splits = own_sets.digits()
    data = load(write(tmp_path / "digits", splits))
    assert data.class_names == tuple("0123456789")
    assert data.image_shape == (28, 28, 1)
    for split, (images, labels) in splits.items():
        for content in (data.read(split), data.open(split)):
            np.testing.assert_array_equal(content.labels, labels)
            found = content.read_images(np.arange(len(labels)))
            np.testing.assert_array_equal(found[..., 0], images)


def test_images_are_decoded_once_unless_they_change(load, tmp_path, monkeypatch):
    photos = own_sets.write_photos(tmp_path / "photos")
    first = load(photos)
    with monkeypatch.context() as patch:
        patch.setattr(own_images, "_write", pytest.fail)
        assert load(photos).facts == first.facts
        shutil.copytree(photos, tmp_path / "copy")  # other times of modification
        assert load(tmp_path / "copy").facts["digest"] == first.facts["digest"]
    Image.fromarray(GREY).save(photos / "cat" / "new.png")
    assert load(photos).facts["digest"] != first.facts["digest"]


def test_a_test_split_is_held_out_by_seed_from_every_class(load, tmp_path):
    photos = own_sets.write_photos(tmp_path / "photos", count=20)
    tests = [load(photos, seed=seed).read("test") for seed in (0, 0, 1)]
    assert np.bincount(tests[0].labels).tolist() == [4, 4]
    np.testing.assert_array_equal(tests[0].images, tests[1].images)
    assert not np.array_equal(tests[0].images, tests[2].images)


def test_copies_are_held_out_together_unless_random_images_are_requested(load, tmp_path):
    photos = own_sets.write_photos(tmp_path / "photos", count=60, size=(8, 8))
    for name in ("cat", "dog"):
        for i in range(20):
            shutil.copy(photos / name / f"{i}.png", photos / name / f"copy of {i}.png")
    divided = []
    for hold_out in ("groups", "examples"):
        data = load(photos, hold_out=hold_out)
        train, test = (data.read(split).images.astype(int) for split in ("train", "test"))
        distances = np.abs(train[:, None] - test).mean(axis=(2, 3, 4))
        divided.append((distances < 20).sum())
    assert data.facts["groups"] == 40
    assert divided[0] == 0 < divided[1]


def test_splits_of_folders_are_found_by_their_usual_names(load, tmp_path):
    for split in ("train", "valid", "test"):
        own_sets.write_photos(tmp_path / "set" / split, seed=len(split), count=4)
    data = load(tmp_path / "set")
    assert (data.train_examples, data.validation_examples, data.test_examples) == (8, 8, 8)
    assert len(data.read("validation").labels) == 8


def test_files_of_the_system_are_ignored_and_others_skipped_up_to_a_limit(load, tmp_path):
    photos = own_sets.write_photos(tmp_path / "photos", count=50)
    for name in (".DS_Store", "Thumbs.db", "cat/._0.png", "dog/.DS_Store"):
        (photos / name).write_bytes(b"system")
    lines = []
    load(photos, allow_skipped=0.0, announce=lines.append)
    assert "ignored: 4 " in "\n".join(lines)
    (photos / "cat" / "notes.txt").write_text("text")
    (photos / "cat" / "0.png").write_bytes((photos / "cat" / "0.png").read_bytes()[:200])
    (photos / "dog" / "empty.png").write_bytes(b"")
    assert "--allow-skipped" in refuse(load, photos.rename(tmp_path / "damaged"))
    lines = []
    data = load(tmp_path / "damaged", allow_skipped=0.05, announce=lines.append)
    assert data.train_examples + data.test_examples == 99
    assert "notes.txt" in "\n".join(lines)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("fit", [0, 200, 200, 0]),  # black bars at the left and right
        ("crop", [200, 200, 200, 200]),
        ("stretch", [200, 200, 200, 200]),
    ],
)
def test_images_of_different_sizes_are_resized_as_requested(how, expected, load, tmp_path):
    photos = own_sets.write_photos(tmp_path / "photos")
    for i in range(6):
        tall = np.full((60, 30, 3), 200, np.uint8)
        tall[0, 0] = (200, 190 + i, 200)  # colour
        Image.fromarray(tall).save(photos / "cat" / f"{i}.png")
    data = load(photos, image_size=16, resize=how)
    assert data.image_shape == (16, 16, 3)
    content = data.read("train")
    image = content.images[content.labels == 0][0]
    found = image[8, [0, 6, 9, 15]].mean(-1)
    np.testing.assert_allclose(found, expected, atol=2)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(48, 32)], (32, 48, 3)),  # one small size is kept
        ([(200, 200)], (128, 128, 3)),
        ([(40, 44), (43, 47), (60, 60)], (48, 48, 3)),
        ([(300, 200), (200, 300)], (128, 128, 3)),
    ],
)
def test_the_default_size_follows_from_the_images(sizes, expected, load, tmp_path):
    for i, size in enumerate(sizes):
        own_sets.write_photos(tmp_path / "photos" / "train", [f"a{i}", f"b{i}"], 3, size)
    assert load(tmp_path / "photos", hold_out="examples").image_shape == expected


def test_rotation_transparency_and_16_bits_are_read(load, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate clockwise
    for name in ("a", "b"):
        (tmp_path / "set" / "train" / name).mkdir(parents=True)
        folder = tmp_path / "set" / "train" / name
        Image.fromarray(np.rot90(GREY)).save(folder / "0.png", exif=exif)
        opaque = np.full_like(GREY, 255)
        opaque[0] = 0
        Image.fromarray(np.stack([GREY, opaque], -1), "LA").save(folder / "1.png")
        Image.fromarray(GREY.astype(np.uint16) * 257).save(folder / "2.png")
    images = load(tmp_path / "set", hold_out="examples").read("train").images
    test = load(tmp_path / "set", hold_out="examples").read("test").images
    found = {image.tobytes() for image in [*images, *test]}
    white = GREY.copy()
    white[0] = 255
    assert {GREY.tobytes(), white.tobytes()} <= found


def empty(path):
    path.mkdir()


def one_class(path):
    own_sets.write_photos(path, ["cat"])


def one_image(path):
    own_sets.write_photos(path)
    own_sets.write_photos(path, ["lonely"], 1)


def case(path):
    own_sets.write_photos(path, ["Cat", "cat"])


def missing_in_training(path):
    own_sets.write_photos(path / "train")
    own_sets.write_photos(path / "test", ["cat", "dog", "cow"])


def many_classes(path):
    for i in range(10_001):
        (path / f"{i}").mkdir(parents=True)
        (path / f"{i}" / "0.png").write_bytes(b"x")


def empty_class(path):
    own_sets.write_photos(path)
    (path / "cow").mkdir()


def tiny_images(path):
    own_sets.write_photos(path, size=(1, 1))


def flat_folder(path):
    path.mkdir()
    Image.fromarray(GREY).save(path / "0.png")


def ragged(path):
    path.mkdir()
    (path / "train.csv").write_text("label,pixel0,pixel1,pixel2,pixel3\n0,1,2,3,4\n1,1,2,3\n")


def pixel_out_of_range(path):
    path.mkdir()
    rows = "".join(f"{i % 2},1,2,3,{250 + i}\n" for i in range(10))
    (path / "train.csv").write_text("label,pixel0,pixel1,pixel2,pixel3\n" + rows)


def no_label(path):
    path.mkdir()
    (path / "train.csv").write_text("file,label\na.png,1\nb.png,\n")


def objects(path):
    path.mkdir()
    labels = np.array([{"a": 1}] * 4, dtype=object)
    np.savez(path / "set.npz", x_train=np.zeros((4, 8, 8), np.uint8), y_train=labels)


def negative_label(path):
    path.mkdir()
    x = np.zeros((4, 8, 8), np.uint8)
    np.savez(path / "set.npz", x_train=x, y_train=np.array([0, 1, -1, 0]))


def truncated_idx(path):
    own_sets.write_idx(path, own_sets.digits(20))
    file = path / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-100])


def huge_idx(path):
    own_sets.write_idx(path, own_sets.digits(20))
    file = path / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:4] + b"\xff" * 12)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (empty, "expected"),
        (one_class, "at least two classes"),
        (one_image, "lonely"),
        (case, "differ only in case"),
        (missing_in_training, "cow"),
        (many_classes, "10,001 classes"),
        (empty_class, "cow"),
        (tiny_images, "1x1"),
        (flat_folder, "expected"),
        (ragged, "train.csv"),
        (pixel_out_of_range, "256"),
        (no_label, "label"),
        (objects, "set.npz"),
        (negative_label, "-1"),
        (truncated_idx, "idx3-ubyte"),
        (huge_idx, "idx3-ubyte"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_wrong_set_is_refused_in_one_line(make, named, load, tmp_path):
    make(tmp_path / "set")
    assert named in refuse(load, tmp_path / "set")


def test_links_that_form_loops_end(load, tmp_path):
    photos = own_sets.write_photos(tmp_path / "photos")
    (photos / "cat" / "loop").symlink_to(photos)
    (photos / "dog" / "other").symlink_to(photos / "cat")
    (photos / "cat" / "self").symlink_to(photos / "cat" / "self")
    assert load(photos, allow_skipped=0.9).train_examples > 0


def test_pipes_do_not_block(load, tmp_path):
    photos = own_sets.write_photos(tmp_path / "photos")
    os.mkfifo(photos / "cat" / "pipe.png")
    assert load(photos, allow_skipped=0.9).train_examples > 0


def test_a_set_that_changes_while_it_is_read_is_refused(load, tmp_path, monkeypatch):
    photos = own_sets.write_photos(tmp_path / "photos")
    decode = own_images.decode_chunk

    def change(*arguments):
        Image.fromarray(GREY).save(photos / "cat" / "0.png")
        return decode(*arguments)

    monkeypatch.setattr(own_images, "decode_chunk", change)
    assert "changed while" in refuse(load, photos)
