"""Finished runs stand side by side, a row for each setting."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "compare.py"
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

# Held out as nearly as whole tracks allow.
LIKE = {"train_examples": 35220, "validation_examples": 3989}


@pytest.fixture
def compare(tmp_path):
    """``compare(*changes)``: the rows for runs that differ from RESULT so."""

    def compare(*changes):
        for number, change in enumerate(changes):
            (tmp_path / str(number)).mkdir()
            (tmp_path / str(number) / "result.json").write_text(json.dumps(RESULT | change))
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
    everything = {"train_examples": 39209, "validation_examples": 0}
    plain, cropped, chosen, whole = compare({}, {"crop": "roi"}, {"hold_out": "test"}, everything)
    assert "| 39,209 | 1 |" in whole
    assert "cropped" not in plain
    assert "chosen" not in plain
    assert "| 32x32-RGB full cropped |" in cropped
    assert "| 99.000 % (99.00), chosen on it |" in chosen


def test_what_is_no_finished_run_is_named(tmp_path):
    done = _call(tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path / 'result.json'} is no result")
    assert done.stderr.count("\n") == 1
