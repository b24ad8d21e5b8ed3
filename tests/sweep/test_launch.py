"""Workers in processes of their own run all trials, tell of each, and keep to their own GPUs."""

import pytest

from fidle_jax.sweep import folder
from fidle_jax.sweep.launch import run_local
from tests.sweep.made_up_experiment import FAILS, STOPS_ONCE


@pytest.mark.parametrize(("gpus", "expected"), [(None, {"as they are"}), ("4,7", {"4", "7"})])
def test_each_of_several_workers_has_a_gpu_of_those_that_the_sweep_may_use(
    begin, made_up, monkeypatch, gpus, expected
):
    monkeypatch.setenv("MADE_UP_SECONDS", "1")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if gpus:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    plan, sweep_dir = begin({"learning_rate": (0.1, 0.2)}, seeds=2)
    told = []
    assert run_local(sweep_dir, made_up, plan, 2, told.append) == []
    assert {path.read_text() for path in (sweep_dir / "runs").glob("*/gpus")} == expected
    assert len(told) == len(folder.read_table(sweep_dir)) == 4


def test_what_failed_is_told_and_a_worker_that_was_lost_has_its_reason(begin, made_up):
    plan, sweep_dir = begin({"learning_rate": (FAILS, STOPS_ONCE)})
    told = []
    (lost,) = run_local(sweep_dir, made_up, plan, 1, told.append)
    assert lost == "its run was interrupted"
    ((name, reason),) = folder.all_failures(sweep_dir)
    assert told == [f"{name}: failed: {reason}"]
    folder.forget_failures(sweep_dir)
    (sweep_dir / "runs").rename(sweep_dir / "runs away")
    (sweep_dir / "runs").write_text("")
    (lost,) = run_local(sweep_dir, made_up, plan, 1, told.append)
    assert "Not a directory" in lost
