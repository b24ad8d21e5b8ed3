import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fidle_jax.data import load, load_dataset
from fidle_jax.errors import InputError

FIRST = "t10k-images-idx3-ubyte.gz"


@pytest.fixture
def network(monkeypatch):
    """Turns the network off; gives the list of what was probed."""
    probed = []

    def unreachable(url):
        probed.append(url)
        return False

    monkeypatch.setattr(load, "reachable", unreachable)
    return probed


def test_importing_the_room_imports_nothing_heavy():
    heavy = "jax", "tensorflow_datasets", "sklearn", "matplotlib", "pandas", "mlxtend", "requests"
    code = f"import sys, fidle_jax.data; print(*sys.modules.keys() & set({heavy}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_auto_takes_the_sample_with_one_warning_where_there_is_no_network(
    network, tmp_path, caplog
):
    digits = load_dataset("mnist", data_dir=tmp_path / "data")
    assert digits.variant == "sample"
    (warning,) = caplog.records
    assert (warning.name, warning.levelno) == ("fidle_jax", logging.WARNING)
    assert "sample" in warning.getMessage()
    assert "--archives DIR" in warning.getMessage()
    assert "\n" not in warning.getMessage()
    assert network == ["https://storage.googleapis.com/cvdf-datasets/mnist/" + FIRST]
    assert not (tmp_path / "data").exists()


def test_full_fails_where_there_is_no_network(network, tmp_path):
    with pytest.raises(InputError, match=r"no network answers; give the folder .* --archives DIR"):
        load_dataset("mnist", data="full", data_dir=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_without_a_network_auto_decides_within_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("fidle_jax.data.network._answers", lambda url, seconds: time.sleep(30))
    start = time.monotonic()
    assert load_dataset("mnist", data_dir=tmp_path / "data").variant == "sample"
    assert time.monotonic() - start < 6


def test_auto_and_full_prepare_from_archives_and_find_what_is_prepared(made_up, network, tmp_path):
    for data in "auto", "full":
        data_dir = tmp_path / data
        digits = load_dataset("mnist", data=data, archives=made_up, data_dir=data_dir)
        assert digits.variant == "full"
        assert not data_dir.exists(), "prepared before anything was read"
        digits.read("test")
        assert load_dataset("mnist", data=data, data_dir=data_dir).variant == "full"
    assert network == []


def test_sample_is_the_sample_whatever_is_prepared(made_up, network, tmp_path):
    load_dataset("mnist", archives=made_up, data_dir=tmp_path).read("test")
    digits = load_dataset("mnist", data="sample", data_dir=tmp_path, seed=2)
    assert digits.variant == "sample"
    assert network == []


def test_the_environment_stands_in_for_the_archives(made_up, network, tmp_path, monkeypatch):
    monkeypatch.setenv("FIDLE_JAX_ARCHIVES", str(made_up))
    assert load_dataset("mnist", data_dir=tmp_path / "data").variant == "full"


@pytest.mark.parametrize("data", ["auto", "full", "sample"])
def test_bad_archives_are_an_error_in_every_mode_and_leave_no_trace(
    made_up, network, tmp_path, data
):
    (made_up / FIRST).write_bytes(b"no gzip")
    with pytest.raises(InputError, match=f"{FIRST}: not a gzip file"):
        load_dataset("mnist", data=data, archives=made_up, data_dir=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_bad_archives_are_an_error_even_where_the_set_is_prepared(made_up, network, tmp_path):
    load_dataset("mnist", archives=made_up, data_dir=tmp_path).read("test")
    (made_up / FIRST).unlink()
    with pytest.raises(InputError, match=f"{FIRST} is missing"):
        load_dataset("mnist", archives=made_up, data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("minst", {}, "unknown dataset 'minst'; did you mean mnist"),
        ("mnist", {"data": "ful"}, "unknown data 'ful'; did you mean full"),
        ("mnist", {"seed": -1}, "seed -1 is not a whole number"),
        ("mnist", {"archives": Path("/no/such")}, "archives folder /no/such does not exist"),
        ("tfds:mnist", {"data": "sample"}, "tfds:mnist has no sample"),
        ("tfds:mnist", {"archives": Path("/x")}, "archives /x are those of mnist"),
        ("24x24-RBG", {}, "unknown dataset '24x24-RBG'; did you mean 24x24-RGB"),
        ("24x24-L", {"crop": "rio"}, "unknown value of --crop 'rio'; did you mean roi"),
        ("24x24-L", {"data": "sample"}, "24x24-L has no sample"),
    ],
)
def test_bad_arguments_are_named_in_one_line(name, arguments, message, tmp_path):
    with pytest.raises(InputError, match=message) as caught:
        load_dataset(name, data_dir=tmp_path / "data", **arguments)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_a_data_folder_that_cannot_be_written_is_named(made_up, tmp_path):
    (tmp_path / "file").touch()
    digits = load_dataset("mnist", archives=made_up, data_dir=tmp_path / "file" / "data")
    with pytest.raises(InputError, match=r"file/data.* another folder with --data-dir"):
        digits.read("train")


def test_signs_are_prepared_from_archives_when_read_and_found_then(
    made_up_signs, network, tmp_path
):
    data_dir = tmp_path / "data"
    signs = load_dataset("24x24-L", archives=made_up_signs, data_dir=data_dir)
    assert (signs.name, signs.variant, signs.image_shape) == ("24x24-L", "full", (24, 24, 1))
    assert len(signs.class_names) == len(signs.mirrored) == 43
    assert not list(data_dir.rglob("*.array_record*")), "prepared before anything was read"
    signs.read("test")
    assert len(load_dataset("24x24-L", data_dir=data_dir).read("train").labels) == 89
    assert network == []


def test_signs_fail_where_there_are_no_archives_and_no_network(network, tmp_path):
    named = r"GTSRB 24x24-L is not prepared, and no network answers; .* --archives DIR"
    with pytest.raises(InputError, match=named):
        load_dataset("24x24-L", data_dir=tmp_path / "data")
    assert len(network) == 1
    assert not (tmp_path / "data").exists()


def test_one_folder_may_hold_the_archives_of_both_sets_in_folders_of_their_names(
    made_up, made_up_signs, network, tmp_path, monkeypatch
):
    both = tmp_path / "both"
    both.mkdir()
    made_up.rename(both / "mnist")
    made_up_signs.rename(both / "gtsrb")
    digits = load_dataset("mnist", archives=both, data_dir=tmp_path / "data")
    assert len(digits.read("train").labels) == 60
    monkeypatch.setenv("FIDLE_JAX_ARCHIVES", str(both))
    signs = load_dataset("24x24-L", data_dir=tmp_path / "data")
    assert len(signs.read("train").labels) == 89
