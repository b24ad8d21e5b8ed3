"""The command line of sweeps: the plan before it starts, every run, a page, one line for what is wrong."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fidle_jax.sweep import folder, sweep
from tests.sweep.made_up_experiment import FAILS

ROOT = Path(__file__).parents[2]
SWEEP, REPORT = (ROOT / "experiments" / name for name in ("sweep.py", "sweep_report.py"))
MADE_UP = ROOT / "tests" / "sweep" / "made_up_experiment.py"
# Of unknown size: the machine is not measured for an estimate.
DATA = ("--dataset", "tfds:fashion_mnist")
GRID = ("--grid", "learning-rate=0.1,0.2", "optimizer=adam,sgd")


def start(*words, seconds=0.0, experiment=MADE_UP):
    return subprocess.Popen(
        [sys.executable, SWEEP, "--experiment", experiment, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"MADE_UP_SECONDS": str(seconds), "PYTHONPATH": str(ROOT)},
    )


def call(*words, **how):
    process = start(*words, **how)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def test_the_plan_is_shown_with_its_time(tmp_path):
    flags = ("--sweep-dir", tmp_path / "x", "--dry-run", "--", "--data", "sample", "--epochs", 3)
    status, out, err = call(*GRID, "--seeds", 2, *flags)
    assert (status, err) == (0, "")
    assert "--learning-rate 0.1 --optimizer adam  x 2  about 1" in out
    assert "8 runs; estimated time of what is left: 2 min" in out
    assert not (tmp_path / "x").exists()


def test_several_processes_share_the_runs_and_their_table_has_a_page(tmp_path):
    flags = ("--launch", "local", "--workers", 2, "--", *DATA, "--epochs")
    words = ("--grid", f"learning-rate=0.1,{FAILS},0.3", "--sweep-dir", tmp_path / "x", *flags)
    status, out, err = call("--seeds", 2, *words, 3)
    assert status == 1
    assert "6 runs; how long they take is not known before some have ended" in out
    assert "4 of 6 runs are finished" in out
    assert "error: this learning rate fails" in err
    assert "2 runs failed; --retry-failed runs them again" in err
    table = folder.read_table(tmp_path / "x")
    assert (sorted(table["seed"]), set(table["epochs"])) == ([0, 0, 1, 1], {3})

    status, out, _ = call("--retry-failed", "--seeds", 2, *words, 3)
    assert (status, "2 failed runs are tried again" in out) == (1, True)
    calls = (tmp_path / "x" / "runs").glob("*/calls")
    assert sorted(len(path.read_text().splitlines()) for path in calls) == [1, 1, 1, 1, 2, 2]

    status, _, err = call("--seeds", 2, *words, 4)
    assert (status, len(err.splitlines())) == (2, 1)
    assert "holds another sweep, of other epochs; give the flags that began it" in err
    assert folder.read_table(tmp_path / "x").equals(table)

    done = subprocess.run(
        [sys.executable, REPORT, tmp_path / "x"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (0, str(tmp_path / "x" / "report.html"))
    assert done.stdout.splitlines()[2].startswith("| **0.1** | **2** | **47.")
    page = (tmp_path / "x" / "report.html").read_text()
    assert "--dataset tfds:fashion_mnist --epochs 3 --learning-rate 0.1" in page


def under_way(sweep_dir):
    """The process of each run that has begun: of one that was killed too soon the file may be empty."""
    calls = [path.read_text().split() for path in (sweep_dir / "runs").glob("*/calls")]
    return [int(words[0]) for words in calls if words]


@pytest.mark.parametrize(
    "launch",
    [(), pytest.param(("--launch", "local", "--workers", "2"), marks=pytest.mark.slow)],
)
def test_an_interrupted_sweep_goes_on_by_the_same_command(tmp_path, launch):
    words = (*GRID, "--sweep-dir", tmp_path / "x", *launch, "--", *DATA)
    process = start(*words, seconds=30)
    deadline = time.monotonic() + 60
    while not under_way(tmp_path / "x") and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "interrupted; the same command goes on\n")
    # Those that were under way have ended with it.
    begun = under_way(tmp_path / "x")
    assert begun
    assert not any(map(psutil.pid_exists, begun))
    status, out, err = call(*words)
    assert (status, "4 of 4 runs are finished" in out) == (0, True), err


@pytest.mark.slow
def test_a_file_has_the_sweep_and_what_is_typed_goes_before_it(tmp_path):
    file = tmp_path / "sweep.toml"
    file.write_text(
        f"experiment = '{MADE_UP}'\nseeds = 3\nsweep_dir = '{tmp_path / 'x'}'\n"
        "[grid]\nlearning_rate = [0.1, 0.2]\n[flags]\ndata = 'sample'\nepochs = 3\n"
    )
    status, _, err = call("--file", file, "--seeds", 2, "--", "--epochs", 4)
    assert (status, err) == (0, "")
    table = folder.read_table(tmp_path / "x")
    assert (len(table), set(table["epochs"])) == (4, {4})


@pytest.mark.slow
def test_a_random_search_and_a_halving_run(tmp_path):
    words = ("--grid", "learning-rate=1e-3...1", "--samples", 4)
    for search, runs in (("random", 4), ("halving", 5)):
        more = ("--search", search, "--sweep-dir", tmp_path / search, "--", "--data", "sample")
        status, out, err = call(*words, *more)
        assert (status, f"{runs} of {runs} runs are finished" in out) == (0, True), err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "the sweep has no axes; give flags with their values"),
        (("--grid", "model="), "the axis model has no values"),
        (("--grid", "modle=cnn"), "unknown flag 'modle'; did you mean model"),
        (("--grid", "model=cnn,v9"), "unknown model 'v9'"),
        (("--grid", "model=cnn,v1", "--", "--dropout", "0.1"), "dropout 0.1 does not fit"),
        (("--grid", "model=cnn", "--", "--epoch", "3"), "--epochs"),
        (("--grid", "model=cnn", "--grid", "epochs=1"), "--grid is given twice"),
        (("--grid", "dataset=24x24-RBG"), "unknown dataset '24x24-RBG'"),
        (("--grid", "epochs=1", "--", "--seed", "3"), "--seed is given to every run, but set by"),
        (("--grid", "model=cnn", "--minutes", "9"), "--minutes is for --launch slurm"),
        (("--grid", "model=cnn", "--launch", "slurm", "--minutes", "2"), "expected 5 or more"),
        (("--grid", "model=cnn", "--workers", "2"), "--workers 2 needs --launch local or slurm"),
        (("--grid", "model=cnn", "--experiment", "mnist"), "there is no experiment"),
        (("--grid", "model=cnn", "--experiment", "compare"), "does not train: it has no DEFAULTS"),
    ],
)
def test_what_is_wrong_is_named_in_a_line_before_anything_starts(tmp_path, words, message):
    status, _, err = call(*("--sweep-dir", tmp_path / "x"), *words)
    assert (status, len(err.splitlines())) == (2, 1), err
    assert err.startswith("error: ")
    assert message in err
    assert not (tmp_path / "x").exists()


def test_a_page_of_no_sweep_or_of_one_without_runs_is_refused(tmp_path):
    for content in (None, '{"version": 1, "axes": {}, "search": "grid", "experiment": "x"}'):
        if content:
            (tmp_path / "runs").mkdir()
            (tmp_path / "sweep.json").write_text(content)
        command = [sys.executable, REPORT, tmp_path]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert str(tmp_path) in done.stderr


def test_a_notebook_has_the_table_in_three_lines(tmp_path):
    table = sweep(
        MADE_UP, {"learning_rate": [0.1, 0.2]}, tmp_path, seeds=2, data="sample", epochs=1
    )
    assert list(table.groupby("learning_rate")["seed"].apply(list)) == [[0, 1], [0, 1]]
    again = sweep(
        MADE_UP, {"learning_rate": [0.1, 0.2]}, tmp_path, seeds=2, data="sample", epochs=1
    )
    assert again.equals(table)
