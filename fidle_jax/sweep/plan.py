"""Plan a sweep: the runs that its axes, variants and seeds span. Light to import."""

import dataclasses
import hashlib
import importlib.util
import itertools
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fidle_jax.errors import InputError, check_name
from fidle_jax.train.config import (
    SETTINGS,
    Config,
    changed_settings,
    check,
    command_line,
    convert,
    hyperparameters,
)

SEARCHES = ("grid", "random")
SET_BY_SWEEP = ("run_dir", "resume", "seed")
# Flags that say where data is and how a run is displayed are no axes either.
_NO_AXES = (*SET_BY_SWEEP, "archives", "data_dir", "profile", "progress", "debug")


class Range(NamedTuple):
    """Numbers from ``low`` to ``high``, drawn uniformly or, with ``log``, log-uniformly.

    If both ends are integers, integers are drawn.
    """

    low: float
    high: float
    log: bool = False


Axis = tuple[Any, ...] | Range


class Experiment(NamedTuple):
    """A Python file that trains, and its config without flags."""

    file: Path
    defaults: Config

    def command(self, config: Config, run_dir: Path) -> list[str]:
        """Return the command that runs ``config`` in ``run_dir``, or resumes the run there."""
        resume = (run_dir / "config.json").exists()
        words = command_line(changed_settings(config, self.defaults))
        words = ["--resume"] if resume else words
        return [sys.executable, str(self.file), *words, "--run-dir", str(run_dir)]


class Trial(NamedTuple):
    """One run of a sweep.

    Attributes:
        name: Name of the run directory.
        config: Config without a run directory.
        setting: Name that all seeds of the same flags share.
        variant: Name of the variant, or "" without variants.
    """

    name: str
    config: Config
    setting: str
    variant: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """The runs of a sweep.

    Attributes:
        defaults: Config of every run before its axes and its variant are applied.
        axes: Maps each flag, a field of `Config`, to its values or, with random search, to a `Range`.
        variants: Maps names to flags that change together. The first variant is the baseline.
        seeds: Number of runs of each setting. Their seeds are 0, 1, 2, ...
        search: "grid" for all combinations, or "random" for ``samples`` random settings.
        samples: Number of settings of a random search.
    """

    defaults: Config
    axes: dict[str, Axis]
    variants: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    seeds: int = 1
    search: str = "grid"
    samples: int = 0

    def trials(self) -> list[Trial]:
        """Return all runs of the plan, always under the same names."""
        return [
            _trial(self, variant, settings, seed)
            for variant in self.variants or ("",)
            for settings in _settings(self)
            for seed in range(self.seeds)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return what identifies the plan. Paths of data and display flags are left out."""
        axes = {
            name: values._asdict() if isinstance(values, Range) else list(values)
            for name, values in self.axes.items()
        }
        fixed = {
            n: value for n, value in hyperparameters(self.defaults).items() if n not in _NO_AXES
        }
        trials = self.trials()
        variants = {trial.setting: trial.variant for trial in trials if trial.variant}
        return vars(self) | {
            "axes": axes,
            "defaults": fixed,
            "variants": variants,
            "runs": len(trials),
        }


def load_experiment(file: Path) -> Experiment:
    """Import an experiment.

    Raises:
        InputError: The file does not exist or is not an experiment.
    """
    file = file.expanduser().absolute()
    if not file.is_file():
        raise InputError(f"there is no experiment {file}; give a file, as experiments/mnist_cnn.py")
    sys.path.insert(0, str(file.parent))
    try:
        spec = importlib.util.spec_from_file_location(f"_experiment_{file.stem}", file)
        if spec is None or spec.loader is None:
            raise ImportError("not a Python file")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"{file} is no experiment: {error!r}") from error
    finally:
        sys.path.remove(str(file.parent))
    defaults = getattr(module, "DEFAULTS", None)
    if not isinstance(defaults, Config):
        raise InputError(f"{file} does not train: it has no DEFAULTS; give a file as mnist_cnn.py")
    return Experiment(file, defaults)


def make_plan(
    experiment: str | Path,
    axes: Mapping[str, Any],
    fixed: Mapping[str, Any],
    variants: Mapping[str, Mapping[str, Any]] | None = None,
    **settings: Any,
) -> tuple[Experiment, Plan]:
    """Return the experiment and a checked plan.

    Args:
        experiment: File of the experiment.
        axes: Axes as in `Plan`, with values that still need conversion to the types of the flags.
        fixed: Flags of every run.
        variants: Variants as in `Plan`.
        **settings: Further fields of the plan.

    Raises:
        InputError: The experiment, a flag or a value is wrong.
    """
    found = load_experiment(Path(experiment))
    typed_axes = {name: _typed_axis(name, values) for name, values in axes.items()}
    for name in fixed:
        check_name("flag", name, SETTINGS)
        if name in SET_BY_SWEEP or name in axes:
            reason = "it is an axis" if name in axes else "the sweep sets it"
            raise InputError(f"--{_dashed(name)} cannot be given to every run: {reason}; remove it")
    every = {name: convert(name, value) for name, value in fixed.items()}
    changes = {
        variant: {name: convert(name, value) for name, value in flags.items()}
        for variant, flags in (variants or {}).items()
    }
    plan = Plan(found.defaults.replace(**every), typed_axes, changes, **settings)
    _check_plan(plan)
    return found, plan


def _typed_axis(name: str, values: Any) -> Axis:
    if isinstance(values, Range):
        return values._replace(low=convert(name, values.low), high=convert(name, values.high))
    return tuple(convert(name, value) for value in values)


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _check_plan(plan: Plan) -> None:
    check_name("value of --search", plan.search, SEARCHES)
    if plan.seeds < 1:
        raise InputError(f"--seeds is {plan.seeds}; expected 1 or more")
    if plan.search == "random" and plan.samples < 1:
        raise InputError("--search random needs --samples, the number of settings to try")
    if not plan.axes and not plan.variants:
        raise InputError("the sweep has no axes; give flags and values, as --grid model=v1,v2")
    known = [name for name in SETTINGS if name not in _NO_AXES]
    for name, values in plan.axes.items():
        check_name("axis of a sweep", name, known)
        if isinstance(values, Range):
            _check_range(name, values, plan.search)
        elif not values:
            raise InputError(f"the axis {name} has no values; give one or more")
        elif len(set(values)) < len(values):
            raise InputError(f"the axis {name} has a value twice: {', '.join(map(str, values))}")
    for variant, flags in plan.variants.items():
        for name in flags:
            check_name(f"flag of the variant {variant!r}", name, known)
            if name in plan.axes:
                raise InputError(
                    f"the variant {variant!r} sets the axis {name}; remove one of them"
                )
    for trial in plan.trials():
        check(trial.config)


def _check_range(name: str, values: Range, search: str) -> None:
    low, high, log = values
    if search == "grid":
        raise InputError(f"the axis {name} is a range; list its values or use --search random")
    if not low < high or (log and low <= 0):
        raise InputError(
            f"the axis {name} is {low} to {high}; expected a lower and a higher number"
        )


def _settings(plan: Plan) -> list[dict[str, Any]]:
    """Return the axis values of each setting, independent of the order of the axes."""
    axes = dict(sorted(plan.axes.items()))
    if plan.search == "grid":
        return [dict(zip(axes, row, strict=True)) for row in itertools.product(*axes.values())]
    drawn = [
        {name: _draw(values, _uniform(k, axis)) for axis, (name, values) in enumerate(axes.items())}
        for k in range(plan.samples)
    ]
    return [settings for k, settings in enumerate(drawn) if settings not in drawn[:k]]


def _uniform(sample: int, axis: int) -> float:
    # NumPy guarantees that raw bits never change. Its distributions may change between releases.
    return int(np.random.PCG64([sample, axis]).random_raw()) / 2**64


def _draw(values: Axis, uniform: float) -> Any:
    if not isinstance(values, Range):
        return values[int(uniform * len(values))]
    low, high, log = values
    number = low * (high / low) ** uniform if log else low + (high - low) * uniform
    whole = isinstance(low, int) and isinstance(high, int)
    return round(number) if whole else float(f"{number:.4g}")


def _trial(plan: Plan, variant: str, settings: dict[str, Any], seed: int) -> Trial:
    config = plan.defaults.replace(**plan.variants.get(variant, {}), **settings)
    computes = hyperparameters(config.replace(seed=0)) | settings
    digest = hashlib.sha256(json.dumps(computes, sort_keys=True, default=str).encode()).hexdigest()
    words = [variant] if variant else []
    words += ["_".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in settings.values()]
    values = "-".join(re.sub(r"[^\w.]+", "_", word) for word in words)[:80]
    setting = f"{values}-{digest[:8]}".lstrip("-")
    config = config.replace(seed=seed)
    return Trial(f"{setting}-seed{seed}", config, setting, variant)
