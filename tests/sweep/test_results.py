import contextlib
import json
import multiprocessing
import sqlite3

import pandas as pd
import pytest

from fidle_jax.errors import InputError
from fidle_jax.sweep import results

PLAN = {
    "experiment": "mnist_dnn.py",
    "axes": {"learning_rate": [0.1, 0.2]},
    "defaults": {},
    "variants": {},
    "baseline": "",
    "columns": ["learning_rate"],
    "search": "grid",
    "runs": 2,
}


def finish(sweep_dir, name, seed=0, **result):
    """Write a finished run."""
    run_dir = sweep_dir / "runs" / name
    run_dir.mkdir(parents=True)
    config = {"learning_rate": 0.1, "dropout": [0.1, 0.2], "seed": seed}
    (run_dir / "config.json").write_text(json.dumps(config))
    usual = {"seed": seed, "test_accuracy": 0.5, "best_validation_accuracy": 0.6}
    usual |= {"train_seconds": 1.5, "parameters": 7, "versions": {"jax": "1"}}
    (run_dir / "result.json").write_text(json.dumps(usual | result))
    (run_dir / "report.html").write_text("")


@pytest.fixture
def sweep_dir(tmp_path):
    results.begin(tmp_path / "sweep", PLAN)
    return tmp_path / "sweep"


def test_the_same_plan_resumes(sweep_dir):
    results.begin(sweep_dir, PLAN)
    assert results.read_plan(sweep_dir) == PLAN | {"version": results.VERSION}


def test_another_plan_is_refused_with_the_differences(sweep_dir):
    axes = {"learning_rate": [0.1, 0.2], "optimizer": ["adam"]}
    with pytest.raises(InputError, match=r"another sweep; these settings differ: optimizer, runs;"):
        results.begin(sweep_dir, PLAN | {"axes": axes, "runs": 3})


def test_a_directory_with_other_files_is_refused_and_not_changed(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="contains other files"):
        results.begin(tmp_path, PLAN)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def _begin(sweep_dir, runs, ends):
    try:
        results.begin(sweep_dir, PLAN | {"runs": runs})
    except InputError:
        ends.put(0)
    else:
        ends.put(runs)


def test_if_several_sweeps_begin_at_once_one_gets_the_directory(tmp_path):
    context = multiprocessing.get_context("spawn")
    ends = context.Queue()
    starting = [context.Process(target=_begin, args=(tmp_path / "x", k, ends)) for k in (1, 2, 3)]
    for process in starting:
        process.start()
    ended = sorted(ends.get(timeout=60) for _ in starting)
    assert ended[:2] == [0, 0]
    assert results.read_plan(tmp_path / "x")["runs"] == ended[2]


def test_a_sweep_that_was_killed_before_it_wrote_its_plan_begins_again(tmp_path):
    (tmp_path / "runs").mkdir()
    results.begin(tmp_path, PLAN)
    assert results.read_plan(tmp_path)["axes"] == PLAN["axes"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version"'])
def test_a_damaged_plan_is_named(sweep_dir, content):
    (sweep_dir / "sweep.json").write_text(content)
    with pytest.raises(InputError, match=r"sweep\.json"):
        results.begin(sweep_dir, PLAN)


@pytest.mark.parametrize(
    "change",
    [
        {"columns": ["rate"]},
        {"columns": ["variant"]},
        {"columns": [["learning_rate"]]},
        {"columns": ["learning_rate", "learning_rate"]},
        {"columns": []},
        {"columns": [], "axes": {}},
        {"baseline": "no such variant"},
    ],
    ids=str,
)
def test_a_plan_whose_columns_or_baseline_do_not_exist_is_damaged(sweep_dir, change):
    content = PLAN | {"version": results.VERSION} | change
    (sweep_dir / "sweep.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"sweep\.json cannot be read .*{next(iter(change))}"):
        results.read_plan(sweep_dir)


def test_a_plan_of_another_version_is_refused(sweep_dir):
    (sweep_dir / "sweep.json").write_text(json.dumps(PLAN | {"version": 0}))
    with pytest.raises(InputError, match=f"has version 0, expected {results.VERSION}"):
        results.read_plan(sweep_dir)


def test_a_directory_that_is_no_sweep_is_named(tmp_path):
    with pytest.raises(
        InputError, match=r"is not a sweep directory, because it has no sweep\.json"
    ):
        results.read_plan(tmp_path)


def test_the_table_has_one_row_per_finished_run_of_the_sweep_with_its_config_and_result(sweep_dir):
    finish(sweep_dir, "b-1234-seed1", seed=1)
    finish(sweep_dir, "a-1234-seed0", test_accuracy=0.7)
    (sweep_dir / "runs" / "c-1234-seed0").mkdir()
    finish(sweep_dir, "a-1234-seed0-copy")
    table = results.read_table(sweep_dir)
    assert list(table["run"]) == ["a-1234-seed0", "b-1234-seed1"]
    assert list(table["setting"]) == ["a-1234", "b-1234"]
    assert list(table["test_accuracy"]) == [0.7, 0.5]
    assert table["dropout"].iloc[0] == [0.1, 0.2]
    assert set(table["versions.jax"]) == {"1"}


def test_runs_with_another_recipe_than_the_first_of_their_setting_are_left_out(sweep_dir, caplog):
    for seed in (0, 1, 2):
        finish(sweep_dir, f"a-1234-seed{seed}", seed=seed)
    file = sweep_dir / "runs" / "a-1234-seed1" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"elastic": 0.5, "epochs": 9}))
    assert list(results.read_table(sweep_dir)["run"]) == ["a-1234-seed0", "a-1234-seed2"]
    (warning,) = caplog.messages
    assert warning.endswith(
        "a-1234-seed1 is left out: epochs, elastic have changed since a-1234-seed0; "
        "start the sweep again in a new --sweep-dir"
    )


def test_the_table_has_the_names_of_the_variants(tmp_path):
    variants = {"axes": {}, "variants": {"no_warp-1": "no warp"}, "columns": ["variant"]}
    results.begin(tmp_path, PLAN | variants)
    finish(tmp_path, "no_warp-1-seed3", seed=3, variant="sample")  # that of the data set
    assert list(results.read_table(tmp_path)["variant"]) == ["no warp"]


def read_file(sweep_dir):
    """Read results.sqlite as users do."""
    with contextlib.closing(sqlite3.connect(sweep_dir / "results.sqlite")) as database:
        return pd.read_sql("select * from runs", database)


def test_the_table_is_an_sqlite_file_that_pandas_reads(sweep_dir):
    results.write_table(sweep_dir)
    finish(sweep_dir, "a-1234-seed0", best_validation_accuracy=None)
    finish(sweep_dir, "b-1234-seed0", best_validation_accuracy=0.5)
    results.write_table(sweep_dir)
    table = read_file(sweep_dir)
    assert list(table["run"]) == ["a-1234-seed0", "b-1234-seed0"]
    assert table["dropout"].iloc[0] == "[0.1, 0.2]"
    assert list(table["best_validation_accuracy"].isna()) == [True, False]


def _write_many(sweep_dir, first):
    for k in range(first, first + 10):
        finish(sweep_dir, f"a-1234-seed{k}", seed=k)
        results.write_table(sweep_dir)


def test_concurrent_writers_leave_a_complete_table(sweep_dir):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(sweep_dir, 10 * k)) for k in range(2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        if (sweep_dir / "results.sqlite").exists():
            seeds = list(read_file(sweep_dir)["seed"])
            assert len(set(seeds)) == len(seeds)
    assert sorted(read_file(sweep_dir)["seed"]) == list(range(20))


def test_a_trial_is_claimed_once_until_it_is_released(sweep_dir):
    with results.claim(sweep_dir, "a"):
        assert results.claim(sweep_dir, "a") is None
        with results.claim(sweep_dir, "b"):
            pass
    with results.claim(sweep_dir, "a"):
        pass


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"reason": 3}'])
def test_a_trial_whose_record_of_failure_is_damaged_runs_again(sweep_dir, content):
    results.write_failure(sweep_dir, "b", 1, "no")
    (sweep_dir / "failures" / "b.json").write_text(content)
    assert results.outcome(sweep_dir, "b") is None
    assert results.failures(sweep_dir) == {}


@pytest.mark.parametrize("name", ["config.json", "result.json"])
def test_a_damaged_run_is_left_out_of_the_table_with_a_warning(sweep_dir, caplog, name):
    finish(sweep_dir, "a-1234-seed0")
    finish(sweep_dir, "b-1234-seed0")
    (sweep_dir / "runs" / "a-1234-seed0" / name).write_text("{}")
    results.write_table(sweep_dir)
    assert list(results.read_table(sweep_dir)["run"]) == ["b-1234-seed0"]
    assert f"a-1234-seed0/{name} cannot be read" in caplog.text


def test_outcomes_are_described_and_failures_kept_until_they_are_forgotten(sweep_dir):
    finish(sweep_dir, "a-1234-seed0")
    results.write_failure(sweep_dir, "b-1234-seed0", 1, "error: no")
    assert results.outcome(sweep_dir, "a-1234-seed0") == "test accuracy 50.00 %"
    assert results.outcome(sweep_dir, "b-1234-seed0") == "failed: error: no"
    assert results.outcome(sweep_dir, "c-1234-seed0") is None
    assert results.failures(sweep_dir) == {"b-1234-seed0": "error: no"}
    assert results.forget_failures(sweep_dir) == 1
    assert results.failures(sweep_dir) == {}
    assert results.outcome(sweep_dir, "b-1234-seed0") is None
