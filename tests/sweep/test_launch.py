"""Workers in processes of their own run all trials, tell of each, and keep to their own GPUs."""

from fidle_jax.sweep import folder
from fidle_jax.sweep.launch import run_local
from tests.sweep.made_up_experiment import FAILS, STOPS_ONCE


def test_each_of_several_workers_has_a_gpu_of_those_that_the_sweep_may_use(
    begin, made_up, monkeypatch
):
    monkeypatch.setenv("MADE_UP_SECONDS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    plan, sweep_dir = begin({"learning_rate": (0.1, 0.2)}, seeds=2)
    told = []
    assert run_local(sweep_dir, made_up, plan, 2, told.append) == []
    assert {path.read_text() for path in (sweep_dir / "runs").glob("*/gpus")} == {"4", "7"}
    assert len(told) == len(folder.read_table(sweep_dir)) == 4


def test_what_failed_is_told_and_a_worker_that_was_lost_has_its_reason(begin, made_up, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    plan, sweep_dir = begin({"learning_rate": (FAILS, STOPS_ONCE)})
    told = []
    (lost,) = run_local(sweep_dir, made_up, plan, 1, told.append)
    assert lost == "its run was interrupted"
    # Where the sweep has all GPUs its workers have them too, which submitit would hide.
    assert {path.read_text() for path in (sweep_dir / "runs").glob("*/gpus")} == {"as they are"}
    ((name, reason),) = folder.all_failures(sweep_dir)
    assert told == [f"{name}: failed: {reason}"]
    folder.forget_failures(sweep_dir)
    (sweep_dir / "runs").rename(sweep_dir / "runs away")
    (sweep_dir / "runs").write_text("")
    (lost,) = run_local(sweep_dir, made_up, plan, 1, told.append)
    assert "Not a directory" in lost
