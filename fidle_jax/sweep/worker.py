"""A process that runs the trials of a sweep, one after the other, beside others that do the same."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from fidle_jax.sweep import folder
from fidle_jax.sweep.experiment import Experiment
from fidle_jax.sweep.plan import Plan, Trial, all_trials
from fidle_jax.sweep.share import take_share
from fidle_jax.train.child import Child

INTERRUPTED = 130
# A run that a signal killed goes on, so often; then there may be too little memory for it.
LIVES = 3
# A program that asks for a signal at its parent's death, and becomes another: not a function that runs
# after a fork, as this process may have threads. A run that saves already takes this signal for no second,
# impatient one.
_PR_SET_PDEATHSIG = 1
_TIE = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, {int(signal.SIGUSR1)})
if os.getppid() != int(sys.argv[1]):
    sys.exit({INTERRUPTED})
os.execv(sys.argv[2], sys.argv[2:])
"""


class Stopped(Exception):
    """A run was interrupted, and saved: the worker is to end too."""


def work(
    sweep_dir: Path,
    experiment: Experiment,
    plan: Plan,
    *,
    place: tuple[int, int] = (0, 1),
    tell: Callable[[str], None] = print,
    started: Callable[[Child], None] = lambda child: None,
    patient: bool = True,
    expected: Mapping[str, float | None] | None = None,
) -> None:
    """Runs what no other worker runs, until every trial has ended.

    Args:
      sweep_dir: that of a sweep that was begun.
      experiment: what runs a trial.
      plan: what to run.
      place: this worker's number, and how many there are on this machine.
      tell: is told, in a line, of each trial that ends.
      started: is given the process of each run.
      patient: wait for what others run: one of them may be lost, or a next rung of halving follow on it.
      expected: seconds that trials are thought to take, by name: the longest are run first, so that workers
        end about together.

    Raises:
      Stopped: a run was interrupted.
      OSError: the sweep's directory cannot be written.
    """
    environment = take_share(*place)
    deaths: Counter[str] = Counter()
    while True:
        left = [trial for trial in known_trials(sweep_dir, plan) if not _ended(sweep_dir, trial)]
        left.sort(key=lambda trial: -((expected or {}).get(trial.name) or 0))
        if not left:
            folder.write_table(sweep_dir)  # a worker may have been killed before it could
            return
        for trial in left:
            lock = folder.claim(sweep_dir, trial.name)
            if lock is None:
                continue
            with lock:
                if not _ended(sweep_dir, trial):
                    began = time.monotonic()
                    ended = _run(sweep_dir, experiment, trial, lock, environment, started)
                    what = _record(sweep_dir, trial, *ended, deaths)
                    tell(f"{trial.name}: {what} ({time.monotonic() - began:.0f} s)")
                    break
        else:
            if not patient:
                return
            time.sleep(0.5)


def known_trials(sweep_dir: Path, plan: Plan) -> list[Trial]:
    """The trials of the plan, those that follow on what has ended too."""

    def score(trial: str) -> float | None:
        if result := folder.result_of(sweep_dir, trial):
            best = result["best_validation_accuracy"]
            return -1.0 if best is None else best
        return None if folder.failure_of(sweep_dir, trial) is None else -1.0

    return all_trials(plan, score)


def _ended(sweep_dir: Path, trial: Trial) -> bool:
    failed = folder.failure_of(sweep_dir, trial.name)
    return failed is not None or folder.result_of(sweep_dir, trial.name) is not None


def _run(
    sweep_dir: Path,
    experiment: Experiment,
    trial: Trial,
    lock: IO[str],
    environment: dict[str, str],
    started: Callable[[Child], None],
) -> tuple[int, str]:
    """The exit status of the trial's run, below 0 that of the signal that killed it; its last words."""
    log = folder.log_of(sweep_dir, trial.name)
    with log.open("a") as output:
        before = output.tell()
        # The run has the lock too: it is let go when both this process and the run have ended.
        child = Child(
            _tied(experiment.command(trial.config, sweep_dir / "runs" / trial.name)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | environment,
            pass_fds=(lock.fileno(),),
        )
    started(child)
    try:
        status = child.wait()
    except BaseException:
        child.terminate()
        child.wait()
        raise
    return status, _last_line(log.read_bytes()[before:])


def _record(sweep_dir: Path, trial: Trial, status: int, last: str, deaths: Counter[str]) -> str:
    """Writes down how a run ended, and says it in words."""
    if folder.result_of(sweep_dir, trial.name) is not None:
        folder.write_table(sweep_dir)
        return last
    if status == INTERRUPTED:
        raise Stopped
    if status < 0:
        deaths[trial.name] += 1
        name = signal.Signals(-status).name
        if deaths[trial.name] < LIVES:
            return f"killed by {name}; goes on"
        why = ", perhaps for want of memory" if -status == signal.SIGKILL else ""
        last = f"killed by {name} {LIVES} times{why}"
    elif status == 0:
        last = f"it ended without a result: {last}"
    folder.write_failure(sweep_dir, trial.name, status, last)
    return f"failed: {last}"


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")


def _tied(command: list[str]) -> list[str]:
    """The command, told by Linux to save and end where its worker is killed, which cannot tell it."""
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid()), *command]
