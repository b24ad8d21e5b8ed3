"""The Python interface: `load_data` and `train`. `fidle_jax.inference.load` defines the returned `Run`."""

import contextlib
import dataclasses
import inspect
import numbers
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from fidle_jax.data import SIGN_SETS, Dataset, load_dataset
from fidle_jax.data.arrays import Arrays, load_arrays
from fidle_jax.data.load import PYTHON_PREFIX
from fidle_jax.errors import InputError, check_name
from fidle_jax.inference.load import Run, load
from fidle_jax.report import write_report
from fidle_jax.train import run_dir as run_dirs
from fidle_jax.train.cache import enable_compilation_cache
from fidle_jax.train.config import SETTINGS, Config
from fidle_jax.train.custom import NO_OBJECTS, Custom, Event
from fidle_jax.train.loop import Interrupted
from fidle_jax.train.run import ShowPhase, run
from fidle_jax.train.signals import Stop, catch_stop


def load_data(
    source: str | Path | Arrays,
    /,
    *,
    test: Arrays | None = None,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
    **settings: Any,
) -> Dataset:
    """Load a data set.

    Args:
        source: A name or a path, as for the flag ``--dataset``, or arrays (images, labels): uint8 images
            (example, height, width[, channel]) and class indices.
        test: Arrays of the test set (default: a fifth of each class, held out by ``seed``).
        class_names: Names of the classes of arrays (default: the indices).
        seed: Seed of the hold-out, and the default of the seed of `train`.
        settings: Flags of the data set, such as ``data="sample"`` or ``archives="DIR"``.

    Raises:
        InputError: The data or a flag is unknown, missing or wrong.
    """
    known = set(inspect.signature(load_dataset).parameters) - {"name", "announce"}
    if not isinstance(source, str | os.PathLike):
        if settings:
            raise InputError(f"{next(iter(settings))} has no effect on arrays; leave it out")
        images, labels = source
        return load_arrays((images, labels), test, class_names, seed)
    if test is not None or class_names is not None:
        raise InputError(f"test and class_names are for arrays; leave them out for {source}")
    for name in settings:
        check_name("flag of a data set", name, known)
    settings = _as_paths(settings) | {"seed": seed}
    Config().replace(**settings)  # checks the values
    found = load_dataset(str(source), announce=print, **settings)
    if str(source) in SIGN_SETS:
        settings = {"crop": "full"} | settings  # the recipe would select another one
    return dataclasses.replace(found, settings={"dataset": str(source)} | settings)


def train(
    data: Dataset | str | Path,
    /,
    *,
    model: Any = None,
    optimizer: Any = None,
    learning_rate: Any = None,
    loss: Callable[[Any, Any], Any] | None = None,
    metrics: Mapping[str, Callable[[Any, Any], Any]] | None = None,
    callbacks: Sequence[Callable[[Event], Any]] = (),
    **settings: Any,
) -> Run:
    """Implement `fidle_jax.train`, where the arguments are described."""
    either = {"model": model, "optimizer": optimizer, "learning_rate": learning_rate}
    plain = {k: v for k, v in either.items() if isinstance(v, str | numbers.Real)}
    objects = {name: value for name, value in either.items() if name not in plain}
    settings |= plain
    settings = _as_paths({name.rstrip("_"): value for name, value in settings.items()})
    custom = Custom(**objects, loss=loss, metrics=metrics or {}, callbacks=tuple(callbacks))
    custom.check()
    if useless := sorted(custom.replaced() & settings.keys()):
        raise InputError(
            f"{useless[0]} has no effect, because a Python object replaces it; leave it out"
        )
    if not isinstance(data, Dataset):
        loaded = {"dataset": str(data)}
    else:
        loaded = data.settings or {"dataset": PYTHON_PREFIX + data.name}
    config = Config().replace(model="compact", **loaded)
    if settings.get("resume"):
        config = run_dirs.read_config(settings.get("run_dir") or Path(), run_dirs.PYTHON)
        config = config.replace(dataset=loaded["dataset"])
    config = config.replace(**settings)
    run_dir = config.run.run_dir or run_dirs.default_run_dir(run_dirs.PYTHON)
    config = config.replace(run_dir=run_dir, **({} if custom.model is None else {"model": None}))
    values = config.settings()
    if isinstance(data, Dataset) and all(values[name] == loaded[name] for name in loaded):
        custom = dataclasses.replace(custom, dataset=data)
    described = settings | custom.describe()
    words = [f"{k}={str(v) if isinstance(v, Path) else v!r}" for k, v in described.items()]
    command = f"fidle_jax.train({', '.join([repr(loaded['dataset']), *words])})"
    if not jax.config.jax_compilation_cache_dir:
        enable_compilation_cache()
    try:
        with catch_stop() as stop:
            run_and_report(config, run_dirs.PYTHON, command, stop, custom=custom)
    except Interrupted:
        how = run_dirs.resume_command(run_dirs.PYTHON, run_dir)
        raise KeyboardInterrupt(f"the state is saved; to resume: {how}") from None
    return load(run_dir, custom.model)


def run_and_report(
    config: Config,
    experiment: str,
    command: str,
    stop: Stop,
    show_phase: ShowPhase = contextlib.nullcontext,
    custom: Custom = NO_OBJECTS,
) -> dict[str, Any] | None:
    """Train and test with `fidle_jax.train.run.run`. Then draw the report and call the callbacks.

    A finished run keeps its report.
    """
    result = run(config, experiment, command, stop, show_phase, custom)
    run_dir = config.run.run_dir
    if result and run_dir and not (run_dir / "report.html").exists():
        with run_dirs.hold(run_dir), show_phase("drawing the report"):
            write_report(run_dir)
        if custom.callbacks:
            tested = {
                k: v for k, v in result.items() if k.startswith("test_") and k != "test_examples"
            }
            params = load(run_dir, custom.model).variables["params"]
            custom.call(Event(result["best_epoch"], tested, params, run_dir, result))
    return result


def _as_paths(settings: dict[str, Any]) -> dict[str, Any]:
    """Convert text to a path where the setting is one."""
    paths = [name for name in settings if name in SETTINGS and SETTINGS[name].kind is Path]
    return settings | {name: Path(settings[name]) for name in paths if settings[name] is not None}
