"""Some steps of a network with images in memory and streamed, for `test_streaming` to compare.

A process's number of devices is settled when JAX starts, so this is one:
``python streamed.py OUTPUT.npz MODEL:STRATEGY:PARTS ...``, over all devices. Arrays are named
MODEL:STRATEGY:PARTS/LOADER/WHAT. With SPREAD="HOST:PORT PROCESSES INDEX" in the environment it is one
of several.
"""

import os
import sys

import jax
import numpy as np
import optax

from fidle_jax.data import Split, StoredSplit
from fidle_jax.data.augment import Augmentation
from fidle_jax.data.warp import Warp
from fidle_jax.nn import make_model
from fidle_jax.train.config import ResolvedConfig
from fidle_jax.train.parallel import make_mesh
from fidle_jax.train.program import compile_program
from fidle_jax.train.state import init_state
from fidle_jax.train.step import Task
from fidle_jax.train.streaming import stream_program

SHAPE = (12, 12, 1)
AUGMENTATION = {
    "cnn": Augmentation(Warp(shift=2.0, rotation=15.0)),
    "dnn": Augmentation(cutout=0.3),  # takes less time to compile
}
STEPS = 4  # three batches of 30 that are full, and one of 10
STOP = 2


def main(output, *cases):
    """Writes what each of the cases comes to."""
    if "SPREAD" in os.environ:
        coordinator, processes, index = os.environ["SPREAD"].split()
        jax.distributed.initialize(
            coordinator, int(processes), int(index), initialization_timeout=60
        )
    arrays = {}
    for case in cases:
        for what, tree in _outcomes(*case.split(":")).items():
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
                arrays[f"{case}/{what}{jax.tree_util.keystr(path)}"] = np.asarray(leaf)
    np.savez(output, **arrays)


def _outcomes(model, parallel, parts):
    train, validation = _split(100), _split(7)
    how = ResolvedConfig(
        batch_size=30, seed=3, model=model, parallel=parallel, accumulate=int(parts)
    )
    reads = []

    def read_images(rows):
        reads.append(len(rows))
        return train.images[rows]

    stored = (
        StoredSplit(train.labels, None, read_images),
        StoredSplit(validation.labels, None, validation.read_images),
    )
    outcomes = {"memory": _train(compile_program, train, validation, how)}
    outcomes["stream"] = _train(stream_program, *stored, how)
    outcomes["read"] = np.array(sum(reads))
    return outcomes


def _split(examples):
    rng = np.random.default_rng(examples)
    images = rng.integers(0, 256, (examples, *SHAPE), np.uint8)
    return Split(images, rng.integers(0, 10, examples, np.int32))


def _train(make, train, validation, config):
    """The state after two epochs, at once and from the middle of the second again, and validation."""
    dropout = (0.2,) * (3 if config.model == "cnn" else 2)
    model = make_model(config.model, 10, SHAPE, dropout)
    task = Task(model, optax.adam(1e-3), AUGMENTATION[config.model])
    first = jax.device_get(init_state(task.model, SHAPE, task.optimizer, config.seed))
    schedule = optax.constant_schedule(1e-3)
    program = make(task, schedule, make_mesh(None), first, train, validation, config)
    state = program.train(program.place(first), program.order(0), 0, STEPS)
    order = program.order(1)
    half = jax.device_get(program.train(state, order, 0, STOP))
    state = program.train(program.place(half), order, STOP, STEPS)
    loss, accuracy = program.validate(state.variables())
    end = jax.device_get(state)
    again = program.train(program.place(half), program.order(1), STOP, STEPS)
    program.close()
    validated = {"loss": np.array(loss), "accuracy": np.array(accuracy)}
    return {"end": end, "again": jax.device_get(again), **validated}


if __name__ == "__main__":
    main(*sys.argv[1:])
