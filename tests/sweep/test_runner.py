import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fidle_jax.sweep import results
from fidle_jax.sweep.runner import Stopped, Worker, run_local, take_share
from tests.sweep.made_up_experiment import (
    DIES,
    DIES_ONCE,
    ENDS_BADLY,
    FAILS,
    HAS_NO_RESULT,
    STOPS_ONCE,
)

ROOT = Path(__file__).parents[2]
WORKER = """
import sys
from fidle_jax.sweep.plan import make_sweep
from fidle_jax.sweep.runner import Worker
file, folder, index, count = sys.argv[1:]
sweep = make_sweep(folder, file, {"learning_rate": (0.1, 0.2)}, {"epochs": 2}, seeds=2)
Worker(sweep, int(index), int(count)).run(print)
"""


@pytest.fixture
def work():
    """``work(sweep)`` runs a worker and returns its lines."""

    def work(sweep, **fields):
        lines = []
        Worker(sweep, **fields).run(lines.append)
        return lines

    return work


def calls(sweep_dir):
    """Map each run to its calls, as lists of words."""
    found = {path.parent.name: path.read_text() for path in (sweep_dir / "runs").glob("*/calls")}
    return {name: [line.split() for line in text.splitlines()] for name, text in found.items()}


def rates(sweep_dir):
    return sorted(results.read_table(sweep_dir)["learning_rate"])


def test_every_trial_runs_once(begin, work):
    sweep = begin({"learning_rate": (0.1, 0.2, 0.3, 0.4)})
    names = [trial.name for trial in sweep.trials]
    lines = work(sweep)
    assert all("made up: test accuracy" in line for line in lines)
    assert [line.partition(":")[0] for line in lines] == names
    assert rates(sweep.folder) == [0.1, 0.2, 0.3, 0.4]
    (
        sweep.folder / "results.sqlite"
    ).unlink()  # as if the worker had been killed before it wrote it
    assert work(sweep) == []
    assert (sweep.folder / "results.sqlite").exists()
    found = calls(sweep.folder)
    assert sorted(found) == sorted(names)
    assert all(len(lines) == 1 for lines in found.values())


def test_a_run_that_fails_is_recorded_with_its_last_line_and_does_not_stop_the_others(begin, work):
    sweep = begin({"learning_rate": (FAILS, 0.1)})
    work(sweep)
    ((name, reason),) = results.failures(sweep.folder).items()
    assert name.startswith(f"{FAILS}-")
    assert reason == "error: this learning rate fails"
    assert rates(sweep.folder) == [0.1]
    work(sweep)
    assert len(calls(sweep.folder)[name]) == 1
    results.forget_failures(sweep.folder)
    work(sweep)
    assert "--resume" in calls(sweep.folder)[name][1]


def test_a_killed_run_resumes_but_fails_if_it_is_killed_three_times(begin, work):
    sweep = begin({"learning_rate": (DIES_ONCE, DIES)})
    work(sweep)
    ((name, reason),) = results.failures(sweep.folder).items()
    assert (name.startswith(f"{DIES}-"), "SIGKILL 3 times" in reason) == (True, True)
    assert rates(sweep.folder) == [DIES_ONCE]


def test_a_result_counts_however_its_run_ended_and_a_run_without_one_failed(begin, work):
    sweep = begin({"learning_rate": (ENDS_BADLY, HAS_NO_RESULT)})
    work(sweep)
    assert rates(sweep.folder) == [ENDS_BADLY]
    ((name, reason),) = results.failures(sweep.folder).items()
    assert (name[:3], reason) == ("7.0", "it ended without a result: that was all")


def test_an_impatient_worker_leaves_the_trials_of_others(begin, work):
    sweep = begin({"learning_rate": (0.1, 0.2)})
    with results.claim(sweep.folder, sweep.trials[0].name):
        work(sweep, patient=False)
    assert rates(sweep.folder) == [0.2]


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_log_that_is_no_regular_file_is_neither_followed_nor_waited_for(begin, work, kind):
    sweep = begin({"learning_rate": (0.1,)})
    foreign, log = sweep.folder / "diary", sweep.folder / "logs" / f"{sweep.trials[0].name}.log"
    foreign.write_text("mine")
    if kind == "link":
        log.symlink_to(foreign)
    else:
        os.mkfifo(log)
    with pytest.raises(OSError, match=r"symbolic links|not a regular file"):
        work(sweep)
    assert (foreign.read_text(), calls(sweep.folder)) == ("mine", {})


def test_an_interrupted_run_ends_the_worker_and_resumes_later(begin, work):
    sweep = begin({"learning_rate": (STOPS_ONCE, 0.1)})
    with pytest.raises(Stopped):
        work(sweep)
    assert results.failures(sweep.folder) == {}
    work(sweep)
    assert rates(sweep.folder) == [0.1, STOPS_ONCE]


def _start(sweep, index, count, seconds):
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, sweep.file, sweep.folder, str(index), str(count)],
        env=os.environ | {"MADE_UP_SECONDS": str(seconds), "PYTHONPATH": str(ROOT)},
    )


def test_parallel_workers_share_the_trials(begin):
    sweep = begin({"learning_rate": (0.1, 0.2)}, seeds=2)
    workers = [_start(sweep, k, 2, 0.2) for k in range(2)]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    assert [len(lines) for lines in calls(sweep.folder).values()] == [1] * 4
    assert len(results.read_table(sweep.folder)) == 4


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals the death of a parent")
def test_the_run_of_a_killed_worker_ends_before_another_worker_takes_it(begin, work):
    sweep = begin({"learning_rate": (0.1, 0.2)}, seeds=2)
    worker = _start(sweep, 0, 1, 60)
    deadline = time.monotonic() + 60
    while not calls(sweep.folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    work(sweep)
    assert len(results.read_table(sweep.folder)) == 4
    assert sorted(len(lines) for lines in calls(sweep.folder).values()) == [1, 1, 1, 2]


def test_local_workers_use_the_gpus_of_the_sweep_and_report_each_trial(begin, monkeypatch):
    monkeypatch.setenv("MADE_UP_SECONDS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    sweep = begin({"learning_rate": (0.1, 0.2)}, seeds=2)
    lines = []
    assert run_local(sweep, 2, lines.append) == []
    assert {path.read_text() for path in (sweep.folder / "runs").glob("*/gpus")} == {"4", "7"}
    assert len(lines) == len(results.read_table(sweep.folder)) == 4


def test_failures_and_lost_local_workers_are_reported_with_their_reason(begin, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    sweep = begin({"learning_rate": (FAILS, STOPS_ONCE)})
    lines = []
    (lost,) = run_local(sweep, 1, lines.append)
    assert lost == "its run was interrupted"
    # Without CUDA_VISIBLE_DEVICES, the workers see all GPUs, although submitit hides them.
    assert {path.read_text() for path in (sweep.folder / "runs").glob("*/gpus")} == {"as they are"}
    ((name, reason),) = results.failures(sweep.folder).items()
    assert lines == [f"{name}: failed: {reason}"]
    results.forget_failures(sweep.folder)
    (sweep.folder / "runs").rename(sweep.folder / "runs away")
    (sweep.folder / "runs").write_text("")
    (lost,) = run_local(sweep, 1, lines.append)
    assert "Not a directory" in lost


# This runs in other processes, because each keeps its cores.
SHARES = """
import json, multiprocessing, os, sys
from fidle_jax.sweep.runner import take_share

def take(place):
    environment = take_share(*place)
    return sorted(os.sched_getaffinity(0)), environment

with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
    print(json.dumps(pool.map(take, json.loads(sys.argv[1]), chunksize=1)))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_workers_share_the_cores():
    cores = sorted(os.sched_getaffinity(0))
    count = len(cores)
    places = [(0, 1), (2 * count + 1, 4 * count), *((k, count) for k in range(count))]
    command = [sys.executable, "-c", SHARES, json.dumps(places)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    alone, one_of_many, *each = json.loads(done.stdout)
    assert alone == [cores, {}]
    assert one_of_many[0] == [cores[1 % count]]
    assert [taken for taken, _ in each] == [[core] for core in cores]


@pytest.fixture
def share(monkeypatch, tmp_path):
    """``share(index, count, files)``: environment of a worker on a machine with these device files."""
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def share(index, count, files):
        for name in files:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        return take_share(index, count, tmp_path)

    return share


def test_each_worker_gets_a_gpu_or_a_share_of_one(share, monkeypatch):
    gpus = ["nvidia0", "nvidia1", "nvidiactl"]
    assert share(1, 2, gpus) == {"CUDA_VISIBLE_DEVICES": "1"}
    several = {"CUDA_VISIBLE_DEVICES": "0", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.375"}
    assert share(2, 4, gpus) == several
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert share(1, 2, gpus) == {"CUDA_VISIBLE_DEVICES": "7"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert share(1, 2, gpus) == {}


@pytest.mark.parametrize("files", [["accel0", "accel1"], ["vfio/0", "vfio/1", "vfio/vfio"]])
def test_each_worker_gets_a_tpu_chip(share, files):
    bounds = dict.fromkeys(("TPU_PROCESS_BOUNDS", "TPU_CHIPS_PER_PROCESS_BOUNDS"), "1,1,1")
    assert share(1, 2, files) == {"TPU_VISIBLE_CHIPS": "1"} | bounds
    assert share(2, 4, files) == {"TPU_VISIBLE_CHIPS": "0"} | bounds
