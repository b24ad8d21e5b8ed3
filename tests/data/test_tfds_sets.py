"""Sets of TFDS are read without TensorFlow, and unsuitable ones are refused in one line."""

import contextlib
import io
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from fidle_jax.data import load_dataset, prepared, tfds_sets
from fidle_jax.errors import InputError

NAMES = ["circle", "square", "star"]
LABELED_IMAGE = {
    "image": tfds.features.Image(shape=(6, 5, 3)),
    "label": tfds.features.ClassLabel(names=NAMES),
}


def _images(split):
    return np.random.default_rng(len(split)).integers(0, 256, (9, 6, 5, 3), dtype=np.uint8)


def _png(image):
    # TFDS would encode an array with TensorFlow.
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    return file.getvalue()


class _Shapes(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    SPLITS = ("train", "test")
    FEATURES = LABELED_IMAGE
    UNLABELED = False

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(self.FEATURES),
            supervised_keys=tuple(self.FEATURES)[:2],
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self.SPLITS}

    def _generate_examples(self, split):
        for index, image in enumerate(_images(split)):
            label = -1 if self.UNLABELED else index % 3
            yield index, {"image": _png(image), "label": label}


class Shapes(_Shapes):
    pass


class Validated(_Shapes):
    SPLITS = ("train", "validation")


class Untested(_Shapes):
    SPLITS = ("train", "extra")


class Unlabeled(_Shapes):
    UNLABELED = True


class TwoSizes(_Shapes):
    FEATURES = LABELED_IMAGE | {"image": tfds.features.Image(shape=(None, None, 3))}


class Deep(_Shapes):
    FEATURES = LABELED_IMAGE | {"image": tfds.features.Image(shape=(6, 5, 1), dtype=np.uint16)}


class Regression(_Shapes):
    FEATURES = LABELED_IMAGE | {"label": tfds.features.Scalar(dtype=np.int64)}


@pytest.fixture
def prepare(tmp_path):
    """``prepare(builder_class)`` prepares a set and returns the data folder."""

    def prepare(builder_class):
        prepared.run_builder(builder_class(data_dir=tmp_path))
        return tmp_path

    return prepare


@pytest.fixture
def tensorflow(monkeypatch):
    """``tensorflow(there)`` determines whether TensorFlow seems to be installed."""

    def install(there):
        monkeypatch.setattr(
            tfds_sets.importlib.util, "find_spec", lambda name: object() if there else None
        )

    return install


def test_a_prepared_set_is_read_without_tensorflow(prepare, tensorflow):
    tensorflow(False)
    shapes = load_dataset("tfds:shapes", data_dir=prepare(Shapes))
    assert (shapes.name, shapes.variant) == ("tfds:shapes", "full")
    assert (shapes.class_names, shapes.image_shape) == (tuple(NAMES), (6, 5, 3))
    assert (shapes.train_examples, shapes.test_examples) == (9, 9)
    for split in "train", "test":
        read = shapes.read(split)
        assert (read.images == _images(split)).all()
        assert read.labels.tolist() == [0, 1, 2] * 3
        assert (read.images.dtype, read.labels.dtype) == (np.uint8, np.int32)
        opened, rows = shapes.open(split), np.array([8, 2, 2])
        assert (opened.read_images(rows) == _images(split)[rows]).all()
        assert opened.labels.tolist() == [0, 1, 2] * 3


@pytest.mark.parametrize("get", ["read('train')", "open('train').read_images(numpy.arange(3))"])
def test_a_set_whose_builder_is_unknown_is_read_silently(prepare, get):
    code = (
        "import numpy; from pathlib import Path; from fidle_jax.data import load_dataset; "
        f"load_dataset('tfds:shapes', data_dir=Path({str(prepare(Shapes))!r})).{get}"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_validation_replaces_a_missing_test_split(prepare):
    shapes = load_dataset("tfds:validated", data_dir=prepare(Validated))
    assert (shapes.read("test").images == _images("validation")).all()


def test_a_set_without_a_test_split_is_refused(prepare):
    data_dir = prepare(Untested)
    with pytest.raises(InputError, match=r"has the splits .*extra.*; expected train, and test or"):
        load_dataset("tfds:untested", data_dir=data_dir)


def test_images_without_a_label_are_refused(prepare):
    unlabeled = load_dataset("tfds:unlabeled", data_dir=prepare(Unlabeled))
    with pytest.raises(InputError, match=r"the test split in .* contains images without labels"):
        unlabeled.read("test")
    with pytest.raises(InputError, match=r"the test split in .* contains images without labels"):
        unlabeled.open("test")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("two_sizes", r"images of shape \(None, None, 3\) and type uint8; expected one"),
        ("deep", r"images of shape \(6, 5, 1\) and type uint16; expected one"),
        ("regression", "is not an image classification set"),
        ("fashion_mnits", "unknown TFDS data set 'fashion_mnits'; did you mean fashion_mnist"),
        ("qqqqqqqq", "unknown TFDS data set 'qqqqqqqq'; see tfds.list_builders"),
        ("emnist/letter", "cannot be loaded: .*BuilderConfig letter not found"),
        ("", "tfds: cannot be loaded"),
    ],
)
def test_unsuitable_sets_are_named_in_one_line(name, message, tmp_path):
    with pytest.raises(InputError, match=message) as caught:
        load_dataset(f"tfds:{name}", data_dir=tmp_path / "data")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_preparing_without_tensorflow_is_refused_with_the_command(tensorflow, tmp_path, capfd):
    tensorflow(False)
    data_dir = tmp_path / "data"
    with pytest.raises(InputError, match="preparing it requires TensorFlow") as caught:
        load_dataset("tfds:fashion_mnist", data_dir=data_dir)
    command = str(caught.value).partition("run once: ")[2]
    assert command == (
        'pip install tensorflow && python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder('fashion_mnist', data_dir='{data_dir}')"
        ".download_and_prepare(file_format='array_record')\""
    )
    assert capfd.readouterr() == ("", "")
    assert not data_dir.exists()


def test_the_printed_command_prepares_the_set(tmp_path):
    code = tfds_sets._prepare_command("shapes", tmp_path).partition('"')[2].rstrip('"')
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code, {})
    assert len(load_dataset("tfds:shapes", data_dir=tmp_path).read("train").labels) == 9


def test_preparing_without_a_network_is_refused_in_time(tensorflow, tmp_path, monkeypatch):
    tensorflow(True)
    monkeypatch.setattr(prepared, "_answers", lambda url, seconds: time.sleep(30))
    start = time.monotonic()
    with pytest.raises(
        InputError, match=r"http\S+ does not answer; on a machine with a network, run"
    ):
        load_dataset("tfds:fashion_mnist", data_dir=tmp_path / "data")
    assert time.monotonic() - start < 6
    assert not (tmp_path / "data").exists()


def test_a_set_is_prepared_if_tensorflow_is_installed(tensorflow, tmp_path):
    tensorflow(True)
    shapes = load_dataset("tfds:shapes", data_dir=tmp_path)
    assert shapes.read("train").labels.tolist() == [0, 1, 2] * 3


def test_a_preparation_that_fails_is_reported_in_one_line(tensorflow, tmp_path):
    tensorflow(True)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"shapes cannot be prepared in .*file") as caught:
        load_dataset("tfds:shapes", data_dir=tmp_path / "file" / "data")
    assert "\n" not in str(caught.value)


def test_a_set_prepared_in_another_format_is_refused_with_the_command(prepare):
    data_dir = prepare(Shapes)
    info = data_dir / "shapes" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    for path in info.parent.glob("*array_record*"):
        path.rename(path.with_name(path.name.replace("array_record", "tfrecord")))
    with pytest.raises(InputError, match=r"but not as array_record; delete that folder and run"):
        load_dataset("tfds:shapes", data_dir=data_dir)


def test_damaged_prepared_data_is_named(prepare):
    data_dir = prepare(Shapes)
    shapes = load_dataset("tfds:shapes", data_dir=data_dir)
    for path in (data_dir / "shapes" / "1.0.0").glob("*train*"):
        path.write_bytes(b"damaged")
    for get in shapes.read, shapes.open:
        with pytest.raises(InputError, match=r"1\.0\.0 is damaged; delete that folder"):
            get("train")
