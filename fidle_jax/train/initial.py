"""``--from RUN``: start a run from the weights of a finished one."""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PyTree

from fidle_jax.data import SIGN_SETS, Dataset, is_path
from fidle_jax.errors import InputError
from fidle_jax.files import expand_user, read_json
from fidle_jax.nn import layer_table
from fidle_jax.train.checkpoints import digest
from fidle_jax.train.command_line import format_flags
from fidle_jax.train.config import Config, ResolvedConfig
from fidle_jax.train.run_dir import read_model
from fidle_jax.train.task import frozen_layers
from fidle_jax.train.trained import TrainedRun, read_finished, read_trained

INHERITED = ("width", "dropout", "image_size")
# Settings that determine which examples are held out.
SPLIT = ("data", "scale", "validation_fraction", "hold_out", "seed")

logger = logging.getLogger("fidle_jax")


class Initial(NamedTuple):
    """The weights of a finished run that a new run starts from."""

    arrays: dict[tuple[str, ...], Any]  # by path: collection, layer, name; without the new layers
    description: str  # one line, and another one with --freeze
    digest: str  # of all variables of the finished run

    def replace_in(self, variables: PyTree) -> PyTree:
        """Return ``variables`` in which the arrays of the same path are replaced."""
        arrays = {path: jnp.asarray(array) for path, array in self.arrays.items()}
        return unflatten_dict(flatten_dict(variables) | arrays)


def inherit(config: Config) -> Config:
    """Set width, dropout and image size to those of the run in ``--from`` if they are not given.

    Raises:
        InputError: There is no finished run, or its network is not ``--model``.
    """
    path = expand_user(config.optimisation.initial or Path())
    saved, _ = read_finished(path)
    if (name := saved.model.name) != config.model.name:
        raise InputError(
            f"--model is {config.model.name}, but the run in {path} has the network {name}; leave "
            f"--model out, or give --model {name}"
        )
    given, old = config.settings(), saved.settings()
    height, width, _ = read_model(path)["image_shape"]
    if is_path(config.data.dataset) and height == width:
        old["image_size"] = height
    return config.replace(**{name: old[name] for name in INHERITED if given[name] is None})


def read_initial(config: ResolvedConfig, model: nn.Module, dataset: Dataset) -> Initial:
    """Read the weights of the run in ``--from``.

    The last dense layer is new if the class names differ. The first one is new if it has another number
    of inputs, because the images have another size.

    Raises:
        InputError: There is no finished run, or its other layers do not fit ``model``.
    """
    path = expand_user(config.optimisation.initial or Path())
    source = read_trained(path, getattr(model, "module", None))
    old: dict[Any, Any] = flatten_dict(source.variables)
    images = jax.ShapeDtypeStruct((1, *dataset.image_shape), jnp.float32)
    fresh: Any = jax.eval_shape(model.init, jax.random.key(0), images)
    table = layer_table(model, dataset.image_shape)
    frozen = frozen_layers(config, model, dataset.image_shape)
    dense = [row.name for row in table if row.kind == "Dense"]
    dense = dense or [row.name for row in table if row.parameters]
    _warn_of_other_split(config, source, path, dataset.name)
    new = {}
    if dataset.class_names != source.class_names:
        count = len(dataset.class_names)
        reason = f"for {count} classes"
        if count == len(source.class_names):
            reason = "because the class names differ"
        new[dense[-1]] = f"new head {dense[-1]} {reason}"
    shapes: dict[Any, Any] = flatten_dict(fresh)
    for name, leaf in shapes.items():
        layer = "/".join(name[1:-1])
        if layer in new or (name in old and old[name].shape == leaf.shape):
            continue
        if layer != dense[0]:
            raise InputError(_explain_misfit(config, source, path, dataset))
        new[layer] = f"new layer {layer} for {_images(dataset.image_shape)} images"
    network, classes = source.config.model.name, len(source.class_names)
    kept = ", ".join(new.values()) or "all layers are kept, because the classes are the same"
    described = f"{network}, {_images(source.image_shape)}, {classes} classes"
    description = f"weights: from {path} ({described}); {kept}"
    if frozen:
        trained = sum(row.parameters for row in table if row.name not in frozen)
        total = sum(row.parameters for row in table)
        description += f"\ntrained: {trained:,} of {total:,} parameters (--freeze conv)"
    arrays = {name: array for name, array in old.items() if "/".join(name[1:-1]) not in new}
    return Initial(arrays, description, digest(source.variables))


def read_same_initial(
    config: ResolvedConfig, model: nn.Module, dataset: Dataset, run_dir: Path
) -> Initial:
    """Read the weights again to resume the run in ``run_dir``, which has no checkpoint.

    Raise what `read_initial` raises, or InputError if the weights have changed since.
    """
    initial = read_initial(config, model, dataset)
    if initial.digest != read_json(run_dir / "config.json", {}).get("from_digest"):
        raise InputError(
            f"the weights of {config.optimisation.initial} have changed since the run in {run_dir} "
            "started, and it has no checkpoint; start again in another --run-dir"
        )
    return initial


def _warn_of_other_split(
    config: ResolvedConfig, source: TrainedRun, path: Path, dataset: str
) -> None:
    """Warn if the run was trained on images that may be validation or test images of the new run."""
    old, new = source.config.settings(), config.settings()
    different = {name: old[name] for name in SPLIT if old[name] != new[name]}
    signs = {dataset, source.result["dataset"]} <= set(SIGN_SETS)  # all show the same photographs
    if different and (signs or source.result["dataset"] == dataset):
        logger.warning(
            "the run in %s has another split of %s: it may have been trained on images that are "
            "held out "
            "here, so that accuracies are too high; to use its split, give %s",
            path,
            dataset,
            format_flags(different, different),
        )


def _explain_misfit(
    config: ResolvedConfig, source: TrainedRun, path: Path, dataset: Dataset
) -> str:
    if (width := source.config.model.width) != config.model.width:
        return (
            f"--width is {config.model.width:g}, but the run in {path} has {width:g}; leave --width "
            f"out, or give --width {width:g}"
        )
    return (
        f"the run in {path} was trained on {_images(source.image_shape)} images, but "
        f"{dataset.name} has "
        f"{_images(dataset.image_shape)}; give a --dataset with as many colour channels, or "
        "another --from"
    )


def _images(shape: tuple[int, ...]) -> str:
    return f"{shape[0]}x{shape[1]}-{'RGB' if shape[2] == 3 else 'L'}"
