"""The command line as a person meets it: help, exit statuses, one line an error."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def call(*flags, experiment="mnist_cnn", **environment):
    return subprocess.run(
        [sys.executable, EXPERIMENTS / f"{experiment}.py", *map(str, flags)],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "80"} | environment,
        timeout=300,
    )


@pytest.mark.parametrize("experiment", ["mnist_cnn", "mnist_dnn"])
def test_help_explains_each_flag_with_its_default_and_does_not_import_jax(experiment):
    done = call("--help", experiment=experiment, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0
    for flag in ("--data", "--archives", "--epochs", "--resume", "--no-progress", "--run-dir"):
        assert re.search(rf"{flag}\b", done.stdout)
    assert "(default: 0.1)" in done.stdout
    assert not re.search(r"\| +(jax|tensorflow_datasets|orbax)$", done.stderr, re.MULTILINE)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--learning-rate", "fast"], "--learning-rate is 'fast'; it must be a number"),
        (["--learning-rate", "nan"], "--learning-rate is nan"),
        (["--epochs", "-1"], "--epochs is -1; it must be at least 0"),
        (["--epochs", "1.5"], "--epochs is '1.5'; it must be a whole number"),
        (["--batch-size", "0"], "--batch-size is 0; it must be at least 1"),
        (["--epoch", "3"], "unknown flag --epoch; did you mean --epochs?"),
        (["--lr=3e-3"], "unknown flag --lr; did you mean --learning-rate?"),
        (["--bs", "64"], "unknown flag --bs; did you mean --batch-size?"),
        (["--no-progres"], "unknown flag --no-progres; did you mean --no-progress?"),
        (["--xyz"], "unknown flag --xyz; --help lists all flags"),
        (["3"], "unexpected argument '3'"),
        (["--epochs"], "--epochs has no value"),
        (["--optimizer", "adm"], "did you mean adam"),
        (["--schedule", "cosin"], "did you mean cosine"),
        (["--model", "cn"], "did you mean cnn"),
        (["--dataset", "mnst"], "did you mean mnist"),
        (["--resume"], "--resume needs --run-dir"),
        (["--archives", "no/such/folder"], "no/such/folder"),
        (["--data", "sample", "--batch-size", "3601"], "it must be at most 3600"),
    ],
)
def test_wrong_input_is_one_line_and_status_2_and_touches_nothing(flags, named, tmp_path):
    run_dir, data_dir = tmp_path / "run", tmp_path / "data"
    paths = ["--data-dir", data_dir] if "--resume" in flags else ["--run-dir", run_dir]
    done = call(*flags, *paths, FIDLE_JAX_ARCHIVES="")
    assert done.returncode == 2
    assert named in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not run_dir.exists()
    assert not data_dir.exists()


def test_a_job_here_shows_what_its_run_prints_and_has_its_status(tmp_path):
    flags = (
        "--launch",
        "local",
        "--data",
        "sample",
        "--dropout",
        "0.1",
        "--run-dir",
        tmp_path / "run",
    )
    done = call(*flags)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: dropout 0.1 does not fit")
    assert done.stdout.startswith("job ")


def test_debug_shows_the_traceback():
    done = call("--epochs", "-1", "--debug")
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def _catches(pid, number):
    """Whether the process has a handler for the signal, as Linux tells."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(re.search(r"^SigCgt:\s*(\w+)", status, re.MULTILINE)[1], 16)
    return caught >> (number - 1) & 1


def _has_loaded(pid, library):
    return library in Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc that tells of signals")
@pytest.mark.parametrize("loaded", ["", "jaxlib"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_starts_is_one_line_and_status_130(number, loaded, tmp_path):
    process = subprocess.Popen(
        [sys.executable, EXPERIMENTS / "mnist_cnn.py", "--run-dir", tmp_path / "run"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not _catches(process.pid, signal.SIGTERM) or not _has_loaded(process.pid, loaded):
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "interrupted before the run began"
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_a_run_on_the_sample_says_what_it_did_in_its_last_line(tmp_path):
    run_dir = tmp_path / "run"
    done = call(
        "--data", "sample", "--epochs", 1, "--batch-size", 300, "--run-dir", run_dir, "--seed", 5
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    result = json.loads((run_dir / "result.json").read_text())
    last = done.stdout.strip().splitlines()[-1]
    assert f"test accuracy {100 * result['test_accuracy']:.2f} %" in last
    assert "recipe: sample" in done.stdout
    command = json.loads((run_dir / "config.json").read_text())["command"]
    assert command.startswith("python ")
    assert command.endswith("--seed 5")

    again = call("--run-dir", run_dir, "--data", "sample")
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "holds another run" in again.stderr
    differs = call("--run-dir", run_dir, "--resume", "--epochs", 2)
    assert differs.returncode == 2
    assert "--epochs 2 (the run has 1)" in differs.stderr
    finished = call("--run-dir", run_dir, "--resume")
    assert finished.returncode == 0
    assert finished.stdout.strip().splitlines()[-1] == last


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores are not told here")
def test_programs_compiled_on_some_cores_are_not_those_of_more(monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENTS)
    terminal = importlib.import_module("fidle_jax.cli.terminal")
    folders = set()
    for cores in ({0}, {1}, {0, 1}):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: cores)
        folders.add(terminal.compilation_cache_dir())
    assert len(folders) == 2
