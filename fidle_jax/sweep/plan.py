"""Plan a sweep: the runs that its axes, variants and seeds span. Light to import."""

import dataclasses
import functools
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

from fidle_jax.data import SIGN_SETS
from fidle_jax.data.signs import parse_name
from fidle_jax.errors import InputError, check_name
from fidle_jax.files import expand_user
from fidle_jax.train.command_line import changed_settings, command_line
from fidle_jax.train.config import SETTINGS, Config, check, hyperparameters, resolve
from fidle_jax.train.config_json import NEWER, convert

MAX_WORKERS = 1000
MAX_NAME_BYTES = 80  # of a name without its hash and seed
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
class Sweep:
    """Runs of an experiment with different flags and seeds.

    Attributes:
        folder: Directory of the results.
        file: Python file of the experiment.
        defaults: Config of the experiment without flags.
        axes: Maps each flag, a setting of `Config`, to its values or, with random search, to a `Range`.
        fixed: Flags of every run.
        variants: Maps names to flags that change together. The first variant is the baseline.
        seeds: Number of runs of each setting. Their seeds are 0, 1, 2, ...
        search: "grid" for all combinations, or "random" for ``samples`` random settings.
        samples: Number of settings of a random search.
    """

    folder: Path
    file: Path
    defaults: Config
    axes: dict[str, tuple[Any, ...] | Range]
    fixed: dict[str, Any] = dataclasses.field(default_factory=dict)
    variants: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    seeds: int = 1
    search: str = "grid"
    samples: int = 0

    @functools.cached_property
    def trials(self) -> list[Trial]:
        """All runs, always under the same names."""
        return [
            self._trial(variant, settings, seed)
            for variant in self.variants or ("",)
            for settings in self._settings()
            for seed in range(self.seeds)
        ]

    def command(self, trial: Trial) -> list[str]:
        """Return the command that starts or resumes a trial."""
        run_dir = self.folder / "runs" / trial.name
        resume = (run_dir / "config.json").exists()
        words = command_line(changed_settings(trial.config, self.defaults))
        words = ["--resume"] if resume else words
        return [sys.executable, str(self.file), *words, "--run-dir", str(run_dir)]

    def description(self) -> dict[str, Any]:
        """Return the content of sweep.json, without paths of data and display flags.

        "variants" maps the names of settings to variants. "columns" are the columns that distinguish
        settings in `fidle_jax.sweep.results.read_table`.
        """
        axes = {
            name: values._asdict() if isinstance(values, Range) else list(values)
            for name, values in self.axes.items()
        }
        config = _identity(self.defaults.replace(**self.fixed))
        return {
            "experiment": self.file.name,
            "axes": axes,
            "defaults": {name: v for name, v in config.items() if name not in _NO_AXES},
            "variants": {trial.setting: trial.variant for trial in self.trials if trial.variant},
            "baseline": next(iter(self.variants), ""),
            "columns": [*(["variant"] if self.variants else []), *axes],
            "runs": len(self.trials),
            **{name: getattr(self, name) for name in ("seeds", "search", "samples")},
        }

    def _settings(self) -> list[dict[str, Any]]:
        """Return the axis values of each setting, independent of the order of the axes."""
        axes = dict(sorted(self.axes.items()))
        if self.search == "grid":
            return [dict(zip(axes, row, strict=True)) for row in itertools.product(*axes.values())]
        drawn = (
            tuple(_draw(values, sample, k) for k, values in enumerate(axes.values()))
            for sample in range(self.samples)
        )
        return [dict(zip(axes, row, strict=True)) for row in dict.fromkeys(drawn)]

    def _trial(self, variant: str, settings: dict[str, Any], seed: int) -> Trial:
        flags = self.fixed | self.variants.get(variant, {}) | settings
        config = self.defaults.replace(**flags, seed=0)
        values = [variant] if variant else []
        content = _identity(config) | settings | ({"variant": variant} if variant else {})
        text = json.dumps(content, sort_keys=True, default=str)
        values += [
            "_".join(map(str, v if isinstance(v, tuple) else [v])) for v in settings.values()
        ]
        name = "-".join(re.sub(r"[^\w.]+", "_", value) for value in values)
        name = name.encode()[:MAX_NAME_BYTES].decode(errors="ignore")
        setting = f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}".lstrip("-")
        config = config.replace(seed=seed)
        return Trial(f"{setting}-seed{seed}", config, setting, variant)


def _identity(config: Config) -> dict[str, Any]:
    """Return what identifies a setting, equal to what an older version returned for the same flags."""
    values = hyperparameters(config)
    return {name: v for name, v in values.items() if name not in NEWER or v is not None}


def _draw(values: tuple[Any, ...] | Range, sample: int, axis: int) -> Any:
    # NumPy guarantees that raw bits never change. Its distributions may change between releases.
    uniform = int(np.random.PCG64([sample, axis]).random_raw()) / 2**64
    if not isinstance(values, Range):
        return values[int(uniform * len(values))]
    low, high, log = values
    number = low * (high / low) ** uniform if log else low + (high - low) * uniform
    whole = isinstance(low, int) and isinstance(high, int)
    return round(number) if whole else float(f"{number:.4g}")


def load_defaults(file: Path) -> Config:
    """Import an experiment and return its config without flags.

    Raises:
        InputError: The file does not exist or is not an experiment.
    """
    if not file.is_file():
        raise InputError(
            f"there is no experiment {file}; give a file, such as experiments/mnist_cnn.py"
        )
    sys.path.insert(0, str(file.parent))
    try:
        spec = importlib.util.spec_from_file_location(f"_experiment_{file.stem}", file)
        if spec is None or spec.loader is None:
            raise ImportError("not a Python file")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        reason = "it ends the program" if isinstance(error, SystemExit) else error
        raise InputError(
            f"{file} is not an experiment: {reason}; give a file such as mnist_cnn.py"
        ) from error
    finally:
        sys.path.remove(str(file.parent))
    defaults = getattr(module, "DEFAULTS", None)
    if not isinstance(defaults, Config):
        raise InputError(
            f"{file} does not train: it has no DEFAULTS; "
            "give a training experiment, such as mnist_cnn.py"
        )
    return defaults


def make_sweep(
    folder: str | Path,
    experiment: str | Path,
    axes: Mapping[str, Any],
    fixed: Mapping[str, Any],
    variants: Mapping[str, Mapping[str, Any]] | None = None,
    **settings: Any,
) -> Sweep:
    """Return a sweep after converting all values to the types of their flags. Write nothing.

    Args:
        folder: Directory of the results.
        experiment: File of the experiment.
        axes: Maps flags to values, as do ``fixed`` and each of ``variants``.
        fixed: Flags of every run.
        variants: Flags that change together.
        **settings: Further fields of `Sweep`.

    Raises:
        InputError: The experiment, a flag or a value is wrong.
    """
    folder, file = (expand_user(path).absolute() for path in (folder, experiment))
    for name in fixed:
        if name in SET_BY_SWEEP or name in axes:
            reason = "it is an axis" if name in axes else "the sweep sets it"
            raise InputError(f"--{_dashed(name)} cannot be given to every run: {reason}; remove it")
    sweep = Sweep(
        folder,
        file,
        load_defaults(file),
        {name: _axis(name, values) for name, values in axes.items()},
        {name: convert(name, value) for name, value in fixed.items()},
        {k: {name: convert(name, v) for name, v in x.items()} for k, x in (variants or {}).items()},
        **settings,
    )
    _check(sweep)
    return sweep


def _axis(name: str, values: Any) -> tuple[Any, ...] | Range:
    if isinstance(values, Range):
        return values._replace(low=convert(name, values.low), high=convert(name, values.high))
    return tuple(convert(name, value) for value in values)


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _check(sweep: Sweep) -> None:
    check_name("value of --search", sweep.search, SEARCHES)
    if sweep.seeds < 1:
        raise InputError(f"--seeds is {sweep.seeds}; expected 1 or more")
    if sweep.search == "random" and sweep.samples < 1:
        raise InputError("--search random needs --samples, the number of settings to try")
    if not sweep.axes and not sweep.variants:
        raise InputError("the sweep has no axes; give flags and values, such as --grid model=v1,v2")
    known = [name for name in SETTINGS if name not in _NO_AXES]
    for name, values in sweep.axes.items():
        check_name("axis of a sweep", name, known)
        if isinstance(values, Range):
            low, high, log = values
            if sweep.search == "grid":
                raise InputError(f"the axis {name} is a range; list values or use --search random")
            if SETTINGS[name].several:
                raise InputError(
                    f"the axis {name} is a range; list its values, because each is several numbers"
                )
            if not low < high or (log and low <= 0):
                raise InputError(
                    f"the axis {name} is {low} to {high}; expected low < high, and low > 0 for a "
                    "log-uniform range"
                )
            for end in (low, high):
                SETTINGS[name].check(name, end)
        elif not values:
            raise InputError(f"the axis {name} has no values; give one or more")
        elif len(set(values)) < len(values):
            raise InputError(
                f"the axis {name} has a value twice ({', '.join(map(str, values))}); expected distinct "
                "values; remove the duplicate"
            )
    for variant, flags in sweep.variants.items():
        if not variant:
            raise InputError("a variant has no name; give it one")
        for name in flags:
            check_name(f"flag of the variant {variant!r}", name, known)
            if name in sweep.axes:
                raise InputError(
                    f"the variant {variant!r} sets the axis {name}; remove one of them"
                )
    for trial in sweep.trials:
        check(trial.config)
    networks = {(each.config.data.dataset, each.config.model): each.config for each in sweep.trials}
    for config in networks.values():
        _check_network(config)


def _check_network(config: Config) -> None:
    """Raise InputError if the network does not fit its images."""
    from fidle_jax.nn import make_model

    name, model = config.data.dataset, resolve(config, "full").model
    side = parse_name(name)[0] if name in SIGN_SETS else 28
    make_model(model.name, 10, (side, side, 1), model.dropout, model.width)
