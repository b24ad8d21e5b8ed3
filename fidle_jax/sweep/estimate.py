"""Estimate how long a sweep takes, from its finished runs and from the operations of its networks."""

import functools
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from fidle_jax.data import SIGN_SETS, mnist_variant
from fidle_jax.data.gtsrb import EXAMPLES as SIGNS
from fidle_jax.data.mnist import EXAMPLES as DIGITS
from fidle_jax.data.signs import NAMES, parse_name
from fidle_jax.nn import layer_table, make_model
from fidle_jax.sweep.plan import Trial
from fidle_jax.train.config import Config, resolve
from fidle_jax.train.run_dir import finished_result

# Imports, data, compilation, evaluation and report of a run.
SECONDS_BESIDE = 15.0
# Fitted to the course's networks on two CPU cores: the share of a large matrix product's speed that
# convolutions reach, and how often a step copies each layer's output.
EFFICIENCY = 0.85
COPIES = 1.1
PASSES = 3  # forward, gradient of the inputs, gradient of the weights
SAMPLE_EXAMPLES = 4_000
MEASURE_SECONDS = 120


class Machine(NamedTuple):
    """Operations per second of a matrix product, and seconds to copy a number."""

    rate: float
    copy: float


class Work(NamedTuple):
    """Work of a run: its examples, and the operations and layer outputs of each example."""

    examples: float
    operations: float
    outputs: float

    def seconds(self, machine: Machine) -> float:
        """Return the estimated seconds if the run has the machine for itself."""
        each = self.operations / (EFFICIENCY * machine.rate) + COPIES * self.outputs * machine.copy
        return self.examples * each


def estimate(
    sweep_dir: Path, trials: Sequence[Trial], measure: Callable[[], Machine | None]
) -> dict[str, float | None]:
    """Estimate the seconds of each trial if it has the machine for itself.

    A setting with finished runs takes their median. Other settings take the time of their work on
    this machine, corrected by the ratio of actual to estimated time of the finished runs.

    Args:
        sweep_dir: Directory of the sweep, which may not exist yet.
        trials: Trials of the sweep.
        measure: Function that measures the machine. It is called only if necessary.

    Returns:
        Seconds by name, or None for unknown data sets.

    Raises:
        InputError: A network does not fit its data set.
    """
    works = {trial.setting: work_of(trial.config) for trial in trials}
    times: dict[str, list[float]] = {}
    for trial in trials:
        if (result := finished_result(sweep_dir / "runs" / trial.name)) is not None:
            times.setdefault(trial.setting, []).append(result["train_seconds"])
    medians = {setting: statistics.median(seconds) for setting, seconds in times.items()}
    needed = any(work is not None and setting not in medians for setting, work in works.items())
    machine = measure() if needed else None
    guesses = {s: work.seconds(machine) for s, work in works.items() if work and machine}
    ratios = [medians[s] / guesses[s] for s in medians if guesses.get(s)]
    correction = statistics.median(ratios) if ratios else 1.0
    known = {s: correction * guess for s, guess in guesses.items()} | medians
    return {
        t.name: SECONDS_BESIDE + known[t.setting] if t.setting in known else None for t in trials
    }


def work_of(config: Config) -> Work | None:
    """Return the work of a run, or None for a data set of unknown size."""
    if config.data.dataset == "mnist":
        variant = _mnist_variant(config.data.variant, config.data.archives, config.data.data_dir)
        classes, shape = 10, (28, 28, 1)
        examples = DIGITS["train"] if variant == "full" else SAMPLE_EXAMPLES
        tests = DIGITS["test"]
    elif config.data.dataset in SIGN_SETS:
        size, treatment = parse_name(config.data.dataset)
        variant, classes = "full", len(NAMES)
        shape = (size, size, 3 if treatment.startswith("RGB") else 1)
        examples, tests = SIGNS["train"], SIGNS["test"]
    else:
        return None
    config = resolve(config, variant)
    model = make_model(config.model.name, classes, shape, config.model.dropout, config.model.width)
    rows = layer_table(model, shape)
    held_out = config.data.validation_fraction
    train = examples * config.data.scale * (1 - held_out)
    validation = (
        tests if config.data.hold_out == "test" else examples * config.data.scale * held_out
    )
    # Each parameter is used once at each position of its layer's output.
    products = sum(row.parameters * math.prod(row.output_shape[1:][:-1]) for row in rows)
    return Work(
        examples=config.optimisation.epochs * (train + validation / PASSES),
        operations=PASSES * 2 * products,
        outputs=sum(math.prod(row.output_shape[1:]) for row in rows),
    )


# Without a network, each call takes seconds.
_mnist_variant = functools.cache(mnist_variant)


def measure_machine() -> Machine | None:
    """Measure JAX's default device in another process, which releases it. Return None on failure."""
    command = [sys.executable, "-m", __name__]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=MEASURE_SECONDS
        )
        return Machine(*json.loads(done.stdout.splitlines()[-1]))
    except (subprocess.SubprocessError, OSError, ValueError, IndexError):
        return None


def _measure() -> Machine:
    import jax
    import jax.numpy as jnp

    def seconds(function, x) -> float:
        times = []
        for _ in range(4):  # the first call compiles
            start = time.perf_counter()
            function(x).block_until_ready()
            times.append(time.perf_counter() - start)
        return min(times)

    matrix, array = jnp.ones((2048, 2048)), jnp.ones(2**25)
    product = seconds(jax.jit(lambda x: x @ x), matrix)
    return Machine(2 * 2048**3 / product, seconds(jax.jit(lambda x: x + 1), array) / array.size)


if __name__ == "__main__":
    print(json.dumps(_measure()))
