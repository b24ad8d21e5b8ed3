import json

import bench_kernels
import pytest
import timing

from fidle_jax.kernels import auto
from fidle_jax.kernels.auto import read_rows, table_rows


def test_a_small_shape_is_measured_with_every_method_and_compared_with_auto(
    run_main, tmp_path, capsys
):
    only = "^conv 1x13x13x8 |^max_pool 1x26"
    flags = ("--only", only, "--rounds", 2, "--seconds", 0.1, "--output", tmp_path)
    assert run_main(bench_kernels, *flags) == 0
    record = json.loads((tmp_path / "kernels.json").read_text())
    pool, conv = record["results"]
    assert conv["problem"]["features"] == 16
    assert conv["gradients"] == ["x", "w"]
    assert {"xla", "im2col", "shifted", "winograd"} <= set(conv["training"])
    assert all(len(conv[phase]["im2col"]["turns"]) == 2 for phase in ("forward", "training"))
    assert set(pool["training"]) == {"slices", "xla"}
    for result in (pool, conv):
        times = {method: each["milliseconds"] for method, each in result["training"].items()}
        assert result["auto_over_best"] == times[result["auto"]] / min(times.values())
    output = capsys.readouterr().out
    assert "conv 1x13x13x8 -> 16, 3x3" in output
    assert "auto is within 10 % of the best on" in output


def test_the_table_is_written_with_the_new_rows_replacing_the_rows_of_the_same_problems(
    run_main, tmp_path, monkeypatch
):
    monkeypatch.setattr(auto, "__file__", str(tmp_path / "auto.py"))
    flags = ("--only", "^avg_pool 1x26", "--rounds", 1, "--seconds", 0.1, "--write-table")
    assert run_main(bench_kernels, *flags, "--output", tmp_path) == 0
    kept, written = table_rows(), read_rows((tmp_path / "auto.tsv").read_text())
    assert [row.problem for row in written] == [row.problem for row in kept]
    (new,) = [row for row in written if row not in kept]
    assert (new.problem.kind, new.problem.spatial) == ("avg_pool", (26, 26))
    assert set(new.milliseconds) == {"slices", "xla"}


def test_list_prints_one_distinct_line_per_problem(run_main, capsys):
    assert run_main(bench_kernels, "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(set(lines)) == len(table_rows())
    assert "conv 64x32x32x16 -> 16, 3x3, same, dilation 2x2" in lines
    assert "conv_pool 16x64x64x3 -> 32, 7x7, same, stride 2x2, pool 3x3, pool stride 2x2" in lines


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--only", "no such problem"), "matches no problem"),
        (("--only", "("), "is not a regular expression"),
        (("--rounds", 0), "--rounds is 0; it must be positive"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(flags, message, run_main, capsys):
    assert run_main(bench_kernels, *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_turns_alternate_and_runs_far_behind_get_fewer(monkeypatch):
    calls, clock = [], [0.0]
    seconds = {"quick": 0.004, "slow": 0.1, "slowest": 2.0}

    def make_run(name):
        def run(times):
            calls.append((name, times))
            clock[0] += times * seconds[name]

        return run

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    runs = {name: make_run(name) for name in seconds}
    turns = timing.time_in_turns(runs, rounds=6, turn=0.01, total=10)
    assert turns["quick"] == pytest.approx([4.0] * 6)
    assert turns["slow"] == pytest.approx([100.0] * 3)
    assert turns["slowest"] == pytest.approx([2000.0])
    first, again = ["quick", "slow", "slowest"], ["quick", "slow"]
    assert calls[:5] == [(name, 1) for name in first + again]
    quick = [("quick", 1), ("quick", 3)]  # the single call fills the caches
    assert calls[5:11] == [*quick, ("slow", 1), ("slow", 1), *quick]


def test_the_limit_of_time_reduces_the_turns_but_not_below_three(monkeypatch):
    clock = [0.0]

    def run(times):
        clock[0] += times

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    for total, expected in [(0, 3), (7, 7), (100, 9)]:
        (turns,) = timing.time_in_turns({"one": run}, rounds=9, turn=1, total=total).values()
        assert len(turns) == expected
