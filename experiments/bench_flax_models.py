"""Training steps of Flax networks with XLA's convolutions and with `kernels.conv_general_dilated` instead."""

import dataclasses
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import jax
import tyro
from _bench_measure import machine
from _bench_turns import call_by_call, in_a_loop, time_by_turns
from _flax_models import PROBLEMS, Problem

from fidle_jax import kernels
from fidle_jax.files import write_json
from fidle_jax.train.run_dir import default_run_dir

CONVOLUTIONS = {"xla": jax.lax.conv_general_dilated, "drop_in": kernels.conv_general_dilated}


@dataclasses.dataclass(frozen=True)
class Config:
    """What to measure, how often, and where the figures go."""

    only: tuple[str, ...] = tuple(PROBLEMS)
    """Names of the networks."""
    rounds: int = 15
    """Turns of each at most."""
    seconds: float = 6.0
    """That all turns on one network may take, roughly; but three rounds there are."""
    loop: bool = False
    """Time the steps in one compiled loop, instead of one by one."""
    output: Path | None = None
    """JSON file of the figures (default: runs/bench_flax_models/<UTC time>/flax_models.json)."""


def main(config: Config) -> None:
    """Measures network by network, prints a line each, and writes them all."""
    unknown = set(config.only) - set(PROBLEMS)
    if unknown or config.rounds < 1:
        named = f"--only {' '.join(sorted(unknown))}; expected names among {', '.join(PROBLEMS)}"
        wrong = named if unknown else f"--rounds {config.rounds}; expected 1 or more"
        print(f"error: {wrong}", file=sys.stderr)
        sys.exit(2)
    where = f"{machine()}, {'in a compiled loop' if config.loop else 'call by call'}"
    print(f"{where}; loss and gradients of a batch, medians in ms")
    print(f"{'network':15} {'batch':>5} {'xla':>9} {'drop-in':>9} {'speedup':>8}", flush=True)
    results = [_measured(name, PROBLEMS[name], config) for name in config.only]
    output = config.output or default_run_dir("bench_flax_models") / "flax_models.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    write_json(output, {"machine": where, "results": results})
    print(f"written: {output}")


def _measured(name: str, problem: Problem, config: Config) -> dict[str, Any]:
    prepare = in_a_loop if config.loop else call_by_call
    runs, compile_seconds = {}, {}
    for label, conv in CONVOLUTIONS.items():
        step, arrays = _step(problem, conv)
        began = time.perf_counter()
        runs[label] = prepare(step, arrays)
        compile_seconds[label] = time.perf_counter() - began
    turns = time_by_turns(runs, config.rounds, config.seconds)
    result: dict[str, Any] = {"name": name, "image": problem.image, "batch": problem.batch}
    for label, times in turns.items():
        result[label] = {
            "milliseconds": statistics.median(times),
            "turns": times,
            "compile_seconds": compile_seconds[label],
        }
    xla, drop_in = (result[label]["milliseconds"] for label in CONVOLUTIONS)
    result["speedup"] = xla / drop_in
    line = f"{name:15} {problem.batch:5} {xla:9.2f} {drop_in:9.2f} {xla / drop_in:8.2f}"
    print(line, flush=True)
    return result


def _step(problem, conv_general_dilated):
    """Loss and gradients as a function of arrays, and those: the same for either convolution."""
    network = problem.network(conv_general_dilated)
    x_key, label_key, init_key = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(x_key, (problem.batch, *problem.image))
    labels = jax.random.randint(label_key, (problem.batch,), 0, 10)
    parameters = jax.jit(network.init)(init_key)
    arrays, structure = jax.tree.flatten((parameters, x, labels))

    def step(*arrays):
        return jax.value_and_grad(network.loss)(*structure.unflatten(arrays))

    return step, tuple(arrays)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
