"""Tests of run directories: they are created once, never overwritten, and checked when read."""

import functools
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from fidle_jax.errors import InputError
from fidle_jax.files import read_json
from fidle_jax.train import run_dir as run_dirs
from fidle_jax.train.config import Config, to_json
from fidle_jax.train.run_content import read_evaluation, read_run
from tests.made_up_run import write_run


def test_default_directories_of_runs_started_in_a_row_differ():
    names = set()
    for _ in range(3):
        names.add(run_dirs.default_run_dir("mnist_cnn"))
        time.sleep(0.002)
    assert len(names) == 3
    assert all(name.parent.as_posix() == "runs/mnist_cnn" for name in names)


def test_one_process_at_a_time_holds_a_directory(tmp_path):
    with (
        run_dirs.hold(tmp_path / "run"),
        pytest.raises(InputError, match="another process is writing"),
    ):
        run_dirs.hold(tmp_path / "run").__enter__()
    with run_dirs.hold(tmp_path / "run"):
        pass


def test_a_run_that_was_started_in_the_meantime_is_not_overwritten(tmp_path):
    run_dirs.check_new(tmp_path)
    with run_dirs.hold(tmp_path):
        run_dirs.begin(tmp_path, {"seed": 1}, {})
    with run_dirs.hold(tmp_path), pytest.raises(InputError, match="holds another run"):
        run_dirs.begin(tmp_path, {"seed": 2}, {})
    assert read_json(tmp_path / "config.json", {}) == {"seed": 1}


def test_files_of_a_run_that_was_killed_at_its_start_do_not_block_a_new_run(tmp_path):
    (tmp_path / "model.json").write_text("{}")
    (tmp_path / ".config.json.123.part").write_text("{")
    run_dirs.check_new(tmp_path)
    with run_dirs.hold(tmp_path):
        run_dirs.begin(tmp_path, {}, {})
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "config.json", "model.json"}


def test_a_directory_with_any_files_is_refused_for_a_new_run(tmp_path):
    run_dirs.check_new(tmp_path)
    run_dirs.check_new(tmp_path / "not" / "there")
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        run_dirs.check_new(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="holds another run; give --resume"):
        run_dirs.check_new(tmp_path)
    with pytest.raises(InputError, match="is a file"):
        run_dirs.check_new(tmp_path / "thesis.txt" / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="no permission"):
        run_dirs.check_new(tmp_path / "run")


@pytest.mark.parametrize("name", ["/proc/no/run", "x" * 300])
def test_a_directory_that_cannot_be_created_is_refused(name, tmp_path):
    with pytest.raises(InputError, match="cannot be"):
        run_dirs.hold(tmp_path / name).__enter__()
    with pytest.raises(InputError, match=r"cannot be used|there is no run"):
        run_dirs.read_config(tmp_path / name, "mnist_cnn")


def test_the_config_is_read_with_its_paths_but_without_the_archives(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Config().replace(
        seed=5, run_dir=tmp_path, data_dir=Path("data"), archives=Path("archives")
    )
    run_dirs.begin(tmp_path, to_json(config) | {"experiment": "mnist_cnn"}, {"layers": []})
    expected = config.replace(archives=None, data_dir=tmp_path / "data")
    assert run_dirs.read_config(tmp_path, "mnist_cnn") == expected
    with pytest.raises(InputError, match=r"belongs to mnist_cnn; to resume it: python exp"):
        run_dirs.read_config(tmp_path, "mnist_dnn")


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"dropout": 3}', '{"epochs": "x"}'])
def test_an_invalid_config_is_named(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        run_dirs.read_config(tmp_path, "mnist_cnn")


def test_an_empty_directory_has_no_run_to_resume(tmp_path):
    with pytest.raises(InputError, match="there is no run"):
        run_dirs.read_config(tmp_path, "mnist_cnn")


def test_a_run_is_finished_if_it_has_a_report(tmp_path):
    (tmp_path / "result.json").write_text(json.dumps({"test_accuracy": 0.5}))
    assert run_dirs.finished_result(tmp_path) is None
    (tmp_path / "report.html").write_text("")
    assert run_dirs.finished_result(tmp_path) == {"test_accuracy": 0.5}
    (tmp_path / "result.json").write_text('{"test_acc')
    with pytest.raises(InputError, match=r"result\.json cannot be read"):
        run_dirs.finished_result(tmp_path)


FILES = (
    "config.json",
    "metrics.csv",
    "result.json",
    "model.json",
    "evaluation.npz",
    "layers.npz",
)


@pytest.fixture
def make_run(tmp_path):
    """``make_run(**options)`` writes a run directory and returns it."""
    return functools.partial(write_run, tmp_path)


def assert_refused(run_dir, name):
    with pytest.raises(InputError) as caught:
        read_run(run_dir)
    assert str(run_dir / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def change(path, **changes):
    """Change entries of a JSON or npz file. None removes an array."""
    if path.suffix == ".json":
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        return
    with np.load(path) as arrays:
        content = dict(arrays) | changes
    np.savez(path, **{name: array for name, array in content.items() if array is not None})


def test_a_complete_run_is_read(make_run):
    run = read_run(make_run(classes=4, epochs=3, groups=True, augmented=True))
    assert run.config["batch_size"] == 512
    assert run.metrics["epoch"].tolist() == [1, 2, 3]
    assert run.evaluation.images.shape == (40, 8, 8, 1)
    assert run.evaluation.class_names[3] == "class 3"
    assert (run.evaluation.predicted != run.evaluation.labels).sum() == 5
    assert run.evaluation.groups.names == ["first", "others"]
    assert run.evaluation.groups.of_class.tolist() == [0, 1, 1, 1]
    assert run.kernels["conv_1"].shape == (3, 3, 1, 4)
    assert list(run.maps) == ["00 input", "01 conv_1", "02 flatten", "03 dense_1"]
    assert run.digit == 7
    assert run.augmented.versions.shape == (32, 8, 8, 1)
    assert (run.augmented.label, run.augmented.labels[1]) == (1, 2)


def test_groups_augmentation_validation_and_epochs_are_optional(make_run):
    run = read_run(make_run(validation=False))
    assert run.evaluation.groups is None
    assert run.augmented is None
    assert np.isnan(run.metrics["validation_loss"]).all()
    assert np.isfinite(run.metrics["train_loss"]).all()
    assert len(read_run(make_run(epochs=0)).metrics["epoch"]) == 0


def test_kernels_are_in_the_order_of_the_network(make_run):
    run_dir = make_run()
    change(run_dir / "layers.npz", **{"kernel/a_last": np.ones((3, 3, 4, 4), np.float32)})
    layers = json.loads((run_dir / "model.json").read_text())["layers"]
    change(run_dir / "model.json", layers=[*layers, layers[-1] | {"name": "a_last"}])
    assert list(read_run(run_dir).kernels) == ["conv_1", "a_last"]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_different_file_is_named(make_run, name):
    path = make_run() / name
    for content in (b"", b"\x80\x02garbage\n\n\x00", b"[1, 2]"):
        path.write_bytes(content)
        assert_refused(path.parent, name)
    path.unlink()
    assert_refused(path.parent, name)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_read_or_refused_but_never_crashes(make_run, name):
    run_dir, rng = make_run(), np.random.default_rng(0)
    content = (run_dir / name).read_bytes()
    for at in rng.integers(0, len(content), 40):
        flipped = bytes([content[at] ^ rng.integers(1, 256)]) + content[at + 1 :]
        (run_dir / name).write_bytes(content[:at] + (flipped if at % 2 else b""))
        try:
            read_run(run_dir)
        except InputError as error:
            assert name in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        pytest.param(10, 99, id="unknown compression"),
        pytest.param(8, 1, id="encrypted"),
        pytest.param(8, 64, id="strong encryption"),
        pytest.param(6, 215, id="later version"),
    ],
)
def test_an_archive_that_zip_cannot_read_is_refused(make_run, offset, value):
    path = make_run() / "layers.npz"
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + offset] = value
    path.write_bytes(content)
    assert_refused(path.parent, "layers.npz")


INCONSISTENT = {
    "result.json": [
        {"test_accuracy": None},
        {"test_accuracy": 98.7},
        {"test_loss": "low"},
        {"epochs": None},
        {"peak_memory_bytes": "much"},
        {"versions": "all"},
    ],
    "model.json": [
        {"layers": 3},
        {"layers": [3]},
        {"layers": [{"name": "conv_1"}]},
        {"parameters": "many"},
        {"class_names": []},
        {"class_names": [1, 2, 3]},
        {"image_shape": [8, 8]},
        {"class_groups": {"first": [0], "others": [1]}},
        {"class_groups": {"first": [0], "others": [1, 2, 2]}},
        {"class_groups": {"first": 0, "others": [1, "2"]}},
        {"class_groups": [0, 1, 2]},
    ],
    "evaluation.npz": [
        {"labels": None},
        {"labels": np.full(40, 3)},
        {"labels": np.full(40, -1)},
        {"labels": np.zeros(40)},
        {"labels": np.zeros(39, int)},
        {"labels": np.array(["a", {}] * 20, dtype=object)},
        {"images": np.zeros((40, 8, 8, 2), np.uint8)},
        {"images": np.zeros((40, 8, 8, 1), np.float32)},
        {"images": np.zeros((0, 8, 8, 1), np.uint8), "labels": np.zeros(0, int)},
        {"probabilities": np.full((40, 3), np.nan)},
        {"probabilities": np.zeros((40, 4))},
    ],
    "augmented.npz": [
        {"image": None},
        {"image": np.zeros((8, 8), np.uint8)},
        {"image": np.zeros((8, 8, 1), np.float32)},
        {"image": np.zeros((9, 8, 1), np.uint8)},
        {"versions": np.zeros((0, 8, 8, 1), np.uint8), "labels": np.zeros(0, int)},
        {"versions": np.zeros((32, 8, 8, 1), np.float32)},
        {"label": np.array([1])},
        {"label": 1.0},
        {"label": 3},
        {"labels": np.zeros(31, int)},
        {"labels": np.full(32, -1)},
    ],
    "layers.npz": [
        {"digit": None},
        {"digit": 40},
        {"digit": 1.5},
        {"kernel/conv_1": np.zeros((3, 3))},
        {"map/01 conv_1": np.zeros((6, 6))},
        {f"map/{name}": None for name in ("00 input", "01 conv_1", "02 flatten", "03 dense_1")},
    ],
}


@pytest.mark.parametrize("name", INCONSISTENT)
def test_values_of_the_wrong_type_shape_or_range_are_refused(make_run, name):
    path = make_run(augmented=True) / name
    content = path.read_bytes()
    for changes in INCONSISTENT[name]:
        change(path, **changes)
        assert_refused(path.parent, name)
        path.write_bytes(content)


def test_the_message_names_the_file_the_value_and_what_was_expected(make_run):
    path = make_run() / "evaluation.npz"
    change(path, labels=np.zeros(40))
    with pytest.raises(InputError) as caught:
        read_evaluation(path.parent)
    assert str(caught.value) == (
        f"{path} cannot be read (labels is float64(40,); expected Integer[ndarray, '40']); "
        "restore the file that the run wrote, or run again"
    )


def test_text_in_the_metrics_is_refused(make_run):
    path = make_run() / "metrics.csv"
    path.write_text(path.read_text().replace("0.5", "half"))
    assert_refused(path.parent, "metrics.csv")
