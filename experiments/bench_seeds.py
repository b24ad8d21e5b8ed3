"""Whether several seeds of one config train faster at once, under one vmap, than one after the other.

A line for each network, batch and number of seeds: milliseconds that a step of all seeds takes, both ways,
turn by turn. On images of noise: only the time matters.
"""

import dataclasses
import functools
import json
import os
import platform
import statistics
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from _bench_turns import time_by_turns

from fidle_jax.nn import make_model
from fidle_jax.train.state import init_state
from fidle_jax.train.step import Task, train_chunk

EXAMPLES = 4096
SHAPES = {"dnn": (28, 28, 1), "cnn": (28, 28, 1), "v1": (24, 24, 1), "compact": (32, 32, 3)}


@dataclasses.dataclass(frozen=True)
class Options:
    """What to time, how long."""

    models: tuple[str, ...] = ("dnn", "cnn", "v1", "compact")
    """Networks: dnn, cnn, v1, compact."""
    batch_sizes: tuple[int, ...] = (32, 512)
    """Images a step."""
    seeds: tuple[int, ...] = (2, 4)
    """Numbers of seeds."""
    rounds: int = 7
    """Turns of each."""
    output: Path = Path("runs/bench_seeds.json")
    """File for the numbers."""


def main(options: Options) -> None:
    """Times, prints a table, writes the numbers."""
    if wrong := [name for name in options.models if name not in SHAPES]:
        print(f"error: --models {wrong[0]}; expected some of {', '.join(SHAPES)}", file=sys.stderr)
        sys.exit(2)
    rows = []
    print(f"{'':<22}{'one by one':>12}{'vmap':>10}{'times as fast':>16}")
    for model in options.models:
        for batch in options.batch_sizes:
            for seeds in options.seeds:
                turns = time_by_turns(_ways(model, batch, seeds), options.rounds, 60.0)
                apart, together = (statistics.median(turns[way]) for way in turns)
                rows.append({"model": model, "batch": batch, "seeds": seeds, **turns})
                what = f"{model}, {batch}, {seeds} seeds"
                print(f"{what:<22}{apart:>12.2f}{together:>10.2f}{apart / together:>16.2f}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    machine = f"{platform.platform()}, {os.cpu_count()} CPUs, {jax.devices()[0].device_kind}"
    options.output.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    print(f"written: {options.output}")


def _ways(name: str, batch: int, seeds: int):
    """What runs so many steps of all seeds, one after the other and at once."""
    shape = SHAPES[name]
    model, optimizer = make_model(name, 10, shape), optax.adam(1e-3)
    task = Task(model, optimizer)
    random = np.random.default_rng(0)
    images = jnp.asarray(random.integers(0, 256, (EXAMPLES, *shape), np.uint8))
    labels = jnp.asarray(random.integers(0, 10, EXAMPLES, np.int32))
    states = [init_state(model, shape, optimizer, seed) for seed in range(seeds)]
    steps = EXAMPLES // batch
    orders = [_order(random, steps, batch) for _ in states]
    chunk = functools.partial(train_chunk, task)
    one = jax.jit(chunk, donate_argnums=0)
    every = jax.jit(jax.vmap(chunk, in_axes=(0, None, None, 0, None, None)), donate_argnums=0)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    all_orders = jnp.stack(orders)

    def apart(calls: int) -> None:
        nonlocal states
        for begin in range(0, calls, steps):
            stop = min(steps, calls - begin)
            states = [
                one(state, images, labels, order, 0, stop)
                for state, order in zip(states, orders, strict=True)
            ]
        jax.block_until_ready(states)

    def together(calls: int) -> None:
        nonlocal stacked
        for begin in range(0, calls, steps):
            stacked = every(stacked, images, labels, all_orders, 0, min(steps, calls - begin))
        jax.block_until_ready(stacked)

    return {"one by one": apart, "vmap": together}


def _order(random: np.random.Generator, steps: int, batch: int) -> jax.Array:
    return jnp.asarray(random.permutation(EXAMPLES)[: steps * batch].reshape(steps, batch))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
