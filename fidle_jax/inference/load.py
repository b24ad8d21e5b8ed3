"""A finished run's network, from its directory."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float, PyTree, UInt8

from fidle_jax.errors import InputError
from fidle_jax.nn import make_model
from fidle_jax.train import run_dir as run_dirs
from fidle_jax.train.checkpoints import read_newest
from fidle_jax.train.config import ResolvedConfig, resolve
from fidle_jax.train.evaluation import apply_model
from fidle_jax.train.state import init_state
from fidle_jax.train.task import make_optimizer


class Trained(NamedTuple):
    """What a run has learned.

    Attributes:
        predict: images, uint8 or numbers from 0 to 1, to the probabilities of the classes: a pure,
            compiled function.
        variables: the weights that validation picked, and the statistics of batch norms.
        model: the network; ``model.apply(variables, images)`` gives logits of images from 0 to 1.
        image_shape: of an image: height, width, channels.
        class_names: in the order of the probabilities.
        config: what was asked of the run.
        result: what result.json holds.
    """

    predict: Callable[
        [UInt8[Array | np.ndarray, "batch *shape"] | Float[Array | np.ndarray, "batch *shape"]],
        Float[Array, "batch class"],
    ]
    variables: PyTree
    model: nn.Module
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    config: ResolvedConfig
    result: dict[str, Any]


def load(run_dir: str | Path) -> Trained:
    """The network of the finished run in ``run_dir``, with the weights that were tested.

    Raises:
        InputError: there is no run, or one that is not finished, of another version, or damaged.
    """
    run_dir = Path(run_dir).expanduser()
    config, result = _read(run_dir)
    described = run_dirs.read_model(run_dir)
    class_names = tuple(described["class_names"])
    height, width, channels = described["image_shape"]
    image_shape = (height, width, channels)
    model = make_model(
        config.model.name,
        len(class_names),
        image_shape,
        config.model.dropout,
        config.model.width,
    )
    variables = _variables(run_dir, config, model, image_shape)

    @jax.jit
    def probabilities(variables, images):
        return jax.nn.softmax(apply_model(model, variables, images))

    return Trained(
        predict=functools.partial(probabilities, variables),
        variables=variables,
        model=model,
        image_shape=image_shape,
        class_names=class_names,
        config=config,
        result=result,
    )


def _read(run_dir: Path) -> tuple[ResolvedConfig, dict[str, Any]]:
    if not (run_dir / "config.json").exists():
        raise InputError(
            f"there is no run in {run_dir}: it has no config.json; give the directory of a finished run"
        )
    try:
        experiment = str(json.loads((run_dir / "config.json").read_text())["experiment"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{run_dir / 'config.json'} cannot be read: {error}") from error
    if experiment.startswith("lesson/"):
        raise InputError(
            f"{run_dir} is a lesson's, which keeps no network; give the directory of a run"
        )
    config = run_dirs.read_config(run_dir, experiment)
    # What a run of an earlier version did not know is its recipe's.
    config = resolve(config, config.data.variant)
    result = run_dirs.finished_result(run_dir)
    if result is None:
        raise InputError(
            f"the run in {run_dir} is not finished; go on with it: "
            f"python experiments/{experiment}.py --run-dir {run_dir} --resume"
        )
    return config, result


def _variables(run_dir: Path, config: ResolvedConfig, model: nn.Module, image_shape) -> PyTree:
    # Only what it is made of counts here: which schedule it was does not.
    optimizer = make_optimizer(config, optax.constant_schedule(0.0))
    state = jax.eval_shape(
        lambda: init_state(
            model, image_shape, optimizer, 0, average=config.optimisation.ema_decay > 0
        )
    )
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state)
    try:
        restored = read_newest(run_dir / "checkpoints", state, state.variables())
    # What a damaged file makes orbax and tensorstore raise is of many kinds.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"the last checkpoint in {run_dir} is damaged or of another version ({reason}); run it again"
        ) from error
    if restored is None:
        raise InputError(f"the run in {run_dir} has no checkpoint any more; run it again")
    return jax.device_put(restored[1])
