import json

import pytest

from fidle_jax.errors import InputError
from fidle_jax.report.tables import TEST, VALIDATION
from fidle_jax.report.validation_gap import gap_rows, read_runs

CONFIG = {"model": "v1", "hold_out": "examples"}
RESULT = {
    "dataset": "24x24-L",
    "epochs": 16,
    "seed": 3,
    "best_validation_accuracy": 0.99,
    "test_accuracy": 0.95,
    "train_seconds": 9.0,
}


def write(run_dir, config=CONFIG, result=RESULT):
    run_dir.mkdir(exist_ok=True)
    for name, content in (("config.json", config), ("result.json", result)):
        (run_dir / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return run_dir


@pytest.fixture
def runs(tmp_path):
    """Two seeds of each kind of hold-out set."""
    return read_runs(
        tuple(
            write(
                tmp_path / f"{kind}{seed}",
                {"model": "v1", "hold_out": kind},
                RESULT | {"seed": seed, VALIDATION: accuracy + 0.01 * seed, TEST: 0.94},
            )
            for seed in (1, 0)
            for kind, accuracy in (("groups", 0.94), ("examples", 0.98))
        )
    )


def test_runs_that_differ_only_in_their_seed_share_a_setting(runs):
    kinds = [
        f"v1, 24x24-L, 16 epochs, {what} held out" for what in ("random examples", "whole tracks")
    ]
    assert list(runs["setting"]) == [kind for kind in kinds for _ in range(2)]
    assert list(runs["seed"]) == [0, 1, 0, 1]


def test_each_setting_has_the_mean_accuracies_and_their_gap(runs):
    examples, groups = gap_rows(runs)
    assert examples == {
        "setting": "v1, 24x24-L, 16 epochs, random examples held out",
        "seeds": "0, 1",
        "validation": "98.50 ± 0.71",
        "test": "94.00 ± 0.00",
        "gap": "+4.50",
    }
    assert groups["gap"] == "+0.50"


@pytest.mark.parametrize(
    ("config", "result", "message"),
    [
        (CONFIG, "{", "result.json cannot be read .Expecting property name"),
        (CONFIG, "[]", r"result\.json"),
        ({"model": "v1"}, RESULT, "config.json cannot be read .hold_out missing"),
        (CONFIG, RESULT | {VALIDATION: None}, "has no hold-out set"),
        (CONFIG, RESULT | {TEST: 3}, "test_accuracy is 3, not in"),
        (CONFIG, RESULT | {TEST: float("nan")}, "test_accuracy is None; expected"),
        (CONFIG | {"hold_out": "nothing"}, RESULT, "has no hold-out set"),
        (CONFIG | {"hold_out": "test"}, RESULT, "has no hold-out set"),
    ],
)
def test_a_directory_that_is_no_such_run_is_named_on_one_line(tmp_path, config, result, message):
    with pytest.raises(InputError, match=message) as caught:
        read_runs((write(tmp_path, config, result),))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unfinished_run_and_a_missing_directory_are_named(tmp_path):
    with pytest.raises(InputError, match="nowhere is not a finished run"):
        read_runs((tmp_path / "nowhere",))
    (write(tmp_path) / "result.json").unlink()
    with pytest.raises(InputError, match=f"{tmp_path} is not a finished run"):
        read_runs((tmp_path,))
