"""What each ingredient gives is told from runs that are finished, as a table."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "gtsrb_ingredients.py"


def call(*flags):
    return subprocess.run(
        [sys.executable, str(EXPERIMENT), *flags], capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def runs(tmp_path):
    """Two seeds of the whole recipe and of it without flips, which are half a point worse."""
    for name, lost in (("the_whole_recipe", 0), ("without_flips", 0.005)):
        for seed, accuracy in enumerate((0.98, 0.99)):
            result = {
                "best_validation_accuracy": accuracy - lost,
                "test_accuracy": accuracy - 2 * lost,
                "train_seconds": 100 + seed,
            }
            folder = tmp_path / "fast" / name / str(seed)
            folder.mkdir(parents=True)
            (folder / "result.json").write_text(json.dumps(result))
    return tmp_path


def test_finished_runs_become_a_table_of_means_and_differences_and_are_not_run_again(runs):
    done = call("--runs", str(runs), "--seeds", "2", "--only", "without flips")
    assert (done.returncode, done.stderr) == (0, "")
    head, _, whole, without = done.stdout.splitlines()
    assert head == "| | validation | difference | test | difference | seconds |"
    assert whole == "| the whole recipe | 98.50 ± 0.71 % |  | 98.50 ± 0.71 % |  | 100 |"
    assert without == "| without flips | 98.00 ± 0.71 % | -0.50 | 97.50 ± 0.71 % | -1.00 | 100 |"


def test_a_run_that_cannot_be_made_is_named_with_the_status_it_ended_with(tmp_path):
    done = call(
        *("--runs", str(tmp_path), "--seeds", "1", "--only", "without flips"),
        *("--archives", str(tmp_path / "nowhere"), "--data-dir", str(tmp_path / "data")),
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"error: the run in {tmp_path / 'fast' / 'the_whole_recipe' / '0'} ended with status 2"
    )


def test_runs_of_another_recipe_or_number_of_epochs_are_not_taken_for_these(runs, tmp_path):
    wrong = ("--archives", str(tmp_path / "nowhere"), "--data-dir", str(tmp_path / "data"))
    for flags, folder in ((("--epochs", "3"), "fast-3"), (("--recipe", "best"), "best")):
        done = call("--runs", str(runs), *flags, "--only", "without flips", *wrong)
        assert done.returncode == 2
        assert f"the run in {runs / folder / 'the_whole_recipe'}" in done.stderr


@pytest.mark.parametrize("flag", ["--seeds", "--epochs"])
def test_a_number_below_one_is_named(flag):
    done = call(flag, "0")
    assert (done.returncode, done.stderr) == (2, f"error: {flag} is 0; expected 1 or more\n")


def test_an_unknown_ingredient_is_named_with_those_there_are():
    done = call("--only", "without salt")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --only 'without salt'; expected one of the whole recipe,")
