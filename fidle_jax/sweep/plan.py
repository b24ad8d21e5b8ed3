"""What a sweep is to run: the configs that its axes span, each with a name of its own. Light to import."""

import dataclasses
import hashlib
import itertools
import json
import re
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fidle_jax.errors import InputError, check_name
from fidle_jax.train.config import Config, check, options

SEARCHES = ("grid", "random", "halving")
# Of a rung of halving one in so many goes on, for so many times as many epochs.
REDUCTION = 3

# Fields that a sweep sets itself; those that say where data lies, and how a run is watched.
SET_BY_SWEEP = ("run_dir", "resume", "seed")
_NO_AXES = (*SET_BY_SWEEP, "archives", "data_dir", "profile", "progress", "debug")


class Range(NamedTuple):
    """Numbers to draw from, evenly; with ``log`` evenly by their logarithm. Whole ones if both ends are."""

    low: float
    high: float
    log: bool = False


class Trial(NamedTuple):
    """One run of a sweep: the folder it goes by, its config without a run directory, and its setting,
    which it shares with its other seeds."""

    name: str
    config: Config
    setting: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes:
      defaults: the config of each run, but for its axes.
      axes: fields of `Config`, each with the values that it takes, or, unless the search is "grid", a
        `Range`.
      seeds: runs of each setting, with the seeds 0, 1, 2, ...
      search: "grid", every combination; "random", so many ``samples`` of them; "halving", these samples for
        ``first_epochs`` epochs, then the best third (by the mean of validation over seeds) for three times
        as many, and so on until one is left (Jamieson and Talwalkar, "Non-stochastic best arm
        identification and hyperparameter optimization", 2016).
    """

    defaults: Config
    axes: dict[str, tuple[Any, ...] | Range]
    seeds: int = 1
    search: str = "grid"
    samples: int = 0
    first_epochs: int = 1


def check_plan(plan: Plan) -> None:
    """Raises InputError where the plan cannot be run; names the flag or value."""
    check_name("value of --search", plan.search, SEARCHES)
    for name in ("seeds", "first_epochs"):
        if getattr(plan, name) < 1:
            raise InputError(
                f"--{name.replace('_', '-')} is {getattr(plan, name)}; expected 1 or more"
            )
    if plan.search != "grid" and plan.samples < 1:
        raise InputError(f"--search {plan.search} needs --samples, the number of settings to try")
    known = [f.name for f in dataclasses.fields(Config) if f.name not in _NO_AXES]
    if not plan.axes:
        raise InputError(
            "the sweep has no axes; give flags with their values, as --grid model=v1,v2"
        )
    for name, values in plan.axes.items():
        check_name("axis of a sweep", name, known)
        if isinstance(values, Range):
            _check_range(name, values, plan.search)
        elif not values:
            raise InputError(f"the axis {name} has no values; give one or more")
        elif len(set(values)) < len(values):
            raise InputError(f"the axis {name} has a value twice: {', '.join(map(str, values))}")
    if plan.search == "halving" and ("epochs" in plan.axes or plan.defaults.epochs is not None):
        raise InputError("--search halving chooses the epochs itself; leave that flag out")
    for trial in first_trials(plan):
        check(trial.config)
        if plan.search == "halving" and trial.config.validation_fraction == 0:
            raise InputError(
                "--search halving chooses by validation; give a --validation-fraction above 0"
            )


def later_rungs(plan: Plan) -> list[tuple[int, int]]:
    """Runs and epochs of each rung of halving but the first."""
    rungs, settings, epochs = [], len(_settings(plan)), plan.first_epochs
    while plan.search == "halving" and settings > 1:
        settings, epochs = max(1, settings // REDUCTION), epochs * REDUCTION
        rungs.append((settings * plan.seeds, epochs))
    return rungs


def _check_range(name: str, values: Range, search: str) -> None:
    low, high, log = values
    if search == "grid":
        raise InputError(f"the axis {name} is a range; list its values, or take --search random")
    if not low < high or (log and low <= 0):
        raise InputError(
            f"the axis {name} is from {low} to {high}; expected a lower and a higher number"
        )


def first_trials(plan: Plan) -> list[Trial]:
    """The trials that are known before any has run."""
    epochs = {"epochs": plan.first_epochs} if plan.search == "halving" else {}
    return _trials(plan, [settings | epochs for settings in _settings(plan)])


def all_trials(plan: Plan, score: Callable[[str], float | None]) -> list[Trial]:
    """The trials that are known by now.

    Args:
      plan: a checked one.
      score: of a trial's name, how good it was, the more the better; None before it has ended.
    """
    trials = first_trials(plan)
    rung = trials
    while plan.search == "halving" and len(rung) > plan.seeds:
        scores: dict[str, float] = {}
        of_setting: dict[str, list[Trial]] = {}
        for trial in rung:
            of_setting.setdefault(trial.setting, []).append(trial)
            if (found := score(trial.name)) is not None:
                scores[trial.name] = found
        if len(scores) < len(rung):
            break
        means = {
            setting: statistics.mean(scores[trial.name] for trial in seeds)
            for setting, seeds in of_setting.items()
        }
        # Of equals the first: sorted() keeps their order.
        best = sorted(means, key=means.__getitem__, reverse=True)[: max(1, len(means) // REDUCTION)]
        rung = _trials(plan, [_longer(plan, of_setting[setting][0].config) for setting in best])
        trials = trials + rung
    return trials


def _longer(plan: Plan, config: Config) -> dict[str, Any]:
    """The same setting in the next rung."""
    axes = {name: getattr(config, name) for name in sorted(plan.axes)}
    return axes | {"epochs": (config.epochs or plan.first_epochs) * REDUCTION}


def _settings(plan: Plan) -> list[dict[str, Any]]:
    """The values of the axes of each setting, the same in whatever order the axes are given."""
    axes = dict(sorted(plan.axes.items()))
    if plan.search == "grid":
        return [dict(zip(axes, row, strict=True)) for row in itertools.product(*axes.values())]
    drawn = [
        {name: _draw(values, _share(k, axis)) for axis, (name, values) in enumerate(axes.items())}
        for k in range(plan.samples)
    ]
    # Two that are alike would be the same run.
    return [settings for k, settings in enumerate(drawn) if settings not in drawn[:k]]


def _share(sample: int, axis: int) -> float:
    """A number in [0, 1), the same for ever: NumPy's raw bits never change, its distributions may."""
    return int(np.random.PCG64([sample, axis]).random_raw()) / 2**64


def _draw(values: tuple[Any, ...] | Range, share: float) -> Any:
    if not isinstance(values, Range):
        return values[int(share * len(values))]
    low, high, log = values
    number = low * (high / low) ** share if log else low + (high - low) * share
    whole = isinstance(low, int) and isinstance(high, int)
    return round(number) if whole else float(f"{number:.4g}")


def _trials(plan: Plan, settings: list[dict[str, Any]]) -> list[Trial]:
    return [_trial(plan.defaults, each, seed) for each in settings for seed in range(plan.seeds)]


def _trial(defaults: Config, settings: dict[str, Any], seed: int) -> Trial:
    config = dataclasses.replace(defaults, **settings)
    values = "-".join(_short(value) for value in settings.values())[:80]
    setting = f"{values}-{_digest(config, settings)}".lstrip("-")
    return Trial(f"{setting}-seed{seed}", dataclasses.replace(config, seed=seed), setting)


def _short(value: Any) -> str:
    words = "_".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return re.sub(r"[^\w.]+", "_", words)


def _digest(config: Config, settings: dict[str, Any]) -> str:
    """Eight digits that tell what a run computes, but for its seed, and which values of the axes it has."""
    computes = options(dataclasses.replace(config, seed=0))
    what = json.dumps(computes | settings, sort_keys=True, default=str)
    return hashlib.sha256(what.encode()).hexdigest()[:8]


def to_json(plan: Plan) -> dict[str, Any]:
    """What tells the plan from others, as JSON has it: not where its data lies, nor how it is watched."""
    axes = {
        name: values._asdict() if isinstance(values, Range) else list(values)
        for name, values in plan.axes.items()
    }
    fixed = {name: v for name, v in options(plan.defaults).items() if name not in _NO_AXES}
    runs = len(first_trials(plan)) + sum(runs for runs, _ in later_rungs(plan))
    return vars(plan) | {"axes": axes, "defaults": fixed, "runs": runs}
