"""Own images as a data set: the test split, its description, and the five formats."""

import gzip
import struct

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from fidle_jax.data.load import load_dataset, load_sample
from fidle_jax.data.own import load_own, read_labelled
from fidle_jax.data.own_images import Settings
from fidle_jax.errors import InputError
from fidle_jax.train.config import Config, resolve
from tests.data.own_files import assert_refused, make_classes, picture, save

FORMATS = ("folders", "csv", "npz", "parquet", "idx")
STEP = {"train": 20, "test": 10}  # every 20th digit of the sample, which is sorted by class


def write_digits(folder, kind):
    """Write some digits of the sample in one of `FORMATS`. Return the path for --dataset."""
    sample = load_sample(0)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for split, step in STEP.items():
        content = sample.read(split)
        images, labels = content.images[::step, ..., 0], content.labels[::step]
        arrays |= {f"x_{split}": images, f"y_{split}": labels}
        if kind == "csv":
            header = "label," + ",".join(f"pixel{i}" for i in range(784))
            rows = np.column_stack([labels, images.reshape(-1, 784)])
            np.savetxt(folder / f"{split}.csv", rows, "%d", ",", header=header, comments="")
        elif kind == "idx":
            name = {"train": "train", "test": "t10k"}[split]
            header = struct.pack(">4B3I", 0, 0, 8, 3, *images.shape)
            (folder / f"{name}-images-idx3-ubyte").write_bytes(header + images.tobytes())
            header = struct.pack(">4BI", 0, 0, 8, 1, len(labels))
            content = gzip.compress(header + labels.astype(np.uint8).tobytes())
            (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(content)
        elif kind in ("folders", "parquet"):
            for i, (image, label) in enumerate(zip(images, labels, strict=True)):
                save(folder / split / str(label) / f"{i}.png", image)
        if kind == "parquet":
            files = [folder / split / str(label) / f"{i}.png" for i, label in enumerate(labels)]
            images = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
            table = pa.table({"image": pa.array(images), "label": pa.array(labels)})
            parquet.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    if kind == "npz":
        np.savez(folder / "digits.npz", **arrays)
    return folder / "digits.npz" if kind == "npz" else folder


@pytest.mark.parametrize("kind", FORMATS)
def test_the_digits_are_the_same_in_all_formats(tmp_path, kind):
    data = load_dataset(str(write_digits(tmp_path / "d", kind)), data_dir=tmp_path)
    sample = load_sample(0)
    assert data.class_names == sample.class_names
    assert data.image_shape == sample.image_shape
    for split, step in STEP.items():
        read, expected = data.read(split), sample.read(split)
        np.testing.assert_array_equal(read.images, expected.images[::step])
        np.testing.assert_array_equal(read.labels, expected.labels[::step])
        assert (read.images.dtype, read.labels.dtype) == (np.uint8, np.int32)


def test_a_fifth_of_every_class_is_held_out_by_the_seed(tmp_path):
    folder = make_classes(tmp_path / "d", count=20)
    chosen = []
    for seed in (0, 0, 1):
        lines = []
        data = load_own(folder, tmp_path, seed=seed, announce=lines.append)
        assert np.bincount(data.read("test").labels).tolist() == [4, 4]
        assert np.bincount(data.read("train").labels).tolist() == [16, 16]
        assert data.class_counts == (20, 20)
        assert f"20 % of every class, whole groups of near-duplicates, seed {seed}" in lines[-1]
        chosen.append(data.read("test").images.tobytes())
        assert data.facts["planned_examples"] == 32
    assert chosen[0] == chosen[1] != chosen[2]


def _copies(folder, classes, count, copies):
    for name in classes:
        for i in range(count):
            pixels = picture(100 * ord(name[0]) + i).repeat(4, 0).repeat(4, 1)
            for j in range(copies):
                save(folder / name / f"{i}-{j}.png", pixels // 2 + j)
    return folder


def test_the_recipe_of_images_in_groups_does_not_depend_on_the_seed(tmp_path):
    folder = _copies(tmp_path / "d", ("ant", "bee"), 10, 1)
    _copies(folder, ("ant",), 4, 5)
    config = Config().replace(dataset=str(folder), model="compact")
    sets = [load_own(folder, tmp_path, seed=seed) for seed in range(4)]
    assert len({data.train_examples for data in sets}) > 1
    assert len({str(resolve(config, "full", data)) for data in sets}) == 1


def test_near_duplicates_are_on_one_side(tmp_path):
    folder = _copies(tmp_path / "d", ("ant", "bee"), 10, 2)
    lines = []
    data = load_own(folder, tmp_path, announce=lines.append)
    train, test = data.read("train"), data.read("test")
    for label in (0, 1):
        sides = [set(each.groups[each.labels == label].tolist()) for each in (train, test)]
        assert not sides[0] & sides[1]
    assert "near-duplicates: 20 groups with 40 images, the largest with 2" in lines[-1]
    assert load_own(folder, tmp_path, hold_out="examples").read("test").groups is None


def test_near_duplicates_of_a_given_test_split_are_counted(tmp_path):
    make_classes(tmp_path / "d" / "train")
    make_classes(tmp_path / "d" / "test", count=1)
    lines = []
    data = load_own(tmp_path / "d", tmp_path, announce=lines.append)
    assert data.facts["test_duplicates"] == 2
    assert "test: 2 images, the test split of the data; near-duplicates" in lines[-1]


def test_a_class_with_one_image_is_refused_unless_there_is_a_test_split(tmp_path):
    folder = make_classes(tmp_path / "d")
    save(folder / "cat" / "1.png", picture(5))
    with pytest.raises(InputError, match=r"class 'cat' .* has one image; expected at least 2"):
        load_own(folder, tmp_path)
    make_classes(tmp_path / "e" / "train", count=1)
    make_classes(tmp_path / "e" / "test", count=2)
    assert load_own(tmp_path / "e", tmp_path).train_examples == 2


@pytest.mark.parametrize(("hold_out", "message"), [("groups", "near-dup"), ("examples", "small")])
def test_classes_without_a_possible_test_split_are_refused(tmp_path, hold_out, message):
    for name in ("ant", "bee"):
        for i in range(2):
            save(tmp_path / "d" / name / f"{i}.png", picture(ord(name[0])))
    with pytest.raises(InputError, match=f"none can be held out, because .*{message}"):
        load_own(tmp_path / "d", tmp_path, hold_out=hold_out)


def test_a_validation_split_is_kept(tmp_path):
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        make_classes(tmp_path / "d" / split, count=count)
    data = load_own(tmp_path / "d", tmp_path)
    assert (data.train_examples, data.validation_examples, data.test_examples) == (8, 4, 6)
    assert len(data.read("validation").images) == 4


def test_a_stream_and_an_array_have_the_same_images(tmp_path):
    data = load_own(make_classes(tmp_path / "d", count=10), tmp_path)
    for split in ("train", "test"):
        rows = np.array([2, 0, 1])
        np.testing.assert_array_equal(
            data.open(split).read_images(rows), data.read(split).images[rows]
        )


def test_labelled_images_are_read_for_a_network(tmp_path):
    folder = make_classes(tmp_path / "d", ("bee", "ant"), count=3)
    split = read_labelled(folder, ("ant", "bee", "cat"), (16, 16, 1), Settings())
    assert split.images.shape == (6, 16, 16, 1)
    assert split.labels.tolist() == [0, 0, 0, 1, 1, 1]
    with pytest.raises(InputError, match="the class 'bee', which the network does not know"):
        read_labelled(folder, ("ant", "cat"), (16, 16, 1), Settings())


def test_wrong_images_leave_nothing_behind(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=np.zeros((9, 4, 4), np.uint8), y_train=np.zeros(9, int))
    assert_refused(tmp_path, tmp_path / "x.npz", "only the class '0'")
    folder = make_classes(tmp_path / "d")
    (folder / "ant" / "x.png").write_bytes(b"x")
    assert_refused(tmp_path, folder, "1 of 9 files")
