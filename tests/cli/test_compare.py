"""Finished runs stand side by side, a row for each setting."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "compare.py"
CONFIG = {"dataset": "32x32-RGB", "model": "compact", "recipe": "fast", "validation_fraction": 0.1}
RESULT = {
    "experiment": "gtsrb_cnn",
    "dataset": "32x32-RGB",
    "variant": "full",
    "recipe": "fast",
    "epochs": 13,
    "train_examples": 35219,
    "validation_examples": 3990,
    "parameters": 871979,
    "test_accuracy": 0.99,
    "train_seconds": 400.0,
}

FLAGS = ("crop", "recipe", "hold_out", "validation_fraction", "flips", "dropout")

# Held out as nearly as whole tracks allow.
LIKE = {"train_examples": 35220, "validation_examples": 3989}


@pytest.fixture
def compare(tmp_path):
    """``compare(*changes)``: the rows of runs, of a seed each, that differ so from CONFIG and RESULT."""

    def compare(*changes):
        for number, change in enumerate(changes):
            run = tmp_path / str(number)
            run.mkdir()
            flags = CONFIG | {"seed": number} | {k: v for k, v in change.items() if k in FLAGS}
            (run / "config.json").write_text(json.dumps(flags))
            (run / "result.json").write_text(json.dumps(RESULT | change))
        return _call(*sorted(tmp_path.iterdir())).stdout.splitlines()[2:]

    return compare


def _call(*runs):
    command = [sys.executable, EXPERIMENT, *map(str, runs)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_seeds_of_one_setting_share_a_row_with_mean_spread_and_median_seconds(compare):
    (row,) = compare({}, {"test_accuracy": 0.98, "train_seconds": 500.0, **LIKE})
    assert row == (
        "| gtsrb_cnn | 32x32-RGB full | fast | 13 | 35,219 | 2 "
        "| 98.500 ± 0.707 % (99.00, 98.00) | 450 |"
    )


def test_what_was_cropped_chosen_on_the_test_set_or_held_out_otherwise_stands_apart(compare):
    everything = {"train_examples": 39209, "validation_examples": 0, "validation_fraction": 0}
    plain, cropped, chosen, whole = compare({}, {"crop": "roi"}, {"hold_out": "test"}, everything)
    assert "| 39,209 | 1 |" in whole
    assert "cropped" not in plain
    assert "chosen" not in plain
    assert "| 32x32-RGB full cropped |" in cropped
    assert "| 99.000 % (99.00), chosen on it |" in chosen


def test_rows_that_look_alike_have_a_column_of_the_flags_in_which_they_differ(compare):
    plain, without = compare({"flips": 0.5}, {"flips": 0.0, "dropout": [0.1, 0.2]})
    assert plain.endswith("| 99.000 % (99.00) | 400 | --flips 0.5 |")
    assert without.endswith("| 99.000 % (99.00) | 400 | --dropout 0.1 0.2 --flips 0.0 |")


def test_a_recipe_is_told_by_its_name_not_by_its_values(compare):
    fast, best = compare({"flips": 0.5}, {"recipe": "best", "flips": 0.0})
    assert "| fast |" in fast
    assert "| best |" in best
    assert "flips" not in fast + best


def test_what_is_no_finished_run_is_named(tmp_path):
    done = _call(tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path} is no finished run")
    assert done.stderr.count("\n") == 1
