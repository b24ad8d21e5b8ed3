"""Run the trials of a sweep: in this process, in local processes, or in a Slurm job array."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import IO

import submitit

from fidle_jax.errors import InputError
from fidle_jax.files import open_own
from fidle_jax.sweep import results
from fidle_jax.sweep.plan import Sweep, Trial
from fidle_jax.train.launch import Child, make_executor, redirect_stderr

INTERRUPTED = 130
# A run that is killed by a signal resumes, but not forever: there may be too little memory for it.
MOST_STARTS = 3
POLL_SECONDS = 0.5
SAVE_SECONDS = 60
DEVICES = Path("/dev")
# This program asks Linux for a signal at the death of its parent and then becomes the run. A function
# that runs after a fork could deadlock, because this process may have threads. A run that is already
# saving ignores SIGUSR1 as a second signal.
_PR_SET_PDEATHSIG = 1
_TIE = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, {int(signal.SIGUSR1)})
if os.getppid() != int(sys.argv[1]):
    sys.exit({INTERRUPTED})
os.execv(sys.argv[2], sys.argv[2:])
"""


class Stopped(Exception):
    """A run was interrupted and has saved, so the worker must end too."""


@dataclasses.dataclass
class Worker:
    """A process that runs trials one after the other, next to other workers of the same sweep.

    Attributes:
        sweep: Sweep that has begun.
        index: Index of this worker on its machine.
        count: Number of workers on its machine.
        patient: Whether to wait for the trials of other workers, which may be lost.
        gpus: CUDA_VISIBLE_DEVICES of the sweep, or None. submitit hides all GPUs from local jobs.
    """

    sweep: Sweep
    index: int = 0
    count: int = 1
    patient: bool = True
    gpus: str | None = None

    def __call__(self) -> str:
        """Run as a submitit job. Return why it ended too early, or ""."""
        if submitit.JobEnvironment().cluster == "local":
            del os.environ["CUDA_VISIBLE_DEVICES"]
            os.environ |= {} if self.gpus is None else {"CUDA_VISIBLE_DEVICES": self.gpus}
        try:
            self.run(print)
        except Stopped:
            return "its run was interrupted"
        except (InputError, OSError) as error:
            return str(error)
        return ""

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Save the run and request another job. submitit calls this before the time limit."""
        if (child := getattr(self, "_child", None)) is not None:
            child.terminate()
            child.wait()
        return submitit.helpers.DelayedSubmission(dataclasses.replace(self))

    def run(self, report: Callable[[str], None]) -> None:
        """Run trials until each one has ended, and ``report`` each of them on one line.

        Raises:
            Stopped: A run was interrupted.
            OSError: The directory of the sweep cannot be written.
        """
        environment = take_share(self.index, self.count)
        deaths: Counter[str] = Counter()
        trials = self.sweep.trials
        while left := [trial for trial in trials if not self._has_ended(trial)]:
            for trial in left:
                if (lock := results.claim(self.sweep.folder, trial.name)) is None:
                    continue
                with lock:
                    if not self._has_ended(trial):
                        start = time.monotonic()
                        status, last = self._train(trial, lock, environment)
                        message = self._record(trial, status, last, deaths)
                        report(f"{trial.name}: {message} ({time.monotonic() - start:.0f} s)")
                        break
            else:
                if not self.patient:
                    return
                time.sleep(POLL_SECONDS)
        results.write_table(self.sweep.folder)  # a worker may have been killed before it did

    def _has_ended(self, trial: Trial) -> bool:
        return results.outcome(self.sweep.folder, trial.name) is not None

    def _train(self, trial: Trial, lock: IO[str], environment: dict[str, str]) -> tuple[int, str]:
        """Return the exit status, negative for a signal, and the last line of the output."""
        log = self.sweep.folder / "logs" / f"{trial.name}.log"
        command = self.sweep.command(trial)
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid()), *command]
        with open_own(log, "a") as output:
            before = output.tell()
            # The run inherits the lock, so it is released when this process and the run have ended.
            self._child = Child(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | environment,
                pass_fds=(lock.fileno(),),
            )
        try:
            status = self._child.join()
        except BaseException:
            self._child.terminate()
            self._child.join()
            raise
        lines = log.read_bytes()[before:].decode(errors="replace").split("\n")
        lines = [line.strip() for line in lines if line.strip()]
        return status, lines[-1] if lines else "it printed nothing"

    def _record(self, trial: Trial, status: int, last: str, deaths: Counter[str]) -> str:
        """Record how a run ended, and return it as a message."""
        if results.outcome(self.sweep.folder, trial.name) is not None:
            results.write_table(self.sweep.folder)
            return last
        if status == INTERRUPTED:
            raise Stopped
        if status < 0:
            deaths[trial.name] += 1
            name = signal.Signals(-status).name
            if deaths[trial.name] < MOST_STARTS:
                return f"killed by {name}; it resumes"
            why = ", perhaps because of too little memory" if -status == signal.SIGKILL else ""
            last = f"killed by {name} {MOST_STARTS} times{why}"
        elif status == 0:
            last = f"it ended without a result: {last}"
        results.write_failure(self.sweep.folder, trial.name, status, last)
        return f"failed: {last}"


def take_share(index: int, count: int, devices: Path = DEVICES) -> dict[str, str]:
    """Restrict this process and its children to the cores of worker ``index`` of ``count``.

    Return the environment variables that restrict JAX in child processes to one GPU or TPU chip.
    ``devices`` is the directory of the device files.
    """
    if count == 1:
        return {}
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        each = max(1, len(cores) // count)
        first = index * each % len(cores)
        os.sched_setaffinity(0, cores[first : first + each])
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        gpus = [number for number in visible.split(",") if number]
    else:
        gpus = [str(k) for k, _ in enumerate(devices.glob("nvidia[0-9]*"))]
    if gpus:
        share = {"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]}
        if (workers_per_gpu := -(-count // len(gpus))) > 1:
            # By default, JAX allocates three quarters of a GPU's memory.
            share["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.75 / workers_per_gpu:.3f}"
        return share
    if chips := len(list(devices.glob("accel[0-9]*")) or list(devices.glob("vfio/[0-9]*"))):
        # Without these bounds, a process waits for the processes of the other chips.
        bounds = ("TPU_PROCESS_BOUNDS", "TPU_CHIPS_PER_PROCESS_BOUNDS")
        return {"TPU_VISIBLE_CHIPS": str(index % chips)} | dict.fromkeys(bounds, "1,1,1")
    return {}


def run_here(sweep: Sweep, report: Callable[[str], None]) -> None:
    """Run all trials from this process, one after the other.

    Raises:
        KeyboardInterrupt: This process or its run was interrupted. The run has saved.
    """
    try:
        Worker(sweep).run(report)
    except Stopped:
        raise KeyboardInterrupt from None


def run_local(sweep: Sweep, workers: int, report: Callable[[str], None]) -> list[str]:
    """Run all trials in ``workers`` local processes, each with its share of the cores or a GPU.

    ``report`` receives one line for each trial that ends.

    Returns:
        The reasons of the workers that ended too early.

    Raises:
        KeyboardInterrupt: The sweep was interrupted. The runs have saved.
    """
    names = [trial.name for trial in sweep.trials]
    reported = {name for name in names if results.outcome(sweep.folder, name)}

    def report_new() -> None:
        for name in names:
            if name not in reported and (outcome := results.outcome(sweep.folder, name)):
                reported.add(name)
                report(f"{name}: {outcome}")

    executor = make_executor(sweep.folder / "jobs", "local", sweep.file.stem)
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    jobs: list[submitit.Job] = []
    try:
        with redirect_stderr(sweep.folder / "jobs" / "controllers.err"):
            for k in range(workers):
                jobs.append(executor.submit(Worker(sweep, k, workers, gpus=gpus)))
        while not all(job.done() for job in jobs):
            time.sleep(POLL_SECONDS)
            report_new()
    except BaseException:
        for job in jobs:
            job.cancel(check=False)
        results.wait_for_runs(sweep.folder, SAVE_SECONDS)
        raise
    report_new()
    return [reason for reason in map(_reason, jobs) if reason]


def _reason(job: submitit.Job) -> str:
    if (error := job.exception()) is None:
        return job.result()
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # submitit lists its files at the end of its message.
    return next((line for line in reversed(lines) if not line.startswith("- ")), "no reason given")


def submit_to_slurm(sweep: Sweep, workers: int, **parameters) -> list[submitit.Job]:
    """Submit an array of ``workers`` jobs. An unfinished run resumes in the next job.

    ``parameters`` are those of `fidle_jax.train.launch.make_executor`, such as timeout_min.

    Raises:
        RuntimeError, OSError, FailedJobError: There is no such cluster, or it rejects the jobs.
    """
    parameters |= {"slurm_array_parallelism": workers}
    executor = make_executor(sweep.folder / "jobs", "slurm", sweep.file.stem, **parameters)
    # A waiting job would block its GPU.
    worker = Worker(sweep, patient=False)
    with executor.batch():
        return [executor.submit(worker) for _ in range(workers)]
