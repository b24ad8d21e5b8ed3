"""Run directories: made once, never overwritten."""

import dataclasses
import json
import os
import time
from pathlib import Path

import pytest

from fidle_jax.errors import InputError
from fidle_jax.train import run_dir as run_dirs
from fidle_jax.train.config import Config, to_json


def test_the_default_directory_tells_runs_apart_that_are_begun_one_after_the_other():
    names = set()
    for _ in range(3):
        names.add(run_dirs.default_run_dir("mnist_cnn"))
        time.sleep(0.002)
    assert len(names) == 3
    assert all(name.parent.as_posix() == "runs/mnist_cnn" for name in names)


def test_a_directory_is_held_by_one_process_at_a_time(tmp_path):
    with (
        run_dirs.hold(tmp_path / "run"),
        pytest.raises(InputError, match="another process is writing"),
    ):
        run_dirs.hold(tmp_path / "run").__enter__()
    with run_dirs.hold(tmp_path / "run"):
        pass


def test_a_run_that_another_one_began_in_the_meantime_is_not_overwritten(tmp_path):
    run_dirs.check_new(tmp_path)
    with run_dirs.hold(tmp_path):
        run_dirs.begin(tmp_path, {"seed": 1}, {})
    with run_dirs.hold(tmp_path), pytest.raises(InputError, match="holds another run"):
        run_dirs.begin(tmp_path, {"seed": 2}, {})
    assert json.loads((tmp_path / "config.json").read_text()) == {"seed": 1}


def test_what_a_run_left_that_was_killed_while_it_began_is_no_run(tmp_path):
    (tmp_path / "model.json").write_text("{}")
    (tmp_path / ".config.json.123.part").write_text("{")
    run_dirs.check_new(tmp_path)
    with run_dirs.hold(tmp_path):
        run_dirs.begin(tmp_path, {}, {})
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "config.json", "model.json"}


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


@pytest.mark.parametrize("name", ["/proc/no/run", "x" * 300])
def test_a_directory_that_cannot_be_made_is_refused(name, tmp_path):
    with pytest.raises(InputError, match="cannot be"):
        run_dirs.hold(tmp_path / name).__enter__()
    with pytest.raises(InputError, match=r"cannot be used|no run to go on with"):
        run_dirs.read_config(tmp_path / name, "mnist_cnn")


def test_the_config_is_read_back_with_its_paths_but_without_the_archives(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Config(seed=5, run_dir=tmp_path, data_dir=Path("data"), archives=Path("archives"))
    run_dirs.begin(tmp_path, to_json(config) | {"experiment": "mnist_cnn"}, {"layers": []})
    expected = dataclasses.replace(config, archives=None, data_dir=tmp_path / "data")
    assert run_dirs.read_config(tmp_path, "mnist_cnn") == expected
    with pytest.raises(InputError, match=r"is one of mnist_cnn\.py"):
        run_dirs.read_config(tmp_path, "mnist_dnn")


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"dropout": 3}', '{"epochs": "x"}'])
def test_a_config_that_cannot_be_read_is_named(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        run_dirs.read_config(tmp_path, "mnist_cnn")


def test_where_there_is_no_run_there_is_nothing_to_go_on_with(tmp_path):
    with pytest.raises(InputError, match="no run to go on with"):
        run_dirs.read_config(tmp_path, "mnist_cnn")


def test_a_run_is_finished_once_its_report_is_there(tmp_path):
    (tmp_path / "result.json").write_text(json.dumps({"test_accuracy": 0.5}))
    assert run_dirs.finished_result(tmp_path) is None
    (tmp_path / "report.html").write_text("")
    assert run_dirs.finished_result(tmp_path) == {"test_accuracy": 0.5}
    (tmp_path / "result.json").write_text('{"test_acc')
    with pytest.raises(InputError, match=r"result\.json cannot be read"):
        run_dirs.finished_result(tmp_path)
