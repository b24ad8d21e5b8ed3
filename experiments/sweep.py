"""Runs an experiment for every combination of some flags' values, and makes a table of what came out.

What follows -- goes to every run. The same command goes on after any interruption; what is finished is
never run again. While it runs, and after, experiments/sweep_report.py draws its page.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

from _sweep_words import Words, parse_axes, read_file

from fidle_jax.cli.flags import LAUNCH, LEAST_MINUTES
from fidle_jax.cli.terminal import FAILED, exit_with, fail, parse_flags, set_up_output
from fidle_jax.errors import InputError, check_name
from fidle_jax.sweep import folder, make_plan
from fidle_jax.sweep.experiment import load_experiment
from fidle_jax.sweep.plan import to_json
from fidle_jax.train.config import Config
from fidle_jax.train.signals import Stop


@dataclasses.dataclass(frozen=True)
class Flags:
    """A sweep, and where it runs."""

    experiment: str = "mnist_cnn"
    """The experiment: the name of a file that stands beside this one, or a path."""
    grid: tuple[str, ...] = ()
    """Axes: FLAG=VALUE,VALUE,...; of several numbers FLAG=0.2:0.3,0:0; with --search random or halving also
    FLAG=LOW..HIGH, by logarithm LOW...HIGH."""
    file: Path | None = None
    """A TOML file that has these flags by name, axes in a table [grid], flags of every run in [flags]."""
    seeds: int = 1
    """Runs of each setting, with the seeds 0, 1, 2, ..."""
    sweep_dir: Path | None = None
    """Where the sweep is written, a run directory for each run (default: runs/sweeps/EXPERIMENT)."""
    search: str = "grid"
    """grid: every combination; random: --samples of them; halving: these, then the best third of them anew
    for three times as many epochs, and so on."""
    samples: int = 0
    """Settings that random and halving try."""
    first_epochs: int = 1
    """Epochs of each before the first halving."""
    launch: str = "here"
    """here: one run after the other; local: --workers processes of this machine; slurm: a job array."""
    workers: int = 1
    """Runs at a time, each with its share of the cores, or a GPU."""
    minutes: int = 60
    """On slurm: time limit of a job; what it was at goes on in the next."""
    gpus_per_node: int = 0
    """On slurm: GPUs of each job."""
    cpus_per_task: int | None = None
    """On slurm: CPU cores of each job (default: the cluster's own)."""
    slurm: tuple[str, ...] = ()
    """On slurm: what else the cluster wants to know: NAME=VALUE of sbatch, as in partition=gpu."""
    retry_failed: bool = False
    """Run again what failed."""
    dry_run: bool = False
    """Show the plan and its estimated time, and no more."""
    debug: bool = False
    """Show the traceback of an error."""


def main(stop: Stop) -> int:
    """The sweep that sys.argv asks for; its exit status."""
    words, fixed = _split(sys.argv[1:])
    flags = parse_flags(__doc__, Flags(), words)
    of_file = Words([], [], []) if flags.file is None else read_file(flags.file)
    # What is typed goes before what the file has.
    flags = parse_flags(__doc__, Flags(), [*of_file.flags, *words])
    _check(flags, words)
    axes = parse_axes(of_file.axes) | parse_axes(flags.grid)
    file = _file_of(flags.experiment)
    every = _given([*of_file.fixed, *fixed], load_experiment(file).defaults)
    settings = {n: getattr(flags, n) for n in ("seeds", "search", "samples", "first_epochs")}
    experiment, plan = make_plan(file, axes, every, **settings)
    sweep_dir = (flags.sweep_dir or Path("runs/sweeps") / file.stem).expanduser().absolute()
    described = to_json(plan) | {"experiment": file.name}
    folder.check_free(sweep_dir, described)
    with stop.defer():
        import _sweep_run  # and with it JAX, which takes a second
    stop.check()
    set_up_output()
    expected = _sweep_run.show_plan(sweep_dir, experiment, plan, flags)
    if flags.dry_run:
        return 0
    folder.begin(sweep_dir, described)
    if flags.retry_failed:
        print(f"{folder.forget_failures(sweep_dir)} failed runs are tried again")
    try:
        return _sweep_run.run(sweep_dir, experiment, plan, flags, expected)
    except OSError as error:
        return fail(error, FAILED, "; once that is mended, --retry-failed goes on")


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """The sweep's own words, and those that follow on "--"."""
    place = words.index("--") if "--" in words else len(words)
    return words[:place], words[place + 1 :]


def _check(flags: Flags, words: list[str]) -> None:
    if sum(word.partition("=")[0] == "--grid" for word in words) > 1:
        raise InputError("--grid is given twice; give all axes to one")
    check_name("value of --launch", flags.launch, LAUNCH)
    if flags.workers < 1:
        raise InputError(f"--workers is {flags.workers}; expected 1 or more")
    if flags.workers > 1 and flags.launch == "here":
        raise InputError(f"--workers {flags.workers} needs --launch local or slurm")
    _check_slurm(flags)


def _check_slurm(flags: Flags) -> None:
    if flags.launch != "slurm":
        for name in ("minutes", "gpus_per_node", "cpus_per_task", "slurm"):
            if getattr(flags, name) != getattr(Flags, name):
                flag = f"--{name.replace('_', '-')}"
                raise InputError(f"{flag} is for --launch slurm; give that, or leave it out")
    if flags.minutes < LEAST_MINUTES:
        raise InputError(
            f"--minutes is {flags.minutes}; expected {LEAST_MINUTES} or more, as a job on Slurm is told "
            "to save two to three minutes before its end"
        )
    if wrong := [text for text in flags.slurm if not text.partition("=")[2]]:
        raise InputError(f"--slurm {wrong[0]}: expected NAME=VALUE, as in partition=gpu")


def _given(words: list[str], defaults: Config) -> dict[str, Any]:
    """The flags of every run that follow on "--", as fields of a config."""
    config = parse_flags("", defaults, words)
    return {n: value for n, value in vars(config).items() if value != getattr(defaults, n)}


def _file_of(name: str) -> Path:
    path = Path(name)
    return path if path.suffix else Path(__file__).with_name(f"{name}.py")


if __name__ == "__main__":
    exit_with(main, "interrupted; the same command goes on")
