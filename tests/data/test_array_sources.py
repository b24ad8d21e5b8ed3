"""idx and .npz files: layouts, damaged and hostile files."""

import gzip
import io
import pickle
import struct
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidle_jax.data import array_sources
from fidle_jax.data.array_sources import label_names
from fidle_jax.data.sources import find_source
from fidle_jax.errors import InputError

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 6, 5), np.uint8)
LABELS = np.arange(10) % 3


def _read(source, split="train"):
    examples = source.splits[split]
    return np.stack(list(examples.read())), list(examples.labels)


def _idx(array):
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def _write_idx(folder, prefix="", images=None, labels=None):
    (folder / f"{prefix}train-images-idx3-ubyte").write_bytes(images or _idx(IMAGES))
    (folder / f"{prefix}train-labels-idx1-ubyte").write_bytes(labels or _idx(LABELS))
    return folder


@pytest.mark.parametrize("prefix", ["", "emnist-letters-"])
def test_idx_files_are_read_with_any_prefix_and_compressed_or_not(tmp_path, prefix):
    _write_idx(tmp_path, prefix)
    (tmp_path / f"{prefix}t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(_idx(IMAGES[:4])))
    (tmp_path / f"{prefix}t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(_idx(LABELS[:4])))
    source = find_source(tmp_path)
    images, labels = _read(source)
    np.testing.assert_array_equal(images, IMAGES)
    assert labels == [str(label) for label in LABELS]
    np.testing.assert_array_equal(_read(source, "test")[0], IMAGES[:4])
    assert list(find_source(tmp_path / f"{prefix}train-images-idx3-ubyte").splits) == [
        "train",
        "test",
    ]


@given(st.integers(1, 100))
def test_arrays_are_the_same_however_many_bytes_are_read_at_a_time(part):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(array_sources, "PART_BYTES", part)
        np.testing.assert_array_equal(_read(find_source(_write_idx(Path(folder))))[0], IMAGES)


def _header(*shape):
    return struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (_idx(IMAGES)[:-1], None, "shorter than its header"),
        (_idx(IMAGES) + b"x", None, "longer than its header"),
        (b"\0\0\x08\x03\0", None, "ends in its header"),
        (b"\0\0\x0d\x03" + bytes(12), None, "its header is not that"),
        (None, _idx(IMAGES), "labels-idx1-ubyte cannot be read .its header is not that"),
        (None, _idx(LABELS[:9]), "10 images, but there are 9 labels"),
        (_header(4 * 10**9, 6, 5), _header(4 * 10**9), "4,000,000,000 examples; expected at most"),
        (_header(10, 4 * 10**9, 4 * 10**9), None, "expected at most 40,000,000 pixels"),
    ],
)
def test_wrong_idx_files_are_refused_in_one_line(tmp_path, images, labels, message):
    _write_idx(tmp_path, images=images, labels=labels)
    with pytest.raises(InputError, match=message):
        _read(find_source(tmp_path))


def test_missing_labels_and_several_sets_are_refused(tmp_path):
    _write_idx(tmp_path)
    (tmp_path / "kmnist-train-images-idx3-ubyte").write_bytes(_idx(IMAGES))
    with pytest.raises(InputError, match="several data sets"):
        find_source(tmp_path)
    with pytest.raises(InputError, match=r"kmnist-train-labels-idx1-ubyte is missing"):
        find_source(tmp_path / "kmnist-train-images-idx3-ubyte")


def _npz(folder, **arrays):
    np.savez(folder / "x.npz", **arrays)
    return folder / "x.npz"


@pytest.mark.parametrize("names", ["x_{} y_{}", "{}_images {}_labels"])
def test_the_npz_files_of_keras_and_medmnist_are_read(tmp_path, names):
    arrays = {}
    for split, count in (("train", 10), ("val", 3), ("test", 4)):
        x, y = names.replace("{}", split).split()
        arrays |= {x: IMAGES[:count], y: LABELS[:count, None]}
    source = find_source(_npz(tmp_path, **arrays))
    assert list(source.splits) == ["train", "validation", "test"]
    images, labels = _read(source)
    np.testing.assert_array_equal(images, IMAGES)
    assert labels == [str(label) for label in LABELS]
    assert list(find_source(tmp_path).splits) == ["train", "validation", "test"]


class _Trap:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y_train": np.array([_Trap()] * 10, object)}, "y_train contains Python objects"),
        ({"x_train": np.array([_Trap()] * 10, object)}, "x_train contains Python objects"),
        ({"x_train": IMAGES / 255}, "x_train has the type float64; expected uint8"),
        ({"x_train": IMAGES.reshape(10, -1)}, r"has the shape \(10, 30\)"),
        ({"x_train": np.zeros((10, 5, 5, 2), np.uint8)}, "with 1 or 3 channels"),
        ({"x_train": IMAGES[:0]}, "0 images, but there are 10 labels"),
        ({"x_train": np.asfortranarray(IMAGES)}, "Fortran order"),
        ({"y_train": LABELS - 1}, "label of example 0 is -1"),
        ({"y_train": LABELS * np.nan}, "float64; expected one whole number"),
        ({"y_train": np.eye(3, dtype=int)[LABELS]}, r"shape \(10, 3\)"),
        ({"y_train": np.array(3)}, r"shape \(\)"),
        ({"y_train": LABELS[:9]}, "10 images, but there are 9 labels"),
    ],
)
def test_wrong_arrays_are_refused_in_one_line_and_never_unpickled(tmp_path, arrays, message):
    path = _npz(tmp_path, **{"x_train": IMAGES, "y_train": LABELS} | arrays)
    with pytest.raises(InputError, match=message):
        find_source(path)


def _zip(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (shape, descr, content) in members.items():
            file = io.BytesIO()
            header = {"shape": shape, "descr": descr, "fortran_order": False}
            np.lib.format.write_array_header_1_0(file, header)
            archive.writestr(f"{name}.npy", file.getvalue() + content)
    return path


@pytest.mark.parametrize(
    ("shape", "label_shape", "descr", "message"),
    [
        ((10**12, 8, 8), (10**12,), "<i8", "1,000,000,000,000 examples; expected at most"),
        ((10, 10**6, 10**6), (10,), "<i8", "expected at most 40,000,000 pixels"),
        ((10, 8, 8), (10,), "<U99999999", "type <U99999999; expected one whole number or name"),
        ((-1, 8, 8), (-1,), "<i8", "but there are 0 labels"),
    ],
)
def test_headers_that_claim_too_much_are_refused(tmp_path, shape, label_shape, descr, message):
    members = {"x_train": (shape, "|u1", b""), "y_train": (label_shape, descr, bytes(80))}
    with pytest.raises(InputError, match=message):
        find_source(_zip(tmp_path / "x.npz", **members))


@pytest.mark.parametrize("content", [b"", b"hello", pickle.dumps({"x_train": 1})])
def test_files_that_are_no_archive_are_refused(tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.npz cannot be read"):
        find_source(tmp_path / "x.npz")


def test_other_arrays_are_named(tmp_path):
    with pytest.raises(InputError, match="has the arrays data; expected x_train, y_train"):
        find_source(_npz(tmp_path, data=IMAGES))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["0", "-1"], "example 1 is -1"),
        (["1", "nan"], "example 1 is nan"),
        (["1", "0.5"], "example 1 is 0.5"),
        (["1", "1e3"], "example 1 is 1e3"),
        (["a", " "], "example 1 is ' '"),
        (["a", "x" * 201], "1 to 200 characters"),
    ],
)
def test_labels_are_whole_numbers_or_names(tmp_path, labels, message):
    with pytest.raises(InputError, match=message):
        label_names(tmp_path, labels)


@given(st.lists(st.integers(0, 2**63 - 1)))
def test_natural_numbers_are_labels(numbers):
    assert label_names(Path("x"), np.array(numbers, np.int64)) == [str(n) for n in numbers]
