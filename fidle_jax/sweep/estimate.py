"""How long a sweep will take: by its own runs that are finished, else by what its networks compute."""

import functools
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fidle_jax.data import SIGN_SETS, mnist_variant
from fidle_jax.data.gtsrb import EXAMPLES as SIGNS
from fidle_jax.data.mnist import EXAMPLES as DIGITS
from fidle_jax.data.signs import NAMES
from fidle_jax.data.treatments import parse_name
from fidle_jax.nn import layer_table, make_model
from fidle_jax.sweep import folder
from fidle_jax.sweep.machine import Machine
from fidle_jax.sweep.plan import Plan, Trial, later_rungs
from fidle_jax.train.config import Config, resolve

# What a run takes beside its steps: imports, data, compilation, evaluation, report.
SECONDS_BESIDE = 15.0
# Of a large matrix product's rate, what convolutions reach; and how often an output of a layer is passed
# over in a step, in copies of an array as large. Both fit the course's networks on two CPU cores.
EFFICIENCY = 0.85
COPIES = 1.1
# Forward, gradient to the input, gradient to the weights.
PASSES = 3
SAMPLE_EXAMPLES = 4_000


class Work(NamedTuple):
    """What a run computes: examples that pass through a training step, and of each the floating-point
    operations, those of the gradients too, and the outputs of all layers."""

    examples: float
    operations: float
    outputs: float

    def seconds(self, machine: Machine) -> float:
        """On that machine, alone."""
        each = self.operations / (EFFICIENCY * machine.rate) + COPIES * self.outputs * machine.copy
        return self.examples * each


def estimate(
    sweep_dir: Path, trials: list[Trial], measure: Callable[[], Machine | None]
) -> dict[str, float | None]:
    """Of each trial, by name, the seconds that it takes alone; None where nothing is known.

    Where one of the same setting is finished, as long as that; and what is not, by its work on the machine,
    corrected by how long the finished ones took for theirs.

    Args:
      sweep_dir: that of the sweep, which need not be there yet.
      trials: of which.
      measure: has the machine; called where work tells more than what has finished.

    Raises:
      InputError: a network does not fit its data set.
    """
    works = {trial.setting: work_of(trial.config) for trial in trials}
    took: dict[str, list[float]] = {}
    for trial in trials:
        if (result := folder.result_of(sweep_dir, trial.name)) is not None:
            took.setdefault(trial.setting, []).append(result["train_seconds"])
    medians = {setting: statistics.median(seconds) for setting, seconds in took.items()}
    needed = any(work is not None and setting not in medians for setting, work in works.items())
    machine = measure() if needed else None
    guesses = {
        setting: work.seconds(machine) for setting, work in works.items() if work and machine
    }
    ratios = [medians[s] / guesses[s] for s in medians if guesses.get(s)]
    correction = statistics.median(ratios) if ratios else 1.0

    def of(setting: str) -> float | None:
        if setting in medians:
            return SECONDS_BESIDE + medians[setting]
        guess = guesses.get(setting)
        return None if guess is None else SECONDS_BESIDE + correction * guess

    return {trial.name: of(trial.setting) for trial in trials}


def estimate_later(plan: Plan, first: list[float], after_epochs: int) -> float:
    """The seconds of all rungs of a halving of more than so many epochs; runs of its first take ``first``."""
    training = statistics.mean(first) - SECONDS_BESIDE
    return sum(
        runs * (SECONDS_BESIDE + training * epochs / plan.first_epochs)
        for runs, epochs in later_rungs(plan)
        if epochs > after_epochs
    )


def work_of(config: Config) -> Work | None:
    """What a run of it computes; None where the data set's size is not known here."""
    if config.dataset == "mnist":
        variant = _mnist_variant(config.data, config.archives, config.data_dir)
        classes, shape = 10, (28, 28, 1)
        examples = DIGITS["train"] if variant == "full" else SAMPLE_EXAMPLES
        tests = DIGITS["test"]
    elif config.dataset in SIGN_SETS:
        size, treatment = parse_name(config.dataset)
        variant, classes = "full", len(NAMES)
        shape = (size, size, 3 if treatment.startswith("RGB") else 1)
        examples, tests = SIGNS["train"], SIGNS["test"]
    else:
        return None
    config = resolve(config, variant)
    model = make_model(config.model, classes, shape, config.dropout, config.width)
    rows = layer_table(model, shape)
    held_out = config.validation_fraction
    train = examples * config.scale * (1 - held_out)
    validation = tests if config.hold_out == "test" else examples * config.scale * held_out
    return Work(
        examples=config.epochs * (train + validation / PASSES),
        # Each parameter has a part in each of a layer's positions.
        operations=PASSES
        * 2
        * sum(r.parameters * math.prod(r.output_shape[1:][:-1]) for r in rows),
        outputs=sum(math.prod(row.output_shape[1:]) for row in rows),
    )


# Where no network answers, each look takes seconds.
_mnist_variant = functools.cache(mnist_variant)
