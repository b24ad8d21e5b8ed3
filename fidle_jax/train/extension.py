"""``--resume --epochs N``: train a run for more epochs than it was started with."""

from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp

from fidle_jax.files import read_json, sealed, write_json
from fidle_jax.train import run_dir as run_dirs
from fidle_jax.train.config import ResolvedConfig
from fidle_jax.train.task import make_schedule


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
    extension: Extension, config: ResolvedConfig, steps_per_epoch: int, step: int
) -> str:
    """Compare the extended run, which continues from ``step``, with a new run, in one line."""
    before, after = extension.before.optimisation, config.optimisation
    done = jnp.arange(step)
    old, new = (make_schedule(each, steps_per_epoch)(done) for each in (extension.before, config))
    text = f"extending the run from {before.epochs} to {after.epochs} epochs: "
    if jnp.array_equal(jnp.broadcast_to(old, step), jnp.broadcast_to(new, step)):
        return text + f"the result is that of a new {after.epochs}-epoch run, bit for bit"
    return text + (
        f"the {after.schedule} schedule of a {after.epochs}-epoch run continues from epoch "
        f"{step / steps_per_epoch:g}; a new {after.epochs}-epoch run would differ"
    )
