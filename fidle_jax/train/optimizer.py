"""Optimizers and schedules by name, all of them optax's."""

import jax
import optax

from fidle_jax.train.config import ResolvedConfig


def make_schedule(config: ResolvedConfig, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate as a function of the step: warm-up from 0, then ``config.schedule``."""
    peak = config.learning_rate
    warmup = round(config.warmup_epochs * steps_per_epoch)
    steps = max(config.epochs * steps_per_epoch - warmup, 1)
    main = {
        "constant": lambda: optax.constant_schedule(peak),
        "cosine": lambda: optax.cosine_decay_schedule(peak, steps, alpha=0.01),
        "exponential": lambda: optax.exponential_decay(peak, steps, 0.01),
        "linear": lambda: optax.linear_schedule(peak, peak * 0.01, steps),
    }[config.schedule]()
    if not warmup:
        return main
    return optax.join_schedules([optax.linear_schedule(0, peak, warmup), main], [warmup])


def make_optimizer(
    config: ResolvedConfig, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """``config.optimizer`` under ``schedule``, after gradient clipping, with weight decay.

    Weight decay touches kernels, never biases. It is decoupled from the gradient in adamw, nadamw and
    lion (Loshchilov and Hutter, 2019); elsewhere it is the classical L2 term.
    """
    decoupled = {"adamw": optax.adamw, "nadamw": optax.nadamw, "lion": optax.lion}
    plain = {
        "adam": lambda: optax.adam(schedule),
        "momentum": lambda: optax.sgd(schedule, momentum=0.9, nesterov=True),
        "rmsprop": lambda: optax.rmsprop(schedule),
        "sgd": lambda: optax.sgd(schedule),
    }
    parts = []
    if config.clip_norm:
        parts.append(optax.clip_by_global_norm(config.clip_norm))
    if config.optimizer in decoupled:
        make = decoupled[config.optimizer]
        parts.append(make(schedule, weight_decay=config.weight_decay, mask=_kernels))
    else:
        if config.weight_decay:
            parts.append(optax.add_decayed_weights(config.weight_decay, mask=_kernels))
        parts.append(plain[config.optimizer]())
    return optax.chain(*parts)


def _kernels(params):
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
