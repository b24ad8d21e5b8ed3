"""Time training steps of the compact network with augmentation.

All train on 32x32 colour images in one process, alternately: without augmentation, with the warp alone,
and with all of the recipe "fast".
"""

import dataclasses
import statistics
from pathlib import Path

import numpy as np
from frameworks import STEPS, compile_loop
from timing import TURN, check_positive, machine, run, save, time_in_turns

from fidle_jax.data.augment import NO_AUGMENTATION, Augmentation
from fidle_jax.data.signs import MIRRORED
from fidle_jax.nn import make_model
from fidle_jax.train.config import Config, resolve
from fidle_jax.train.step import Task
from fidle_jax.train.task import make_optimizer, make_schedule

SHAPE, CLASSES, BATCHES = (32, 32, 3), 43, 16


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
    settings = {"dataset": "32x32-RGB", "model": "compact", "batch_size": options.batch_size}
    config = resolve(Config().replace(**settings, recipe="fast"), "full")
    ranges = config.augmentation
    warp = Augmentation(32 * ranges.shift, ranges.rotation, ranges.scaling, ranges.shear)
    names = "brightness", "contrast", "colour", "shadow", "cutout", "flips"
    light = {name: getattr(ranges, name) for name in names}
    full = dataclasses.replace(warp, **light, mirrored=MIRRORED)
    variants = {"plain": NO_AUGMENTATION, "warp": warp, "all of the recipe": full}
    runs = {name: _compile(config, augmentation) for name, augmentation in variants.items()}
    turns = {
        name: [time / STEPS for time in times]
        for name, times in time_in_turns(runs, options.rounds, turn=TURN).items()
    }
    print(f"{'':<24}{'ms per step':>12}{'added':>9}   {machine()}")
    for name, times in turns.items():
        added = statistics.median(a / b - 1 for a, b in zip(times, turns["plain"], strict=False))
        print(f"{name:<24}{statistics.median(times):>12.1f}{added:>9.1%}")
    save(options.output, {"machine": machine(), "turns": turns})


def _compile(config, augmentation):
    """Return a function that trains for a number of times `STEPS` steps."""
    options = config.optimisation
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCHES * options.batch_size, *SHAPE), np.uint8)
    labels = rng.integers(0, CLASSES, len(images), np.int32)
    task = Task(
        make_model("compact", CLASSES, SHAPE),
        make_optimizer(config, make_schedule(config, 300)),
        augmentation,
        label_smoothing=options.label_smoothing,
        ema_decay=options.ema_decay,
    )
    return compile_loop(task, config, images, labels).train


if __name__ == "__main__":
    run(main, Options(), __doc__)
