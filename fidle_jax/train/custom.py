"""Python objects that replace settings of a config: models, optimizers, losses, metrics, callbacks."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from fidle_jax.data import Dataset
from fidle_jax.errors import InputError
from fidle_jax.train.evaluation import Objective, PerExample
from fidle_jax.train.step import Task

# The settings that have no effect if an object replaces the one of this name.
REPLACED = {
    "model": ("model", "dropout", "width"),
    "optimizer": (
        *("optimizer", "learning_rate", "schedule", "warmup_epochs"),
        *("weight_decay", "clip_norm"),
    ),
    "learning_rate": ("learning_rate", "schedule", "warmup_epochs"),
    "loss": ("label_smoothing",),
}
RESERVED = ("loss", "accuracy")  # names that metrics cannot have


class Event(NamedTuple):
    """The argument of a callback: an epoch has ended, or, with a ``result``, the run."""

    epoch: int  # number of epochs done
    metrics: dict[str, float]  # row of metrics.csv, or the results on the test set
    params: PyTree  # after the epoch, in host memory, or those that were tested
    run_dir: Path
    result: dict[str, Any] | None = None  # content of result.json at the end of the run


@dataclasses.dataclass(frozen=True)
class Custom:
    """Objects that replace the settings of the same names."""

    dataset: Dataset | None = None
    model: Any = None  # a Flax linen module; `adapt` checks it
    optimizer: Any = None  # an optax.GradientTransformation
    learning_rate: Any = None  # an optax.Schedule
    loss: PerExample | None = None
    metrics: Mapping[str, PerExample] = dataclasses.field(default_factory=dict)
    # Each is called after each epoch and at the end. The training stops if one returns False.
    callbacks: tuple[Callable[[Event], Any], ...] = ()

    def replaced(self) -> set[str]:
        """Return the names of the settings that have no effect."""
        given = (names for name, names in REPLACED.items() if getattr(self, name) is not None)
        return {name for names in given for name in names}

    def describe(self) -> dict[str, Any]:
        """Return the entry ``objects`` of config.json: names of what determines the result of
        the run.
        """
        given = {name: getattr(self, name) for name in REPLACED}
        found: dict[str, Any] = {name: _name(value) for name, value in given.items() if value}
        return found | ({"metrics": sorted(self.metrics)} if self.metrics else {})

    def apply(self, task: Task) -> Task:
        """Return the task with the optimizer, the loss and the metrics."""
        loss, objective = self.loss, task.objective
        if loss is not None:
            objective = Objective(lambda logits, labels, _: loss(logits, labels), objective.scores)
        return dataclasses.replace(
            task,
            optimizer=self.optimizer or task.optimizer,
            objective=objective,
            metrics=tuple(self.metrics.items()),
        )

    def call(self, event: Event) -> bool:
        """Call all callbacks. Return False if one of them returned False."""
        known = {name: value for name, value in event.metrics.items() if value is not None}
        event = event._replace(metrics=known)
        stops = [callback(event) is False for callback in self.callbacks]
        return not any(stops)

    def check(self) -> None:
        """Raise InputError if an object has a wrong type or name."""
        if not isinstance(self.optimizer, optax.GradientTransformation | None):
            raise InputError(
                f"the optimizer is {self.optimizer!r}; expected a name or an optax.GradientTransformation"
            )
        if not (self.learning_rate is None or callable(self.learning_rate)):
            raise InputError(
                f"the learning rate is {self.learning_rate!r}; expected a number or an optax schedule"
            )
        for name in self.metrics:
            if not name.isidentifier() or name in RESERVED:
                raise InputError(
                    f"the metric {name!r} has a wrong name; expected a Python name other than "
                    f"{' and '.join(RESERVED)}"
                )

    def check_functions(self, classes: int) -> None:
        """Raise InputError if the loss or a metric does not return a value for each example."""
        logits = jax.ShapeDtypeStruct((2, classes), jnp.float32)
        labels = jax.ShapeDtypeStruct((2,), jnp.int32)
        functions = {f"metric {name}": function for name, function in self.metrics.items()}
        for name, function in (functions | ({"loss": self.loss} if self.loss else {})).items():
            shape = getattr(jax.eval_shape(function, logits, labels), "shape", "no array")
            if shape != (2,):
                raise InputError(
                    f"the {name} returns {shape} for 2 examples; expected (2,), the value of each "
                    "example"
                )


NO_OBJECTS = Custom()


def _name(value: Any) -> str:
    """Return a name that is the same in each process."""
    if isinstance(value, optax.GradientTransformation):
        value = value.update
    text = " ".join((getattr(value, "__qualname__", None) or repr(value)).split())
    return re.sub(r" at 0x\w+|# (attributes|children) ", "", text)
