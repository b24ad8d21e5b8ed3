"""A sweep at the terminal: what it will do and how long that takes, and what has become of it."""

import sys
from pathlib import Path

import jax

from fidle_jax.cli.settings import as_flags
from fidle_jax.cli.terminal import FAILED
from fidle_jax.errors import InputError
from fidle_jax.report.sweep_tables import by_setting, markdown
from fidle_jax.sweep import folder
from fidle_jax.sweep.estimate import estimate, estimate_later
from fidle_jax.sweep.experiment import Experiment
from fidle_jax.sweep.launch import run_here, run_local, submit_to_slurm
from fidle_jax.sweep.machine import measure_machine
from fidle_jax.sweep.plan import Plan, Trial, later_rungs
from fidle_jax.sweep.worker import known_trials

MOST_ROWS = 40


def show_plan(
    sweep_dir: Path, experiment: Experiment, plan: Plan, flags
) -> dict[str, float | None]:
    """Prints what is to run, a line for each setting, and how long it will take on this machine.

    Returns:
      The seconds of each trial, by its name, where they can be told.

    Raises:
      InputError: a network does not fit its data set.
    """
    # The runs are to have the accelerator: this process only counts what networks compute.
    jax.config.update("jax_platforms", "cpu")
    trials = known_trials(sweep_dir, plan)
    ended = {
        trial.name
        for trial in trials
        if folder.result_of(sweep_dir, trial.name) is not None
        or (not flags.retry_failed and folder.failure_of(sweep_dir, trial.name) is not None)
    }
    seconds = estimate(sweep_dir, trials, measure_machine)
    settings: dict[str, list[Trial]] = {}
    for trial in trials:
        settings.setdefault(trial.setting, []).append(trial)
    print(f"sweep of {experiment.file.name} in {sweep_dir}")
    epochs = ["epochs"] if plan.search == "halving" else []
    for each in list(settings.values())[:MOST_ROWS]:
        values = as_flags(vars(each[0].config), [*plan.axes, *epochs])
        print(f"  {values}  x {len(each)}  {_each(seconds[each[0].name])}")
    if len(settings) > MOST_ROWS:
        print(f"  ... and {len(settings) - MOST_ROWS} settings more")
    longest = max(trial.config.epochs or 0 for trial in trials)
    later = [(runs, epochs) for runs, epochs in later_rungs(plan) if epochs > longest]
    for runs, epochs in later:
        print(f"  then the best, anew, for {epochs} epochs  x {runs}")
    runs = len(trials) + sum(runs for runs, _ in later)
    done = f", of which {len(ended)} have ended" if ended else ""
    print(f"{runs} runs{done}{_total(plan, trials, ended, seconds, longest, flags.workers)}")
    return seconds


def _total(
    plan: Plan, trials: list[Trial], ended: set[str], seconds: dict, longest: int, workers: int
) -> str:
    if len(ended) == len(trials) and not later_rungs(plan):
        return ""
    known = [seconds[trial.name] for trial in trials]
    if None in known:
        return "; how long they take is not known before some have ended"
    left = sum(seconds[trial.name] for trial in trials if trial.name not in ended)
    first = [seconds[t.name] for t in trials if t.config.epochs == trials[0].config.epochs]
    left += estimate_later(plan, first, longest)
    less = "; less where the workers have GPUs or machines of their own" if workers > 1 else ""
    return f"; estimated time of what is left: {_duration(left)} of this machine{less}"


def _each(seconds: float | None) -> str:
    return "" if seconds is None else f"about {_duration(seconds)} each"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def run(
    sweep_dir: Path,
    experiment: Experiment,
    plan: Plan,
    flags,
    expected: dict[str, float | None],
) -> int:
    """Runs what has not ended, where ``flags``, those of sweep.py, say; returns the exit status.

    Args:
      expected: what `show_plan` gave.

    Raises:
      InputError: Slurm does not take the jobs.
      KeyboardInterrupt, OSError: as of `fidle_jax.sweep.launch`.
    """
    left = [t for t in known_trials(sweep_dir, plan) if not folder.outcome_of(sweep_dir, t.name)]
    if flags.launch == "slurm" and left:
        return _submit(sweep_dir, experiment, plan, flags)
    if flags.launch == "local":
        for lost in run_local(sweep_dir, experiment, plan, flags.workers, print, expected):
            print(f"error: a worker was lost: {lost}", file=sys.stderr)
    elif left:
        run_here(sweep_dir, experiment, plan, print)
    return _sum_up(sweep_dir, plan)


def _submit(sweep_dir: Path, experiment: Experiment, plan: Plan, flags) -> int:
    try:
        jobs = submit_to_slurm(
            sweep_dir,
            experiment,
            plan,
            flags.workers,
            flags.minutes,
            dict(text.split("=", 1) for text in flags.slurm),
            gpus_per_node=flags.gpus_per_node,
            **({"cpus_per_task": flags.cpus_per_task} if flags.cpus_per_task else {}),
        )
    # submitit's own, and whatever a cluster answers.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(f"--launch slurm: the jobs were not taken: {reason}") from error
    array = jobs[0].job_id.partition("_")[0]
    print(f"job array {array} of {len(jobs)}; to watch: squeue --job {array}, or at any time")
    print(f"  python experiments/sweep_report.py {sweep_dir}")
    return 0


def _sum_up(sweep_dir: Path, plan: Plan) -> int:
    """Prints the settings that have ended, the best first, and what failed; the exit status."""
    folder.write_table(sweep_dir)  # a worker may have been killed before it could
    table = folder.read_table(sweep_dir)
    if len(table):
        print(f"\n{markdown(by_setting(table, folder.axes_of(sweep_dir)))}\n")
    names = [trial.name for trial in known_trials(sweep_dir, plan)]
    outcomes = {name: folder.outcome_of(sweep_dir, name) for name in names}
    failed = {name: what for name, what in outcomes.items() if what and what.startswith("failed")}
    left = [name for name, what in outcomes.items() if what is None]
    finished = len(names) - len(failed) - len(left)
    print(f"{finished} of {len(names)} runs are finished; {sweep_dir / 'results.sqlite'}")
    print(f"their page: python experiments/sweep_report.py {sweep_dir}")
    for name, what in failed.items():
        print(f"error: {name} {what}", file=sys.stderr)
    if failed:
        print(
            f"{len(failed)} runs failed; --retry-failed runs them again; "
            f"what they printed: {sweep_dir / 'logs'}",
            file=sys.stderr,
        )
    if left:
        print(f"{len(left)} runs are not finished; the same command goes on", file=sys.stderr)
    return FAILED if failed or left else 0
