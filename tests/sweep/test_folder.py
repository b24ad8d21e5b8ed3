"""The directory of a sweep belongs to one plan; its table has each finished run once."""

import contextlib
import json
import multiprocessing
import sqlite3

import pandas as pd
import pytest

from fidle_jax.errors import InputError
from fidle_jax.sweep import folder

PLAN = {"axes": {"learning_rate": [0.1, 0.2]}, "search": "grid", "runs": 2}


def finish(sweep_dir, name, seed=0, **result):
    run_dir = sweep_dir / "runs" / name
    run_dir.mkdir(parents=True)
    config = {"learning_rate": 0.1, "dropout": [0.1, 0.2], "seed": seed}
    (run_dir / "config.json").write_text(json.dumps(config))
    usual = {"seed": seed, "test_accuracy": 0.5, "versions": {"jax": "1"}}
    (run_dir / "result.json").write_text(json.dumps(usual | result))
    (run_dir / "report.html").write_text("")


@pytest.fixture
def sweep_dir(tmp_path):
    folder.begin(tmp_path / "sweep", PLAN)
    return tmp_path / "sweep"


def test_the_same_sweep_goes_on(sweep_dir):
    folder.begin(sweep_dir, PLAN)
    assert folder.read_plan(sweep_dir) == PLAN | {"version": folder.VERSION}


def test_another_sweep_in_its_directory_is_refused_by_what_differs(sweep_dir):
    axes = {"learning_rate": [0.1, 0.2], "optimizer": ["adam"]}
    with pytest.raises(InputError, match=r"another sweep, of other optimizer, runs;"):
        folder.begin(sweep_dir, PLAN | {"axes": axes, "runs": 3})


def test_a_directory_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="holds other files"):
        folder.begin(tmp_path, PLAN)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def _begin(sweep_dir, runs, ends):
    try:
        folder.begin(sweep_dir, PLAN | {"runs": runs})
    except InputError:
        ends.put(0)
    else:
        ends.put(runs)


def test_of_two_that_begin_at_once_one_has_the_directory(tmp_path):
    context = multiprocessing.get_context("spawn")
    ends = context.Queue()
    starting = [context.Process(target=_begin, args=(tmp_path / "x", k, ends)) for k in (1, 2, 3)]
    for process in starting:
        process.start()
    ended = sorted(ends.get(timeout=60) for _ in starting)
    assert ended[:2] == [0, 0]
    assert folder.read_plan(tmp_path / "x")["runs"] == ended[2]


def test_a_sweep_that_was_killed_before_its_plan_was_there_begins_again(tmp_path):
    (tmp_path / "runs").mkdir()
    folder.begin(tmp_path, PLAN)
    assert folder.axes_of(tmp_path) == ["learning_rate"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version"'])
def test_a_damaged_plan_is_named(sweep_dir, content):
    (sweep_dir / "sweep.json").write_text(content)
    with pytest.raises(InputError, match=r"sweep\.json"):
        folder.begin(sweep_dir, PLAN)


def test_the_plan_of_an_older_version_is_refused(sweep_dir):
    (sweep_dir / "sweep.json").write_text(json.dumps(PLAN | {"version": 0}))
    with pytest.raises(InputError, match="is of version 0, expected 1"):
        folder.read_plan(sweep_dir)


def test_a_directory_that_is_no_sweep_is_named(tmp_path):
    with pytest.raises(InputError, match=r"is no sweep's directory: it has no sweep\.json"):
        folder.read_plan(tmp_path)


def test_the_table_has_a_row_for_each_finished_run_with_all_that_its_files_say(sweep_dir):
    finish(sweep_dir, "b-1234-seed1", seed=1)
    finish(sweep_dir, "a-1234-seed0", test_accuracy=0.7)
    (sweep_dir / "runs" / "c-1234-seed0").mkdir()
    table = folder.read_table(sweep_dir)
    assert list(table["run"]) == ["a-1234-seed0", "b-1234-seed1"]
    assert list(table["setting"]) == ["a-1234", "b-1234"]
    assert list(table["test_accuracy"]) == [0.7, 0.5]
    assert table["dropout"].iloc[0] == [0.1, 0.2]
    assert set(table["versions.jax"]) == {"1"}


def read_file(sweep_dir):
    """results.sqlite, as its users read it."""
    with contextlib.closing(sqlite3.connect(sweep_dir / "results.sqlite")) as database:
        return pd.read_sql("select * from runs", database)


def test_the_table_is_an_sqlite_file_that_pandas_reads(sweep_dir):
    folder.write_table(sweep_dir)
    finish(sweep_dir, "a-1234-seed0", best_validation_accuracy=None)
    finish(sweep_dir, "b-1234-seed0", best_validation_accuracy=0.5)
    folder.write_table(sweep_dir)
    table = read_file(sweep_dir)
    assert list(table["run"]) == ["a-1234-seed0", "b-1234-seed0"]
    assert table["dropout"].iloc[0] == "[0.1, 0.2]"
    assert list(table["best_validation_accuracy"].isna()) == [True, False]


def _write_many(sweep_dir, first):
    for k in range(first, first + 10):
        finish(sweep_dir, f"a-1234-seed{k}", seed=k)
        folder.write_table(sweep_dir)


def test_writers_side_by_side_leave_a_whole_table(sweep_dir):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(sweep_dir, 10 * k)) for k in range(3)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        if (sweep_dir / "results.sqlite").exists():
            seeds = list(read_file(sweep_dir)["seed"])
            assert len(set(seeds)) == len(seeds)
    table = read_file(sweep_dir)
    assert sorted(table["seed"]) == list(range(30))


def test_a_trial_is_claimed_once_until_it_is_let_go(sweep_dir):
    with folder.claim(sweep_dir, "a"):
        assert folder.claim(sweep_dir, "a") is None
        with folder.claim(sweep_dir, "b"):
            pass
    with folder.claim(sweep_dir, "a"):
        pass


def test_how_a_trial_ended_is_told_in_words(sweep_dir):
    finish(sweep_dir, "a-1234-seed0")
    folder.write_failure(sweep_dir, "b-1234-seed0", 1, "error: no")
    assert folder.outcome_of(sweep_dir, "a-1234-seed0") == "test accuracy 50.00 %"
    assert folder.outcome_of(sweep_dir, "b-1234-seed0") == "failed: error: no"
    assert folder.outcome_of(sweep_dir, "c-1234-seed0") is None


def test_failures_are_kept_with_their_reason_until_they_are_forgotten(sweep_dir):
    folder.write_failure(sweep_dir, "a", 1, "error: no")
    assert folder.failure_of(sweep_dir, "a") == {"trial": "a", "status": 1, "reason": "error: no"}
    assert folder.failure_of(sweep_dir, "b") is None
    assert folder.all_failures(sweep_dir) == [("a", "error: no")]
    assert folder.forget_failures(sweep_dir) == 1
    assert folder.all_failures(sweep_dir) == []
