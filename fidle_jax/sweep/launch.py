"""A sweep's workers, by submitit: this process, processes of this machine, or a job array of Slurm."""

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import submitit

from fidle_jax.errors import InputError
from fidle_jax.sweep import folder
from fidle_jax.sweep.experiment import Experiment
from fidle_jax.sweep.plan import Plan
from fidle_jax.sweep.worker import Stopped, known_trials, work
from fidle_jax.train.child import Child
from fidle_jax.train.launch import SIGNAL_SECONDS, stderr_into

A_YEAR = 365 * 24 * 60
LOOK_SECONDS = 0.5
SAVE_SECONDS = 60


@dataclasses.dataclass
class Worker:
    """What a job of the sweep calls: `fidle_jax.sweep.worker.work`.

    Attributes:
      place: as of `work`, as are ``patient`` and ``expected``.
      gpus: the CUDA_VISIBLE_DEVICES that it is to have, if any; submitit's local jobs have an empty one.
    """

    sweep_dir: Path
    experiment: Experiment
    plan: Plan
    place: tuple[int, int] = (0, 1)
    patient: bool = True
    expected: Mapping[str, float | None] | None = None
    gpus: str | None = None

    def __call__(self) -> str:
        """Returns "" where all was done, or why not."""
        self._child = None
        if submitit.JobEnvironment().cluster == "local":
            del os.environ["CUDA_VISIBLE_DEVICES"]
            os.environ |= {} if self.gpus is None else {"CUDA_VISIBLE_DEVICES": self.gpus}

        def started(child: Child) -> None:
            self._child = child

        how = {"place": self.place, "patient": self.patient, "started": started}
        how["expected"] = self.expected
        try:
            work(self.sweep_dir, self.experiment, self.plan, **how)
        except Stopped:
            return "its run was interrupted"
        except (InputError, OSError) as error:
            return str(error)
        return ""

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Called by submitit before the job's time is over: has the run saved, and asks for more."""
        if self._child is not None:
            self._child.terminate()
            self._child.wait()
        return submitit.helpers.DelayedSubmission(dataclasses.replace(self))


def run_here(
    sweep_dir: Path, experiment: Experiment, plan: Plan, tell: Callable[[str], None]
) -> None:
    """All trials from this process, one after the other.

    Raises:
      KeyboardInterrupt: it was interrupted, or its run was, which has saved.
      InputError, OSError: as of `work`.
    """
    try:
        work(sweep_dir, experiment, plan, tell=tell)
    except Stopped:
        raise KeyboardInterrupt from None


def run_local(
    sweep_dir: Path,
    experiment: Experiment,
    plan: Plan,
    workers: int,
    tell: Callable[[str], None],
    expected: Mapping[str, float | None] | None = None,
) -> list[str]:
    """All trials in so many processes on this machine, each with its share of the cores or a GPU.

    Args:
      tell: is told, in a line, of each trial that ends.
      expected: as of `work`.

    Returns:
      Why workers ended that did not do all.

    Raises:
      KeyboardInterrupt: it was interrupted; the runs have saved.
    """
    told = {t.name for t in known_trials(sweep_dir, plan) if folder.outcome_of(sweep_dir, t.name)}

    def look() -> None:
        for trial in known_trials(sweep_dir, plan):
            outcome = folder.outcome_of(sweep_dir, trial.name)
            if outcome and trial.name not in told:
                told.add(trial.name)
                tell(f"{trial.name}: {outcome}")

    executor = submitit.AutoExecutor(folder=sweep_dir / "jobs", cluster="local")
    executor.update_parameters(name=experiment.file.stem, timeout_min=A_YEAR)
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    jobs: list[submitit.Job] = []
    try:
        with stderr_into(sweep_dir / "jobs" / "controllers.err"):
            for k in range(workers):
                worker = Worker(
                    sweep_dir, experiment, plan, (k, workers), expected=expected, gpus=gpus
                )
                jobs.append(executor.submit(worker))
        while not all(job.done() for job in jobs):
            time.sleep(LOOK_SECONDS)
            look()
    except BaseException:
        for job in jobs:
            job.cancel(check=False)
        folder.wait_for_runs(sweep_dir, SAVE_SECONDS)
        raise
    look()
    return [end for end in map(_end_of, jobs) if end]


def _end_of(job: submitit.Job) -> str:
    if (error := job.exception()) is None:
        return job.result()
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # submitit ends its message with the names of its files.
    return next((line for line in reversed(lines) if not line.startswith("- ")), "no reason given")


def submit_to_slurm(
    sweep_dir: Path,
    experiment: Experiment,
    plan: Plan,
    workers: int,
    minutes: int,
    slurm: dict[str, str],
    **parameters,
) -> list[submitit.Job]:
    """A job array of so many workers; a run that is under way when a job's time is over goes on in the next.

    Args:
      workers: jobs of the array.
      minutes: time limit of each.
      slurm: further parameters of sbatch.
      **parameters: of `submitit.AutoExecutor`, of each job: gpus_per_node, cpus_per_task, ...

    Raises:
      RuntimeError, OSError, FailedJobError: there is no such cluster, or it refuses the jobs.
    """
    executor = submitit.AutoExecutor(
        folder=sweep_dir / "jobs", cluster="slurm", slurm_max_num_timeout=10_000
    )
    if cpus := parameters.get("cpus_per_task"):
        # What srun does not take over from sbatch.
        parameters |= {"slurm_srun_args": [f"--cpus-per-task={cpus}"]}
    executor.update_parameters(
        name=experiment.file.stem,
        timeout_min=minutes,
        slurm_array_parallelism=workers,
        slurm_signal_delay_s=SIGNAL_SECONDS,
        slurm_additional_parameters=slurm,
        **parameters,
    )
    # A job that waits holds its GPU.
    worker = Worker(sweep_dir, experiment, plan, patient=plan.search == "halving")
    with executor.batch():
        return [executor.submit(worker) for _ in range(workers)]
