"""From a config to a `Task`. To add a learning rate schedule or an optimizer, extend
`make_schedule` or `make_optimizer`, and the choices in `config.py`.
"""

import jax
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Integer
from optax.contrib import MuonDimensionNumbers, muon

from fidle_jax.data import Dataset
from fidle_jax.data.augment import Augmentation
from fidle_jax.data.dataset import class_weights
from fidle_jax.errors import InputError
from fidle_jax.nn import layer_table
from fidle_jax.train.config import ResolvedConfig
from fidle_jax.train.step import Task


def make_task(
    config: ResolvedConfig,
    dataset: Dataset,
    model: nn.Module,
    schedule: optax.Schedule,
    labels: Integer[np.ndarray, "example"],
) -> Task:
    """Return the task of training ``model`` on examples with these labels."""
    kind = config.optimisation.class_weights
    weights = [] if kind == "none" else class_weights(kind, labels, len(dataset.class_names))
    return Task(
        model=model,
        optimizer=make_optimizer(config, schedule),
        ranges=make_augmentation(config, dataset),
        label_smoothing=config.optimisation.label_smoothing,
        class_weights=tuple(map(float, weights)),
        ema_decay=config.optimisation.ema_decay,
        compute_dtype=config.model.compute_dtype,
        frozen=frozen_layers(config, model, dataset.image_shape),
    )


def frozen_layers(
    config: ResolvedConfig, model: nn.Module, image_shape: tuple[int, int, int]
) -> tuple[str, ...]:
    """Return the names of the layers that are not trained: those before the flattening, or none.

    Raises:
        InputError: There are none, but ``--freeze conv`` was given.
    """
    if config.optimisation.freeze == "none":
        return ()
    rows = layer_table(model, image_shape)
    # Only layers before the flattening return feature maps: (batch, height, width, channel).
    frozen = tuple(row.name for row in rows if row.parameters and len(row.output_shape) == 4)
    if not frozen:
        raise InputError(
            f"--freeze is conv, but the network {config.model.name} has no convolutions; leave it out"
        )
    return frozen


def make_augmentation(config: ResolvedConfig, dataset: Dataset) -> Augmentation:
    """Return the ranges of the augmentation, with lengths in pixels.

    Raise InputError if flips are requested, but the mirror images of the classes are unknown.
    """
    values = config.augmentation
    if values.flips and dataset.mirrored is None:
        raise InputError(
            f"--flips is {values.flips}; it must be 0, because it is unknown which classes of "
            f"{dataset.name} are mirror images"
        )
    side = min(dataset.image_shape[:2])
    lengths = {name: side * getattr(values, name) for name in ("shift", "elastic", "blur")}
    ranges = vars(values) | lengths
    del ranges["preset"]
    return Augmentation(**ranges, mirrored=(dataset.mirrored or ()) if values.flips else ())


def make_schedule(config: ResolvedConfig, steps_per_epoch: int) -> optax.Schedule:
    """Return the learning rate as a function of the step: linear warm-up, then the schedule."""
    values = config.optimisation
    peak, warmup = values.learning_rate, round(values.warmup_epochs * steps_per_epoch)
    steps = max(values.epochs * steps_per_epoch - warmup, 1)
    schedule = {
        "constant": lambda: optax.constant_schedule(peak),
        "cosine": lambda: optax.cosine_decay_schedule(peak, steps, alpha=0.01),
    }[values.schedule]()
    if not warmup:
        return schedule
    return optax.join_schedules([optax.linear_schedule(0, peak, warmup), schedule], [warmup])


def make_optimizer(
    config: ResolvedConfig, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """Return the optimizer, with gradient clipping and weight decay.

    Weight decay applies to kernels, not to biases. It is decoupled from the gradient in adamw and muon,
    and an L2 term of the gradient in the others. muon reshapes the update of each kernel to a matrix
    (inputs, outputs), orthogonalizes it, and scales it so that Adam's learning rates fit. NAdam updates
    the biases and the parameters of batch norms.

    References:
        Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019.
        Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024.
        Liu et al., Muon is Scalable for LLM Training, arXiv 2502.16982, 2025 (the scale of 0.2).
    """
    values = config.optimisation
    decay = values.weight_decay
    parts = []
    if values.clip_norm:
        parts.append(optax.clip_by_global_norm(values.clip_norm))
    if decay and values.optimizer not in ("adamw", "muon"):
        parts.append(optax.add_decayed_weights(decay, mask=_is_kernel))
    parts.append(
        {
            "adam": lambda: optax.adam(schedule),
            "adamw": lambda: optax.adamw(schedule, weight_decay=decay, mask=_is_kernel),
            "muon": lambda: muon(
                schedule,
                weight_decay=decay,
                muon_weight_dimension_numbers=_as_matrices,
                consistent_rms=0.2,
            ),
            "momentum": lambda: optax.sgd(schedule, momentum=0.9, nesterov=True),
            "sgd": lambda: optax.sgd(schedule),
        }[values.optimizer]()
    )
    return optax.chain(*parts)


def _is_kernel(params):
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _as_matrices(params):
    def dimensions(leaf):
        *inputs, outputs = range(leaf.ndim)
        return MuonDimensionNumbers(tuple(inputs), outputs) if inputs else None

    return jax.tree.map(dimensions, params)
