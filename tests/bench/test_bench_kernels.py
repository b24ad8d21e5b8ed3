import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fidle_jax.kernels import measured
from fidle_jax.kernels.measured import kept_rows, read_rows

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def call(*arguments):
    command = [sys.executable, EXPERIMENTS / "bench_kernels.py", *map(str, arguments)]
    # Nothing is said of the times here: compiled without optimization it is there sooner.
    quick = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
    return subprocess.run(command, capture_output=True, text=True, env=quick)


def test_one_small_shape_is_measured_by_every_method_and_judged(tmp_path):
    only = "^conv 1x13x13x8 |^max_pool 1x26"
    done = call("--only", only, "--rounds", 2, "--seconds", 0.1, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "kernels.json").read_text())
    assert record["matmul_gflops"] > 0
    pool, conv = record["results"]
    assert conv["problem"]["features"] == 16
    assert conv["gradients"] == ["x", "w"]
    assert {"xla", "im2col", "shifted", "winograd"} <= set(conv["training"])
    for phase in ("forward", "training"):
        for summary in conv[phase].values():
            assert len(summary["turns"]) == 2
            assert summary["milliseconds"] > 0
            assert 0 < summary["share_of_peak"] < 1
    assert "share_of_peak" not in pool["training"]["tiles"]
    for result in (pool, conv):
        times = {method: each["milliseconds"] for method, each in result["training"].items()}
        assert result["auto_over_best"] == times[result["auto"]] / min(times.values())
    assert (tmp_path / "kernels.png").read_bytes().startswith(b"\x89PNG")
    assert "conv 1x13x13x8 -> 16, 3x3" in done.stdout
    assert "auto is within 10 % of the best on" in done.stdout


@pytest.fixture
def bench_kernels(monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENTS)
    return importlib.import_module("bench_kernels")


def test_a_table_is_written_with_new_rows_in_place_of_those_of_the_same_problems(
    bench_kernels, tmp_path, monkeypatch
):
    monkeypatch.setattr(measured, "__file__", str(tmp_path / "measured.py"))
    bench_kernels.main(
        bench_kernels.Config(
            "^avg_pool 1x26", rounds=1, seconds=0.1, output=tmp_path, write_table=True
        )
    )
    kept, written = kept_rows(), read_rows((tmp_path / "auto.tsv").read_text())
    (new,) = [row for row in written if row not in kept]
    assert (new.problem.kind, new.problem.spatial) == ("avg_pool", (26, 26))
    assert set(new.milliseconds) == {"tiles", "xla"}
    others = {row.problem for row in kept} - {new.problem}
    assert {row.problem for row in written} == others | {new.problem}


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"only": "no such problem"}, "found in no problem's line"),
        ({"only": "("}, "no regular expression"),
        ({"rounds": 0}, "--rounds 0"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(flags, named, bench_kernels, capsys):
    with pytest.raises(SystemExit, match="2"):
        bench_kernels.main(bench_kernels.Config(**flags))
    error = capsys.readouterr().err
    assert named in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_turns_go_round_and_those_far_behind_take_few(monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENTS)
    import _bench_turns

    calls = []
    seconds = {"quick": 0.001, "slow": 0.1, "hopeless": 2.0}

    def prepare(name):
        def run(times):
            calls.append(name)
            clock[0] += times * seconds[name]

        return run

    clock = [0.0]
    monkeypatch.setattr(_bench_turns.time, "perf_counter", lambda: clock[0])
    turns = _bench_turns.time_by_turns({name: prepare(name) for name in seconds}, 6, seconds=10)
    assert turns["quick"] == pytest.approx([1.0] * 6)
    assert turns["slow"] == pytest.approx([100.0] * 3)
    assert turns["hopeless"] == pytest.approx([2000.0])
    assert calls[:5] == ["quick", "quick", "slow", "slow", "hopeless"]
    assert calls[5:9] == ["quick", "slow", "slow", "quick"]
