"""Run an experiment as a submitit job: in processes on this machine, or on a Slurm cluster."""

import contextlib
import dataclasses
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import submitit

SIGNAL_SECONDS = 120  # time to save between the signal and the time limit
A_YEAR = 365 * 24 * 60  # in minutes, as a time limit
MAX_REQUEUES = 10_000


class Child(subprocess.Popen):
    """A child process that a signal handler may wait for while the program waits for it too."""

    def join(self) -> int:
        """Wait until the process ends. Return its exit status."""
        # `wait` holds a lock, so a signal handler would wait for it forever. Call it in another thread.
        threading.Thread(target=self.wait, daemon=True).start()
        while self.returncode is None:
            time.sleep(0.05)
        return self.returncode


@dataclasses.dataclass
class Experiment:
    """The function of a job: it runs an experiment's file in a child process."""

    file: Path
    words: tuple[str, ...]  # flags, without --run-dir and --resume
    run_dir: Path  # a run that exists there is resumed

    def __call__(self) -> int:
        """Return the exit status. On a cluster, exit with it unless it is 0."""
        job = submitit.JobEnvironment()
        words = [*self.words, "--run-dir", str(self.run_dir)]
        if job.num_tasks > 1:
            words.append("--distributed")
            if job.cluster != "slurm":  # on Slurm, JAX finds the rest
                # below Linux's ephemeral ports
                port = 20_000 + int(job.job_id.partition("_")[0]) % 10_000
                words += ["--coordinator", f"127.0.0.1:{port}", "--processes", str(job.num_tasks)]
                words += ["--process-index", str(job.global_rank)]
        if (self.run_dir / "config.json").exists():
            words.append("--resume")
        environment = dict(os.environ)
        if job.cluster == "local" and job.num_tasks > 1:
            environment["JAX_LOCAL_DEVICE_IDS"] = str(job.local_rank)  # one GPU per process
        self._child = Child([sys.executable, str(self.file), *words], env=environment)
        try:
            status = self._child.join()
        except KeyboardInterrupt:
            self._child.terminate()
            status = self._child.join()
        if status and job.cluster != "local":
            raise SystemExit(status)
        return status

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Save the run and submit it again. submitit calls this before the time limit."""
        if child := getattr(self, "_child", None):
            child.terminate()
            child.join()
        return submitit.helpers.DelayedSubmission(dataclasses.replace(self))


def make_executor(
    folder: Path, cluster: str, name: str, slurm: dict[str, str] | None = None, **parameters
) -> submitit.AutoExecutor:
    """Return an executor whose jobs are signalled and queued again at their time limit.

    ``folder`` is for the jobs' files. ``slurm`` has further parameters of sbatch, and ``parameters`` those of
    `submitit.AutoExecutor`, such as nodes, tasks_per_node and timeout_min.
    """
    requeues = {f"{cluster}_max_num_timeout": MAX_REQUEUES}
    executor = submitit.AutoExecutor(folder=folder, cluster=cluster, **requeues)
    if cluster == "slurm":
        parameters = {"timeout_min": 60, "slurm_signal_delay_s": SIGNAL_SECONDS} | parameters
        parameters |= {"slurm_additional_parameters": slurm or {}}
        if cpus := parameters.get("cpus_per_task"):
            # srun does not inherit this from sbatch.
            parameters |= {"slurm_srun_args": [f"--cpus-per-task={cpus}"]}
    executor.update_parameters(name=name, **{"timeout_min": A_YEAR} | parameters)
    return executor


def submit(
    file: Path,
    words: tuple[str, ...],
    run_dir: Path,
    cluster: str,
    slurm: dict[str, str] | None = None,
    **parameters,
) -> submitit.Job:
    """Start the experiment ``file`` as a job, "local" or on "slurm". Write its output to ``RUN_DIR.jobs``.

    ``words`` are its flags without ``--run-dir`` and ``--resume``. All machines must share the disk of
    ``run_dir``. ``slurm`` and ``parameters`` are those of `make_executor`.

    Raises:
        RuntimeError, OSError, FailedJobError: The cluster does not exist or refuses the job.
    """
    run_dir = run_dir.absolute()
    folder = run_dir.with_name(f"{run_dir.name}.jobs")
    executor = make_executor(folder, cluster, file.stem, slurm, **parameters)
    with redirect_stderr(folder / "controller.err"):
        return executor.submit(Experiment(file.absolute(), tuple(words), run_dir))


@contextlib.contextmanager
def redirect_stderr(file: Path) -> Iterator[None]:
    """Redirect the stderr of processes started in the block to ``file``.

    submitit's local controller prints a traceback for each interrupt. The output of the job itself has
    files of its own.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    original = os.dup(2)
    try:
        with file.open("ab") as output:
            os.dup2(output.fileno(), 2)
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)
