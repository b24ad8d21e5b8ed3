"""``--launch``: the experiment as a job, here or on a cluster, watched from the terminal where it is here."""

import dataclasses
import sys
import time
from pathlib import Path

from fidle_jax.cli.flags import Flags
from fidle_jax.errors import InputError
from fidle_jax.train.run_dir import check_new, default_run_dir, hold
from fidle_jax.train.words import as_words

A_YEAR = 365 * 24 * 60
FAILED, INTERRUPTED = 1, 130
SAVE_SECONDS = 60


def launch(flags: Flags, defaults: Flags, experiment: str) -> int:
    """Submits what ``flags`` ask for, and follows it if it runs here; returns the exit status."""
    from fidle_jax.train.launch import submit

    run_dir = flags.run_dir or default_run_dir(experiment)
    if not flags.resume:
        check_new(run_dir)
    config = dataclasses.replace(flags.config(), run_dir=None, resume=False)
    try:
        job = submit(
            Path(sys.argv[0]),
            tuple(as_words(config, defaults.config())),
            run_dir,
            flags.launch,
            slurm=dict(text.split("=", 1) for text in flags.slurm or ()),
            nodes=flags.nodes,
            tasks_per_node=flags.tasks_per_node,
            gpus_per_node=flags.gpus_per_node,
            timeout_min=flags.minutes or (60 if flags.launch == "slurm" else A_YEAR),
            **({"cpus_per_task": flags.cpus_per_task} if flags.cpus_per_task else {}),
        )
    # submitit's own, and whatever a cluster answers.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(f"--launch {flags.launch}: the job was not taken: {reason}") from error
    print(f"job {job.job_id}; run directory: {run_dir}; what it prints: {job.paths.stdout}")
    if flags.launch == "slurm":
        print(f"to watch: squeue --job {job.job_id}; to end it: scancel {job.job_id}")
        return 0
    return _follow(job, run_dir)


def _follow(job, run_dir: Path) -> int:
    """Shows what the first process prints, until the job ends; returns the run's exit status."""
    shown = {job.paths.stdout: 0, job.paths.stderr: 0}
    try:
        while not job.done():
            time.sleep(0.2)
            _show_more(shown)
    except KeyboardInterrupt:
        job.cancel()
        _await_release(run_dir)
        _show_more(shown)
        return INTERRUPTED
    _show_more(shown)
    try:
        return max(job.results())
    except Exception as error:  # submitit's own, of many kinds
        reason = " ".join(str(error).split())[:300]
        print(f"error: the job ended without a result: {reason}", file=sys.stderr)
        return FAILED


def _await_release(run_dir: Path) -> None:
    """Returns when no process writes the run any more: one that was cancelled saves first."""
    deadline = time.monotonic() + SAVE_SECONDS
    while run_dir.exists() and time.monotonic() < deadline:
        try:
            with hold(run_dir):
                return
        except InputError:
            time.sleep(0.2)


def _show_more(shown: dict[Path, int]) -> None:
    """The lines that are new in the job's files, without submitit's own."""
    for path, stream in zip(shown, (sys.stdout, sys.stderr), strict=True):
        if path.exists():
            text = path.read_bytes()[shown[path] :]
            whole = text[: text.rfind(b"\n") + 1]
            shown[path] += len(whole)
            lines = whole.decode(errors="replace").splitlines(keepends=True)
            stream.writelines(line for line in lines if not line.startswith("submitit "))
            stream.flush()
