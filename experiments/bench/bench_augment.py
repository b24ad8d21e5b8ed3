"""Time training steps of the compact network with augmentation.

All train on 32x32 colour images in one process, in turns: without augmentation, with the warp alone, and
with all of the recipe "fast".
"""

import dataclasses
import statistics
from pathlib import Path

import jax
import numpy as np
from frameworks import compile_chunk
from timing import TURN, check_positive, machine, run, save, time_in_turns

from fidle_jax.data.augment import NO_AUGMENTATION, Augmentation
from fidle_jax.data.signs import mirror_table
from fidle_jax.nn import make_model
from fidle_jax.train.config import Config, resolve
from fidle_jax.train.state import init_state
from fidle_jax.train.step import Task
from fidle_jax.train.task import make_optimizer, make_schedule

SHAPE, CLASSES, STEPS = (32, 32, 3), 43, 16


@dataclasses.dataclass(frozen=True)
class Options:
    """Settings of the benchmark."""

    batch_size: int = 128
    """Images per step."""
    rounds: int = 15
    """Turns of each variant."""
    output: Path = Path("runs/bench_augment/bench_augment.json")
    """JSON file of the measurements."""


def main(options: Options) -> None:
    """Measure, print a table, and write the numbers."""
    check_positive(options, "batch_size", "rounds")
    config = resolve(Config().replace(dataset="32x32-RGB", model="compact", recipe="fast"), "full")
    ranges = config.augmentation
    warp = Augmentation(32 * ranges.shift, ranges.rotation, ranges.scaling, ranges.shear)
    names = "brightness", "contrast", "colour", "shadow", "cutout", "flips"
    light = {name: getattr(ranges, name) for name in names}
    full = dataclasses.replace(warp, **light, mirrored=mirror_table())
    runs = {
        "plain": _compile_steps(config, NO_AUGMENTATION, options.batch_size),
        "warp": _compile_steps(config, warp, options.batch_size),
        "all of the recipe": _compile_steps(config, full, options.batch_size),
    }
    turns = time_in_turns(runs, options.rounds, turn=TURN)
    print(f"{'':<24}{'ms per step':>12}{'added':>9}   {machine()}")
    for name, times in turns.items():
        added = statistics.median(a / b - 1 for a, b in zip(times, turns["plain"], strict=False))
        print(f"{name:<24}{statistics.median(times):>12.1f}{added:>9.1%}")
    save(options.output, {"machine": machine(), "turns": turns})


def _compile_steps(config, augmentation, batch_size):
    model = make_model("compact", CLASSES, SHAPE)
    optimizer = make_optimizer(config, make_schedule(config, 300))
    averages = {
        "label_smoothing": config.optimisation.label_smoothing,
        "ema_decay": config.optimisation.ema_decay,
    }
    task = Task(model, optimizer, augmentation, **averages)
    state = init_state(model, SHAPE, optimizer, 0, average=True)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (STEPS * batch_size, *SHAPE), np.uint8)
    labels = rng.integers(0, CLASSES, STEPS * batch_size, np.int32)
    chunk, order = compile_chunk(task, state, images, labels, batch_size)

    def run(calls):
        nonlocal state
        for start in range(0, calls, STEPS):
            state = chunk(state, order, 0, min(STEPS, calls - start))
        jax.block_until_ready(state)

    return run


if __name__ == "__main__":
    run(main, Options(), __doc__)
