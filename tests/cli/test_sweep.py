import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import submitit  # noqa: F401  # its import closes log handlers: do this before output is captured

from fidle_jax.cli import sweep as command
from fidle_jax.cli import sweep_report
from fidle_jax.errors import InputError
from fidle_jax.sweep import Range, results, sweep
from fidle_jax.sweep.plan import make_sweep
from tests.sweep.made_up_experiment import FAILS
from tests.sweep.test_results import finish

ROOT = Path(__file__).parents[2]
MADE_UP = ROOT / "tests" / "sweep" / "made_up_experiment.py"
DATA = ("--dataset", "tfds:fashion_mnist")
GRID = ("--grid", "learning-rate=0.1,0.2", "optimizer=adam,sgd")


@pytest.fixture
def call(capsys):
    """``call(words)`` calls sweep.py and returns its exit status, output and errors."""

    def call(*words, main=command.main, experiment=("--experiment", MADE_UP)):
        with pytest.raises(SystemExit) as caught:
            main([*map(str, (*experiment, *words))])
        return caught.value.code, *capsys.readouterr()

    return call


def test_the_plan_is_shown_and_after_the_first_runs_its_estimated_time(call, tmp_path):
    words = (*GRID, "--seeds", 2, "--sweep-dir", tmp_path / "x", "--dry-run")
    status, out, err = call(*words, "--", *DATA)
    assert (status, err) == (0, "")
    assert "--learning-rate 0.1 --optimizer adam  x 2\n" in out
    assert out.endswith("\n8 runs\n")
    assert not (tmp_path / "x").exists()
    for name, seconds in (("a", 50), ("b", 100)):
        finish(tmp_path / "y", name, train_seconds=seconds)
    assert results.mean_seconds(tmp_path / "y") == 75


def test_several_processes_share_the_runs_and_their_table_has_a_page(call, tmp_path):
    flags = ("--launch", "local", "--workers", 2, "--", *DATA, "--epochs")
    words = ("--grid", f"learning-rate=0.1,{FAILS},0.3", "--sweep-dir", tmp_path / "x", *flags)
    status, out, err = call("--seeds", 2, *words, 3)
    assert status == 1
    assert "4 of 6 runs are finished" in out
    assert "error: this learning rate fails" in err
    assert "2 runs failed; their output is in" in err
    table = results.read_table(tmp_path / "x")
    assert (sorted(table["seed"]), set(table["epochs"])) == ([0, 0, 1, 1], {3})

    status, out, _ = call("--retry-failed", "--seeds", 2, *words, 3)
    assert (status, "2 failed runs start again" in out) == (1, True)
    assert "6 runs, 4 of them have ended; estimated remaining time, one after the other: 1.0" in out
    calls = (tmp_path / "x" / "runs").glob("*/calls")
    assert sorted(len(path.read_text().splitlines()) for path in calls) == [1, 1, 1, 1, 2, 2]

    status, _, err = call("--seeds", 2, *words, 4)
    assert (status, len(err.splitlines())) == (2, 1)
    assert "contains another sweep; these settings differ: epochs; repeat the flags" in err
    assert results.read_table(tmp_path / "x").equals(table)

    status, out, err = call(tmp_path / "x", main=sweep_report.main, experiment=())
    assert (status, err.strip()) == (0, str(tmp_path / "x" / "report.html"))
    assert out.splitlines()[2].startswith("| **0.1** | **2** | **47.")
    page = (tmp_path / "x" / "report.html").read_text()
    assert "python tests/sweep/made_up_experiment.py --dataset tfds:fashion_mnist" in page


@pytest.mark.parametrize(
    ("command_of_run", "shown"),
    [
        ("python a.py --run-dir x --epochs 1", "python a.py --epochs 1"),
        ("python 'a b.py' --run-dir", "python 'a b.py'"),
        *((text, text) for text in ("", "python a.py", "--run-dir", "a.py --run-dir", "x 'y")),
        ("python a.py --run-dir=x", "python a.py --run-dir=x"),
    ],
)
def test_the_page_shows_a_command_of_another_form_as_it_is(tmp_path, command_of_run, shown):
    (tmp_path / "config.json").write_text(json.dumps({"command": command_of_run}))
    assert sweep_report._command(tmp_path) == shown


def test_names_and_reasons_are_printed_without_control_characters(call, tmp_path):
    file, name, odd = tmp_path / "sweep.toml", "a\x1b[31mb\nc", r'"a\u001b[31mb\nc"'
    file.write_text(f"[variants]\n{odd} = {{}}\nother = {{learning-rate = {FAILS}}}\n")
    words = ("--file", file, "--sweep-dir", tmp_path / "x", "--", *DATA)
    status, out, err = call(*words)
    assert (status, name in out, "\x1b" in out) == (1, False, False)
    assert out.count(r"a\x1b[31mb\nc") == 2
    (failure,) = (tmp_path / "x" / "failures").iterdir()
    failure.write_text(json.dumps({"reason": name}))
    status, _, err = call(*words)
    assert (status, len(err.splitlines())) == (1, 2)
    assert r"failed: a\x1b[31mb\nc" in err


@pytest.mark.parametrize("content", ["", "{}", "[[[[", '{"test_accuracy": 7}'])
def test_a_damaged_run_is_named_in_the_report_and_repeated_by_the_sweep(call, tmp_path, content):
    words = ("--grid", "learning-rate=0.1,0.3", "--sweep-dir", tmp_path / "x", "--", *DATA)
    assert call(*words)[0] == 0
    table, (damaged, _) = (
        results.read_table(tmp_path / "x"),
        sorted((tmp_path / "x" / "runs").iterdir()),
    )
    (damaged / "result.json").write_text(content)
    (damaged / "metrics.csv").write_text(content)
    status, out, err = call(tmp_path / "x", main=sweep_report.main, experiment=())
    assert (status, len(out.splitlines())) == (0, 3)  # two lines of the head
    assert f"warning: a damaged run is left out: {damaged / 'result.json'} cannot be read" in err

    assert call(*words)[0] == 0
    assert results.read_table(tmp_path / "x").equals(table)


FILE = """
seeds = 2
[grid]
learning_rate = [0.1]
[flags]
dataset = "tfds:fashion_mnist"
epochs = 3
model = "dnn"
recipe = "best"
[variants]
whole = {}
"other, and smaller" = {optimizer = "sgd", learning-rate = 0.2}
"""


def test_a_file_has_variants_that_are_compared_with_the_first_and_the_command_line_has_priority(
    call, tmp_path
):
    file = tmp_path / "sweep.toml"
    words = ("--file", file, "--sweep-dir", tmp_path / "x")
    file.write_text(FILE)
    status, _, err = call(*words)
    assert (status, "the variant 'other, and smaller' sets the axis learning_rate" in err) == (
        2,
        True,
    )
    file.write_text(FILE.replace("[grid]\nlearning_rate = [0.1]\n", ""))
    # Also flags with the experiment's own defaults replace those of the file.
    given = ("--epochs", 4, "--learning-rate", 0.1, "--recipe", "auto")
    status, out, err = call(*words, "--seeds", 3, "--", *given)
    assert (status, err) == (0, "")
    assert "  other, and smaller  x 3\n" in out
    table = results.read_table(tmp_path / "x")
    assert (len(table), set(table["epochs"]), set(table["seed"])) == (6, {4}, {0, 1, 2})
    assert set(table["recipe"]) == {"sample"}
    # The record of a failure is ignored if the run has finished since.
    results.write_failure(tmp_path / "x", table["run"][0], 1, "no memory")
    assert call(*words, "--seeds", 3, "--", *given)[0] == 0
    assert "| **whole** | **3** | **47.72 ± 0.10** | **+0.00 ± 0.00** |" in out
    assert "| other, and smaller | 3 | 45.55 ± 0.10 | \N{MINUS SIGN}2.16 ± 0.00 |" in out


def active(sweep_dir):
    """Process ids of the runs that have begun. The file of a killed run may be empty."""
    calls = [path.read_text().split() for path in (sweep_dir / "runs").glob("*/calls")]
    return [int(words[0]) for words in calls if words]


@pytest.mark.parametrize(
    "launch",
    [(), pytest.param(("--launch", "local", "--workers", "2"), marks=pytest.mark.slow)],
)
def test_the_same_command_resumes_an_interrupted_sweep(call, tmp_path, launch):
    words = (*GRID, "--sweep-dir", tmp_path / "x", *launch, "--", *DATA)
    process = subprocess.Popen(
        [sys.executable, ROOT / "experiments" / "sweep.py", "--experiment", MADE_UP, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"MADE_UP_SECONDS": "30", "PYTHONPATH": str(ROOT)},
    )
    deadline = time.monotonic() + 60
    while not active(tmp_path / "x") and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "interrupted; the same command resumes the sweep\n")
    begun = active(tmp_path / "x")
    assert begun
    assert not any(map(psutil.pid_exists, begun))
    status, out, err = call(*words)
    assert (status, "4 of 4 runs are finished" in out) == (0, True), err


@pytest.mark.slow
def test_a_random_search_runs(call, tmp_path):
    words = ("--grid", "learning-rate=1e-3...1", "--samples", 4, "--search", "random")
    status, out, err = call(*words, "--sweep-dir", tmp_path / "x", "--", "--data", "sample")
    assert (status, "4 of 4 runs are finished" in out) == (0, True), err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "the sweep has no axes; give flags and values"),
        (("--grid", "model="), "the axis model has no values"),
        (("--grid", "modle=cnn"), "unknown flag 'modle'; did you mean model"),
        (("--grid", "model=cnn,v9"), "unknown model 'v9'"),
        (("--grid", "model=cnn,v1", "--", "--dropout", "0.1"), "dropout 0.1 does not fit"),
        (
            ("--grid", "model=cnn", "--", "--epoch", "3"),
            "unknown flag --epoch; did you mean --epochs?",
        ),
        (("--grid", "model=cnn", "--grid", "epochs=1"), "--grid is given twice"),
        (("--grid", "dataset=24x24-RBG"), "unknown dataset '24x24-RBG'"),
        (("--grid", "epochs=1", "--", "--seed", "3"), "--seed cannot be given to every run"),
        (("--grid", "model=cnn", "--minutes", "9"), "--minutes has no effect; add --launch slurm"),
        (("--grid", "model=cnn", "--launch", "slurm", "--minutes", "2"), "it must be at least 5"),
        (("--grid", "model=cnn", "--workers", "2"), "--workers 2 needs --launch local or slurm"),
        (
            ("--grid", "model=cnn", "--launch", "local", "--workers", "1000000"),
            "--workers is 1000000; it must be between 1 and 1000",
        ),
        (
            ("--search", "random", "--samples", "2", "--grid", f"epochs=1..{400 * '9'}"),
            "9; it must be at most 1e",
        ),
        (("--grid", "model=cnn", "--experiment", "mnist"), "there is no experiment"),
        (("--grid", "model=cnn", "--experiment", "compare"), "does not train: it has no DEFAULTS"),
        (("--file", "no/such.toml"), "no/such.toml cannot be used: No such file"),
        (("--grid", "model=cnn,dnn", "--seeds", "501"), "1,002 runs, more than --max-runs 1,000;"),
        (
            ("--search", "random", "--samples", "10000000000", "--grid", "shift=0..1"),
            "give fewer values or seeds, or --max-runs 10000000000",
        ),
    ],
)
def test_an_error_is_one_line_before_anything_starts(call, tmp_path, words, message):
    status, _, err = call(*("--sweep-dir", tmp_path / "x"), *words)
    assert (status, len(err.splitlines())) == (2, 1), err
    assert err.startswith("error: ")
    assert message in err
    assert not (tmp_path / "x").exists()


def test_the_page_of_a_directory_without_sweep_or_without_runs_is_refused(call, tmp_path):
    plan = '{"version": 2, "columns": [], "variants": {}, "baseline": "", "experiment": "x"}'
    for content in (None, plan):
        if content:
            (tmp_path / "runs").mkdir()
            (tmp_path / "sweep.json").write_text(content)
        status, _, err = call(tmp_path, main=sweep_report.main, experiment=())
        assert (status, len(err.splitlines())) == (2, 1)
        assert str(tmp_path) in err


def test_a_notebook_gets_the_table_in_three_lines(tmp_path):
    axes, how = {"learning_rate": [0.1, 0.2]}, {"seeds": 2, "data": "sample", "epochs": 1}
    table = sweep(MADE_UP, axes, tmp_path, **how)
    assert list(table.groupby("learning_rate")["seed"].apply(list)) == [[0, 1], [0, 1]]
    assert sweep(MADE_UP, axes, tmp_path, **how).equals(table)


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("gtsrb_ingredients", 17 * 3),
        ("mnist_ingredients", 12 * 3),
        ("mnist_fast_ingredients", 12 * 10),
    ],
)
def test_the_ingredients_of_the_recipes_are_a_plan(call, tmp_path, name, runs):
    file = ROOT / "experiments" / f"{name}.toml"
    status, out, err = call("--file", file, "--sweep-dir", tmp_path, "--dry-run", experiment=())
    assert (status, err) == (0, "")
    assert "  whole recipe  x " in out
    assert out.endswith(f"\n{runs} runs\n")


def test_axes_are_numbers_names_and_lists():
    words = ["--batch-size=8,16", "learning_rate=1e-3,2", "model=v1,v2", "dropout=0.2:0.3,0:0"]
    words.append("dataset=tfds:fashion_mnist,32x32-L")
    assert command.parse_axes(words) == {
        "dataset": ["tfds:fashion_mnist", "32x32-L"],
        "batch_size": [8, 16],
        "learning_rate": [0.001, 2],
        "model": ["v1", "v2"],
        "dropout": [[0.2, 0.3], [0, 0]],
    }


def test_two_dots_are_a_range_and_three_dots_a_logarithmic_range():
    found = command.parse_axes(["shift=0..0.2", "learning-rate=1e-4...1e-2", "batch-size=16..64"])
    assert found["shift"] == Range(0, 0.2)
    assert found["learning_rate"] == Range(1e-4, 1e-2, log=True)
    assert found["batch_size"] == Range(16, 64)
    assert isinstance(found["batch_size"].low, int)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model"], "expected FLAG=VALUE,VALUE"),
        (["modle=v1"], "did you mean model"),
        (["batch-size=8,x"], "batch-size is 'x'; it must be a whole number"),
        (["learning-rate=fast"], "learning-rate is 'fast'; it must be a number"),
        (["learning-rate=..1"], "learning-rate is '..1'; it must be a number"),
        (["dropout=0.2:x"], "dropout is '0.2:x'; it must be a number"),
        (["profile=yes"], "profile is 'yes'; it must be true or false"),
        (["model=v1", "model=v2"], "--grid has model twice"),
    ],
)
def test_an_error_in_an_axis_is_named(words, message):
    with pytest.raises(InputError, match=message):
        make_sweep("x", MADE_UP, command.parse_axes(words), {})


def test_a_file_has_all_parts_of_a_sweep(tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text(
        "experiment = 'gtsrb_cnn'\nseeds = 3\nsweep_dir = '/tmp/x'\nretry_failed = true\n"
        "slurm = ['partition=gpu', 'account=me']\n"
        "[grid]\nmodel = ['v1', 'v2']\ndropout = [[0.2, 0.3], [0, 0]]\nseed = 3\n"
        "learning-rate = {low = 1e-4, high = 1e-2, log = true}\nshift = {low = 0, high = 0.2}\n"
        "[flags]\nepochs = 16\nprogress = false\n[variants]\nwhole = {}\n'no warp' = {shift = 0}\n"
    )
    found = command.read_file(path)
    assert found.words == [
        *("--experiment", "gtsrb_cnn", "--seeds", "3", "--sweep-dir", "/tmp/x"),
        *("--retry-failed", "--slurm", "partition=gpu", "account=me"),
    ]
    assert found.axes == {
        "model": ["v1", "v2"],
        "dropout": [[0.2, 0.3], [0, 0]],
        "seed": [3],
        "learning_rate": Range(1e-4, 1e-2, log=True),
        "shift": Range(0, 0.2),
    }
    assert found.fixed == {"epochs": 16, "progress": False}
    assert found.variants == {"whole": {}, "no warp": {"shift": 0}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grid = [", "is not valid TOML"),
        (f"seeds = {5000 * '['}", "is not valid TOML"),
        (f"seeds = {5000 * '9'}", "is not valid TOML"),
        (f"seeds = 0x{5000 * 'f'}", "is not valid TOML"),
        ("grid = ['model=v1']", r"expected a table \[grid\]"),
        ("[variants]\nwhole = 3", r"expected a table \[variants.'whole'\]"),
        ("variants = 3", r"expected a table \[variants\]"),
        ("[grid]\nshift = {low = 1}", "expected low, high and optionally log"),
        ("[grid]\nshift = {low = 1, high = 2, log = 'false'}", "expected true or false"),
    ],
)
def test_an_error_in_a_file_is_named(tmp_path, text, message):
    path = tmp_path / "sweep.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        command.read_file(path)
