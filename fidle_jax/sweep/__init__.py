"""Sweeps: many runs of an experiment, from what they span to a table with a row for each run."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fidle_jax.errors import InputError, check_name
from fidle_jax.sweep import folder
from fidle_jax.sweep.experiment import Experiment, load_experiment
from fidle_jax.sweep.plan import SET_BY_SWEEP, Plan, Range, check_plan, to_json
from fidle_jax.sweep.values import typed
from fidle_jax.train.config import Config

__all__ = ["Range", "sweep"]


def sweep(
    experiment: str | Path,
    axes: Mapping[str, Sequence[Any] | Range],
    sweep_dir: str | Path,
    *,
    seeds: int = 1,
    search: str = "grid",
    samples: int = 0,
    workers: int = 1,
    retry_failed: bool = False,
    tell: Callable[[str], None] = print,
    **fixed: Any,
) -> pd.DataFrame:
    """Runs every setting that the axes span, with every seed, and returns a row for each run.

    What is finished in ``sweep_dir`` is not run again: the same call goes on after any interruption.

    Args:
      experiment: the file that runs one, e.g. "experiments/mnist_cnn.py".
      axes: flags, named as fields of `fidle_jax.train.config.Config`, with their values.
      sweep_dir: where the runs are written.
      seeds: as of `fidle_jax.sweep.plan.Plan`, like ``search`` and ``samples``.
      workers: processes that run them, each with its share of the cores or a GPU; 1: this one.
      retry_failed: run again what failed before.
      tell: is told, in a line, of each run that ends.
      **fixed: flags of every run.

    Raises:
      InputError: the experiment, a flag or a value is wrong, or the directory is that of another sweep.
      KeyboardInterrupt: it was interrupted; the runs have saved.
      OSError: the directory cannot be written any more.
    """
    from fidle_jax.sweep.launch import run_here, run_local

    if workers < 1:
        raise InputError(f"workers is {workers}; expected 1 or more")
    sweep_dir = Path(sweep_dir).expanduser().absolute()
    found, plan = make_plan(experiment, axes, fixed, seeds=seeds, search=search, samples=samples)
    folder.begin(sweep_dir, to_json(plan) | {"experiment": found.file.name})
    if retry_failed:
        folder.forget_failures(sweep_dir)
    if workers == 1:
        run_here(sweep_dir, found, plan, tell)
    else:
        for lost in run_local(sweep_dir, found, plan, workers, tell):
            tell(f"a worker was lost: {lost}")
    folder.write_table(sweep_dir)
    return folder.read_table(sweep_dir)


def make_plan(
    experiment: str | Path,
    axes: Mapping[str, Sequence[Any] | Range],
    fixed: Mapping[str, Any],
    **settings: Any,
) -> tuple[Experiment, Plan]:
    """The experiment and a checked plan of it; ``settings`` are further fields of the plan.

    Raises:
      InputError: as of `sweep`.
    """
    found = load_experiment(Path(experiment))
    axes = {name: _typed_axis(name, values) for name, values in axes.items()}
    for name in fixed:
        check_name("flag", name, [field.name for field in dataclasses.fields(Config)])
        if name in SET_BY_SWEEP or name in axes:
            raise InputError(
                f"--{name.replace('_', '-')} is given to every run, but "
                f"{'an axis' if name in axes else 'set by the sweep'}; leave it out"
            )
    every = {name: typed(name, value) for name, value in fixed.items()}
    plan = Plan(dataclasses.replace(found.defaults, **every), axes, **settings)
    check_plan(plan)
    return found, plan


def _typed_axis(name: str, values: Sequence[Any] | Range) -> tuple[Any, ...] | Range:
    check_name("flag", name, [field.name for field in dataclasses.fields(Config)])
    if isinstance(values, Range):
        return values._replace(low=typed(name, values.low), high=typed(name, values.high))
    return tuple(typed(name, value) for value in values)
