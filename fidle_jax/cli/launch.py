"""``--launch`` and ``--distributed``: an experiment as a job, or as one of several processes."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fidle_jax.cli.flags import Flags
from fidle_jax.cli.terminal import FAILED, INTERRUPTED
from fidle_jax.errors import InputError
from fidle_jax.train.command_line import changed_settings, command_line
from fidle_jax.train.run_dir import check_new, default_run_dir, hold

SAVE_SECONDS = 60
# Flags that may differ between the processes of a run.
LOCAL_FLAGS = ("process_index", "coordinator", "archives", "data_dir", "progress", "debug")


def join_processes(flags: Flags, experiment: str, resume_command: Callable[[], str]) -> None:
    """Join the other processes of the run, and check that they have the same flags."""
    import jax

    from fidle_jax.train import distributed

    # This service would replace our handler of SIGTERM.
    jax.config.update("jax_enable_preemption_service", False)
    distributed.join(
        flags.cluster.coordinator,
        flags.cluster.processes,
        flags.cluster.process_index,
        wait_seconds=flags.cluster.connect_seconds,
        resume_command=resume_command,
        debug=flags.run.debug,
    )
    settings = {
        f"--{name.replace('_', '-')}": value
        for name, value in (flags.settings() | vars(flags.cluster)).items()
        if name not in LOCAL_FLAGS
    }
    distributed.check_same({"the experiment": experiment, **settings, "JAX": jax.__version__})


def launch(flags: Flags, defaults: Flags, experiment: str) -> int:
    """Submit the run as a job. Follow a local job until it ends. Return the exit status."""
    from fidle_jax.train.launch import submit

    cluster, run_dir = flags.cluster, flags.run.run_dir or default_run_dir(experiment)
    if not flags.run.resume:
        check_new(run_dir)
    config = flags.config().replace(run_dir=None, resume=False)
    words = tuple(command_line(changed_settings(config, defaults)))
    parameters: dict[str, Any] = cluster.parameters() | {"tasks_per_node": cluster.tasks_per_node}
    parameters["nodes"] = cluster.nodes
    with rejection_as_input_error(cluster.launch):
        job = submit(Path(sys.argv[0]), words, run_dir, cluster.launch, **parameters)
    print(f"job {job.job_id}; run directory: {run_dir}; output: {job.paths.stdout}")
    if cluster.launch == "slurm":
        print(f"to watch: squeue --job {job.job_id}; to cancel: scancel {job.job_id}")
        return 0
    return _follow(job, run_dir)


@contextlib.contextmanager
def rejection_as_input_error(launch: str) -> Iterator[None]:
    """Convert an error of the submission of a job to an InputError."""
    try:
        yield
    except Exception as error:  # submitit and the cluster raise many types
        reason = " ".join(str(error).split())
        raise InputError(
            f"--launch {launch}: the job was rejected: {reason}; "
            "check the flags of the job, such as --slurm and --minutes"
        ) from error


def _follow(job, run_dir: Path) -> int:
    """Show what the first process prints until the job ends. Return the exit status of the run."""
    shown = {job.paths.stdout: 0, job.paths.stderr: 0}
    try:
        while not job.done():
            time.sleep(0.2)
            _show_new_lines(shown)
    except KeyboardInterrupt:
        job.cancel()
        _wait_until_saved(run_dir)
        _show_new_lines(shown)
        return INTERRUPTED
    _show_new_lines(shown)
    try:
        return max(job.results())
    except Exception as error:  # submitit raises many types
        reason = " ".join(str(error).split())[:300]
        print(f"error: the job ended without a result: {reason}", file=sys.stderr)
        return FAILED


def _wait_until_saved(run_dir: Path) -> None:
    """Wait until no process writes to ``run_dir``, because a cancelled run saves first."""
    deadline = time.monotonic() + SAVE_SECONDS
    while run_dir.exists() and time.monotonic() < deadline:
        try:
            with hold(run_dir):
                return
        except InputError:
            time.sleep(0.2)


def _show_new_lines(shown: dict[Path, int]) -> None:
    """Print the complete new lines of the job's files, without those of submitit."""
    for path, stream in zip(shown, (sys.stdout, sys.stderr), strict=True):
        if path.exists():
            text = path.read_bytes()[shown[path] :]
            complete = text[: text.rfind(b"\n") + 1]
            shown[path] += len(complete)
            lines = complete.decode(errors="replace").splitlines(keepends=True)
            stream.writelines(line for line in lines if not line.startswith("submitit "))
            stream.flush()
