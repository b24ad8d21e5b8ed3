"""What augmentation costs in the training step of the compact network, by our warp and by dm-pix's.

Whole steps of 32x32 colour images, turn by turn in one process: plain, with the warp alone, with all of
the recipe "fast", and, if dm-pix is installed, with its affine map in the place of our warp.
"""

import dataclasses
import functools
import importlib.util
import json
import statistics
import sys
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from _bench_measure import machine
from _bench_turns import time_by_turns

from fidle_jax.data import augment
from fidle_jax.data.augment import NO_AUGMENTATION, Augmentation
from fidle_jax.data.signs import mirror_table
from fidle_jax.data.warp import Warp
from fidle_jax.nn import make_model
from fidle_jax.train.config import Config, resolve
from fidle_jax.train.optimizer import make_optimizer, make_schedule
from fidle_jax.train.state import init_state
from fidle_jax.train.step import Task, train_chunk

SHAPE, CLASSES = (32, 32, 3), 43


@dataclasses.dataclass(frozen=True)
class Options:
    """How long to time."""

    batch_size: int = 128
    """Images a step."""
    rounds: int = 15
    """Turns of each."""
    output: Path = Path("runs/bench_augment/bench_augment.json")
    """File for the numbers."""


def main(options: Options) -> None:
    """Times, prints a table, writes the numbers."""
    if options.batch_size < 1 or options.rounds < 1:
        print("error: --batch-size and --rounds are numbers of 1 or more", file=sys.stderr)
        sys.exit(2)
    config = resolve(Config(dataset="32x32-RGB", model="compact", recipe="fast"), "full")
    warp = Warp(32 * config.shift, config.rotation, config.scaling, config.shear)
    names = "brightness", "contrast", "colour", "shadow", "cutout", "flips"
    light = {name: getattr(config, name) for name in names}
    alone, everything = (
        Augmentation(warp),
        Augmentation(warp, **light, mirrored=mirror_table()),
    )
    runs = {
        "plain": _steps(config, NO_AUGMENTATION, options.batch_size),
        "warp": _steps(config, alone, options.batch_size),
        "all of the recipe": _steps(config, everything, options.batch_size),
    }
    if importlib.util.find_spec("dm_pix"):
        with mock.patch.object(augment, "random_warp", _warp_by_dm_pix):
            runs["dm-pix's affine map"] = _steps(config, alone, options.batch_size)
    turns = time_by_turns(runs, options.rounds, seconds=1e9)
    print(f"{'':<24}{'ms a step':>10}{'added':>9}   {machine()}")
    for name, each in turns.items():
        added = statistics.median(a / b - 1 for a, b in zip(each, turns["plain"], strict=False))
        print(f"{name:<24}{statistics.median(each):>10.1f}{added:>9.1%}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({"machine": machine(), "turns": turns}, indent=1) + "\n")
    print(f"written: {options.output}")


def _steps(config, ranges, batch_size):
    """Compiles the step; returns what runs so many of them."""
    model = make_model("compact", CLASSES, SHAPE)
    optimizer = make_optimizer(config, make_schedule(config, 300))
    task = Task(
        model,
        optimizer,
        ranges,
        label_smoothing=config.label_smoothing,
        ema_decay=config.ema_decay,
    )
    state = init_state(model, SHAPE, optimizer, 0, average=True)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (batch_size, *SHAPE), np.uint8))
    labels = jnp.asarray(rng.integers(0, CLASSES, batch_size, np.int32))
    order = jnp.arange(batch_size)[None].repeat(64, 0)
    compiled = (
        jax.jit(functools.partial(train_chunk, task), donate_argnums=0)
        .lower(state, images, labels, order, 0, 1)
        .compile()
    )

    def run(calls):
        nonlocal state
        state = jax.block_until_ready(compiled(state, images, labels, order, 0, calls))

    return run


def _warp_by_dm_pix(images, key, example_index, ranges):
    """As `fidle_jax.data.warp.random_warp`: an affine map of each image, bilinear, zero beyond the edges."""
    import dm_pix

    def one(image, index):
        a, b, c, d, e = jax.random.uniform(jax.random.fold_in(key, index), (5,), minval=-1)
        angle = a * jnp.deg2rad(ranges.rotation)
        zoom, stretch = (1 + ranges.scaling) ** b, (1 + ranges.shear) ** c
        turn = jnp.array([[jnp.cos(angle), jnp.sin(angle)], [-jnp.sin(angle), jnp.cos(angle)]])
        matrix = jnp.diag(jnp.stack([zoom / stretch, zoom * stretch])) @ turn
        centre = jnp.array([15.5, 15.5])
        offset = centre + ranges.shift * jnp.stack([d, e]) - matrix @ centre
        matrix, offset = jnp.pad(matrix, ((0, 1), (0, 1))).at[2, 2].set(1), jnp.pad(offset, (0, 1))
        return dm_pix.affine_transform(image / 255, matrix, offset=offset, order=1, mode="constant")

    return jax.vmap(one)(images.astype(jnp.float32), example_index)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
