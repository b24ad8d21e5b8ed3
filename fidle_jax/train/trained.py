"""The network of a finished run, read from its directory."""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import PyTree

from fidle_jax.errors import InputError
from fidle_jax.files import changed_files, read_json
from fidle_jax.nn import adapt, make_model
from fidle_jax.train import run_dir as run_dirs
from fidle_jax.train.checkpoints import read_step
from fidle_jax.train.config import ResolvedConfig, resolve

logger = logging.getLogger("fidle_jax")


class TrainedRun(NamedTuple):
    """A finished run and its network."""

    # Parameters of the best epoch (of the last one without validation data), or their moving average with
    # --ema-decay, and batch statistics. On the host.
    variables: PyTree
    model: nn.Module
    image_shape: tuple[int, int, int]  # height, width and channels
    class_names: tuple[str, ...]
    config: ResolvedConfig
    result: dict[str, Any]  # content of result.json


def read_trained(run_dir: Path, model: Any = None) -> TrainedRun:
    """Read the network of the finished run in ``run_dir``, with the variables that were tested.

    ``model`` is the Flax module of the run if the user passed one. It is not stored.

    Raises:
        InputError: There is no run, or it is unfinished, damaged or of another version.
    """
    config, result = read_finished(run_dir)
    if changed := changed_files(run_dir):
        logger.warning(
            "%s of the run in %s changed after it had finished; --resume writes them again",
            " and ".join(changed[:3]),
            run_dir,
        )
    described, named = run_dirs.read_model(run_dir), config.model
    class_names = tuple(described["class_names"])
    height, width, channels = described["image_shape"]
    image_shape = (height, width, channels)
    if named.name is not None:
        network = make_model(named.name, len(class_names), image_shape, named.dropout, named.width)
    elif model is not None:
        network = adapt(model, len(class_names), image_shape)
    else:
        raise InputError(
            f"the run in {run_dir} has a model of its own, {described['name']}, which is not stored; pass "
            f"it: fidle_jax.load({str(run_dir)!r}, model={described['name']}(...))"
        )
    variables = _read_variables(run_dir, result["steps"], network, image_shape)
    return TrainedRun(variables, network, image_shape, class_names, config, result)


def read_finished(run_dir: Path) -> tuple[ResolvedConfig, dict[str, Any]]:
    """Read the config and the result of a finished run. Raise what `read_trained` raises."""
    path = run_dir / "config.json"
    if not path.exists():
        raise InputError(f"there is no run in {run_dir}; give the directory of a finished run")
    experiment = read_json(path, {"experiment": str})["experiment"]
    if experiment.startswith("lesson/"):
        raise InputError(
            f"{run_dir} belongs to a lesson, which saves no network; give the directory of a "
            "training run"
        )
    config = run_dirs.read_config(run_dir, experiment)
    if run_dirs.finished_result(run_dir) is None:
        raise InputError(
            f"the run in {run_dir} is not finished; continue it: "
            + run_dirs.resume_command(experiment, run_dir)
        )
    result = run_dirs.read_result(run_dir, *run_dirs.RESULT)
    return resolve(config, config.data.variant), result


def _read_variables(run_dir: Path, step: int, model: nn.Module, image_shape) -> PyTree:
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    shapes: Any = jax.eval_shape(model.init, jax.random.key(0), images)
    best = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), {"batch_stats": {}} | shapes)
    try:
        restored = read_step(run_dir / "checkpoints", step, None, best, run_dirs.identity(run_dir))
    # Orbax and tensorstore raise many types of exceptions for damaged files.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"checkpoint {step} in {run_dir} is damaged or of another version ({reason}); run it again"
        ) from error
    if restored is None:
        raise InputError(
            f"checkpoint {step} in {run_dir} is missing, but result.json names it; restore it, or "
            "run again"
        )
    return restored[1]
