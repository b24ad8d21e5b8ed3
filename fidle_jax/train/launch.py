"""An experiment as a job of submitit: processes on this machine, or a job of Slurm."""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import submitit

from fidle_jax.train.child import Child

# Before a time limit, the time that a run has to save its state.
SIGNAL_SECONDS = 120


@dataclasses.dataclass
class Experiment:
    """What each process of the job calls: an experiment's file with its flags, in a process of its own.

    Attributes:
        file: the experiment's file.
        words: its flags, without ``--run-dir`` and ``--resume``.
        run_dir: where the run is written; one that is there already goes on.
    """

    file: Path
    words: tuple[str, ...]
    run_dir: Path

    def __call__(self) -> int:
        """Returns the run's exit status; on a cluster one that is not 0 ends the job with it."""
        job = submitit.JobEnvironment()
        words = [*self.words, "--run-dir", str(self.run_dir), *_where(job)]
        if (self.run_dir / "config.json").exists():
            words.append("--resume")
        command = [sys.executable, str(self.file), *words]
        self._process = Child(command, env=os.environ | _devices(job))
        try:
            status = self._process.wait()
        except KeyboardInterrupt:
            self._process.terminate()
            status = self._process.wait()
        if status and job.cluster != "local":
            raise SystemExit(status)
        return status

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Called by submitit before the job's time is over: has the run saved, and asks for it again."""
        if process := getattr(self, "_process", None):
            process.terminate()
            process.wait()
        again = Experiment(self.file, self.words, self.run_dir)
        return submitit.helpers.DelayedSubmission(again)


def _where(job: submitit.JobEnvironment) -> list[str]:
    """What the experiment's process has to know of the others."""
    if job.num_tasks == 1:
        return []
    if job.cluster == "slurm":
        return ["--distributed"]  # JAX finds out the rest from Slurm
    # Below those that Linux gives out by itself.
    port = 20_000 + int(job.job_id.partition("_")[0]) % 10_000
    return [
        *("--distributed", "--coordinator", f"127.0.0.1:{port}"),
        *("--processes", str(job.num_tasks), "--process-index", str(job.global_rank)),
    ]


def _devices(job: submitit.JobEnvironment) -> dict[str, str]:
    """The environment that gives a process of several on this machine its own GPU."""
    if job.cluster != "local" or job.num_tasks == 1:
        return {}
    return {"JAX_LOCAL_DEVICE_IDS": str(job.local_rank)}


def submit(
    file: Path,
    words: tuple[str, ...],
    run_dir: Path,
    cluster: str,
    slurm: dict[str, str] | None = None,
    **parameters,
) -> submitit.Job:
    """Starts the experiment ``file``, with its flags ``words``, as a job; what it prints goes beside
    ``run_dir``, into ``RUN_DIR.jobs``.

    Args:
        file: the experiment's file.
        words: its flags, without ``--run-dir`` and ``--resume``.
        run_dir: where the run is written, on a disk that all machines share.
        cluster: "local" or "slurm".
        slurm: further parameters of sbatch.
        **parameters: of `submitit.AutoExecutor`: nodes, tasks_per_node, timeout_min, ...

    Raises:
        RuntimeError, OSError, FailedJobError: there is no such cluster, or it refuses the job.
    """
    run_dir = run_dir.absolute()
    folder = run_dir.with_name(f"{run_dir.name}.jobs")
    # It may run out of time as often as it needs to.
    often = {f"{cluster}_max_num_timeout": 10_000}
    executor = submitit.AutoExecutor(folder=folder, cluster=cluster, **often)
    if cluster == "slurm":
        parameters |= {"slurm_signal_delay_s": SIGNAL_SECONDS}
        parameters |= {"slurm_additional_parameters": slurm or {}}
        if cpus := parameters.get("cpus_per_task"):
            # What srun does not take over from sbatch.
            parameters |= {"slurm_srun_args": [f"--cpus-per-task={cpus}"]}
    executor.update_parameters(name=file.stem, **parameters)
    with stderr_into(folder / "controller.err"):
        return executor.submit(Experiment(file.absolute(), tuple(words), run_dir))


@contextlib.contextmanager
def stderr_into(file: Path) -> Iterator[None]:
    """Processes that start within it write their stderr to ``file``.

    submitit's local controller has a traceback for each interrupt; what the job itself prints has files
    of its own.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with file.open("ab") as output:
            os.dup2(output.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
