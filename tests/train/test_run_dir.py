"""Run directories: made once, never overwritten."""

import json
import os

import pytest

from fidle_jax.errors import InputError
from fidle_jax.train import run_dir as run_dirs
from fidle_jax.train.config import Config, to_json


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "metrics.csv"
    run_dirs.write_beside(path, "old")

    def no_space(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        run_dirs.write_beside(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_runs_begun_in_the_same_second_get_two_directories(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = set()
    for _ in range(3):
        path = run_dirs.default_run_dir("mnist_cnn")
        path.mkdir(parents=True)
        names.add(path)
    assert len(names) == 3
    assert all(name.parent.as_posix() == "runs/mnist_cnn" for name in names)


def test_a_directory_that_holds_anything_is_never_taken_for_a_new_run(tmp_path):
    run_dirs.check_new(tmp_path)
    run_dirs.check_new(tmp_path / "not" / "there")
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        run_dirs.check_new(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="holds another run; give --resume"):
        run_dirs.check_new(tmp_path)


def test_a_directory_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        run_dirs.check_new(tmp_path / "file" / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="no permission"):
        run_dirs.check_new(tmp_path / "run")


def test_a_directory_that_cannot_be_made_is_refused():
    with pytest.raises(InputError, match="cannot be written"):
        run_dirs.create(run_dirs.Path("/proc/no/run"), {}, {})


def test_the_config_is_read_back(tmp_path):
    config = Config(seed=5, run_dir=tmp_path)
    run_dirs.create(tmp_path, to_json(config) | {"command": "python mnist_cnn.py"}, {"layers": []})
    assert run_dirs.read_config(tmp_path) == config


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"dropout": 3}'])
def test_a_config_that_cannot_be_read_is_named(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        run_dirs.read_config(tmp_path)


def test_where_there_is_no_run_there_is_nothing_to_go_on_with(tmp_path):
    with pytest.raises(InputError, match="no run to go on with"):
        run_dirs.read_config(tmp_path)


def test_a_run_is_finished_once_its_report_is_there(tmp_path):
    (tmp_path / "result.json").write_text(json.dumps({"test_accuracy": 0.5}))
    assert run_dirs.finished_result(tmp_path) is None
    (tmp_path / "report.html").write_text("")
    assert run_dirs.finished_result(tmp_path) == {"test_accuracy": 0.5}
