"""What a run's config asks of a training step."""

import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Integer

from fidle_jax.data import Dataset
from fidle_jax.data.augment import Augmentation, Warp
from fidle_jax.data.splits import class_weights
from fidle_jax.errors import InputError
from fidle_jax.train.config import ResolvedConfig
from fidle_jax.train.optimizer import make_optimizer
from fidle_jax.train.step import Task


def make_task(
    config: ResolvedConfig,
    dataset: Dataset,
    model: nn.Module,
    schedule: optax.Schedule,
    labels: Integer[np.ndarray, "example"],
) -> Task:
    """The task of training ``model`` on examples with these labels, as ``config``, resolved, asks.

    Raises:
        InputError: as of `augmentation`.
    """
    kind = config.class_weights
    weights = [] if kind == "none" else class_weights(kind, labels, len(dataset.class_names))
    return Task(
        model=model,
        optimizer=make_optimizer(config, schedule),
        ranges=augmentation(config, dataset),
        label_smoothing=config.label_smoothing,
        class_weights=tuple(map(float, weights)),
        ema_decay=config.ema_decay,
        compute_dtype=config.compute_dtype,
    )


def augmentation(config: ResolvedConfig, dataset: Dataset) -> Augmentation:
    """What ``config``, resolved, lets happen to an image.

    Raises:
        InputError: it asks for flips, and the mirror images of the data set's classes are not known.
    """
    if config.flips and dataset.mirrored is None:
        raise InputError(
            f"--flips is {config.flips}; expected 0, as it is not known which classes of {dataset.name} "
            "are mirror images"
        )
    side = min(dataset.image_shape[:2])
    return Augmentation(
        warp=Warp(
            shift=side * config.shift,
            rotation=config.rotation,
            scaling=config.scaling,
            shear=config.shear,
            elastic=side * config.elastic,
        ),
        brightness=config.brightness,
        contrast=config.contrast,
        colour=config.colour,
        shadow=config.shadow,
        cutout=config.cutout,
        flips=config.flips,
        mirrored=(dataset.mirrored or ()) if config.flips else (),
    )
