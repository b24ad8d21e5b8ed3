"""``--resume``: continue a run, possibly for more epochs than it was started with."""

import contextlib
import logging
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp

from fidle_jax.data import Dataset
from fidle_jax.errors import InputError
from fidle_jax.files import DIGESTS, changed_files, read_json, sealed, write_json
from fidle_jax.train import run_dir as run_dirs
from fidle_jax.train.config import Config, ResolvedConfig, hyperparameters, resolve
from fidle_jax.train.custom import Custom
from fidle_jax.train.task import make_schedule

MAX_NAMED = 5  # files of a warning

logger = logging.getLogger("fidle_jax")


def finished_result(run_dir: Path, epochs: int) -> dict[str, Any] | None:
    """Return the result of a finished run, or None if it is unfinished or files have changed since.

    A run whose result has fewer than ``epochs`` epochs is being extended.
    """
    if (run_dir / DIGESTS).is_dir():
        raise InputError(f"{run_dir / DIGESTS} is a directory; delete it")
    with contextlib.suppress(InputError):
        if run_dirs.read_result(run_dir, "epochs")["epochs"] != epochs:
            return None
    changed = changed_files(run_dir)
    if not changed or not (run_dir / "report.html").exists():
        return run_dirs.finished_result(run_dir, *run_dirs.RESULT)
    logger.warning(
        "the run in %s is finished, but %s changed since; writing the results again from the last "
        "checkpoint",
        run_dir,
        " and ".join(changed[:MAX_NAMED]),
    )
    return None


def check_same_data(config: Config, dataset: Dataset) -> None:
    """Raise InputError if own images have changed since the run started."""
    path = (config.run.run_dir or Path()) / "config.json"
    old = read_json(path, {}).get("own_images")
    if dataset.facts and old and old.get("digest") != dataset.facts["digest"]:
        raise InputError(
            f"the images in {dataset.name} have changed since the run started; restore them, or "
            "start a new "
            "run with another --run-dir"
        )


def same_run(
    config: Config, run_dir: Path, experiment: str, custom: Custom
) -> tuple[ResolvedConfig, ResolvedConfig]:
    """Return the resolved config and that of the run to resume.

    Raise InputError if they differ in hyperparameters. Only the epochs may be more if they are given.
    """
    saved = run_dirs.read_config(run_dir, experiment)
    variant = saved.data.variant if config.data.variant == "auto" else config.data.variant
    resolved = resolve(config, variant)
    old = hyperparameters(saved) | run_dirs.read_objects(run_dir)
    if (config.optimisation.epochs or 0) > saved.optimisation.epochs:
        old["epochs"] = config.optimisation.epochs
    compared = hyperparameters(resolved.replace(**dict.fromkeys(custom.replaced())))
    compared |= dict.fromkeys(run_dirs.read_objects(run_dir)) | custom.describe()
    different = [
        f"--{name.replace('_', '-')} {new} (the run has {old.get(name)})"
        for name, new in compared.items()
        if new != old.get(name)
    ]
    if different:
        raise InputError(
            f"the run in {run_dir} has other settings: {'; '.join(different)}; leave these flags "
            "out to "
            "resume it, or give another --run-dir for a new run"
        )
    return resolved, resolve(saved, saved.data.variant)


class Extension(NamedTuple):
    """A run that continues with more epochs."""

    before: ResolvedConfig  # with fewer epochs
    command: str  # that continues the run


def write_extension(run_dir: Path, extension: Extension, epochs: int) -> None:
    """Write the new number of epochs to config.json.

    The identity of the run remains that of its first config.json. So its checkpoints, and its result
    until the new one replaces it, stay valid.
    """
    content = read_json(run_dir / "config.json", {"command": str, "epochs": int})
    content |= {
        "identity": run_dirs.identity(run_dir),
        "extended_from": [*content.get("extended_from", []), content["epochs"]],
        "epochs": epochs,
        "command": f"{content['command']} && {extension.command}",
    }
    write_json(run_dir / "config.json", sealed(content))


def describe_extension(
    extension: Extension, config: ResolvedConfig, custom: Custom, steps_per_epoch: int, step: int
) -> str:
    """Compare the extended run, which continues from ``step``, with a new run, in one line."""
    before, after = extension.before.optimisation, config.optimisation
    text = f"extending the run from {before.epochs} to {after.epochs} epochs: "
    if custom.optimizer or custom.learning_rate:
        return text + "the optimizer and the schedule given in Python continue"
    done = jnp.arange(step)
    old, new = (make_schedule(each, steps_per_epoch)(done) for each in (extension.before, config))
    if jnp.array_equal(jnp.broadcast_to(old, step), jnp.broadcast_to(new, step)):
        return text + f"the result is that of a new {after.epochs}-epoch run, bit for bit"
    return text + (
        f"the {after.schedule} schedule of a {after.epochs}-epoch run continues from epoch "
        f"{step / steps_per_epoch:g}; a new {after.epochs}-epoch run would differ"
    )
