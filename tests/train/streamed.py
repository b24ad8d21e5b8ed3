"""Train a few steps with images in memory and streamed, for `test_compiled_steps`.

A case is MODEL:STRATEGY:MICRO_BATCHES. Arrays are named LOADER/NAME within a case.
"""

import jax
import numpy as np
import optax

from fidle_jax.data import Split, StoredSplit
from fidle_jax.data.augment import Augmentation
from fidle_jax.nn import make_model
from fidle_jax.train.compiled_steps import compile_steps
from fidle_jax.train.config import ResolvedConfig
from fidle_jax.train.parallel import make_mesh
from fidle_jax.train.step import Task, init_state
from tests.train.scripts import write_outcomes

SHAPE = (12, 12, 1)
AUGMENTATION = {
    "cnn": Augmentation(shift=2.0, rotation=15.0),
    "dnn": Augmentation(cutout=0.3),  # compiles faster
}
STEPS = 4  # three full batches of 30 and one of 10
STOP = 2


def _outcomes(model, parallel, micro_batches):
    train, validation = _split(100), _split(7)
    how = ResolvedConfig().replace(
        batch_size=30, seed=3, model=model, parallel=parallel, accumulate=int(micro_batches)
    )
    reads = []

    def read_images(rows):
        reads.append(len(rows))
        return train.images[rows]

    stored = (
        StoredSplit(train.labels, None, read_images),
        StoredSplit(validation.labels, None, validation.read_images),
    )
    outcomes = {"memory": _train(train, validation, how)}
    outcomes["stream"] = _train(*stored, how)
    outcomes["read"] = np.array(sum(reads))
    return outcomes


def _split(examples):
    rng = np.random.default_rng(examples)
    images = rng.integers(0, 256, (examples, *SHAPE), np.uint8)
    return Split(images, rng.integers(0, 10, examples, np.int32))


def _train(train, validation, config):
    """Return the state after two epochs, the same after resuming within the second, and validation."""
    dropout = (0.2,) * (3 if config.model.name == "cnn" else 2)
    model = make_model(config.model.name, 10, SHAPE, dropout)
    task = Task(model, optax.adam(1e-3), AUGMENTATION[config.model.name])
    first = jax.device_get(init_state(task.model, SHAPE, task.optimizer, config.optimisation.seed))
    schedule = optax.constant_schedule(1e-3)
    compiled = compile_steps(task, schedule, make_mesh(None), first, train, validation, config)
    state = compiled.train(compiled.replicate(first), compiled.batches(0, 0), 0, STEPS)
    batches = compiled.batches(1, 0)
    half = jax.device_get(compiled.train(state, batches, 0, STOP))
    state = compiled.train(compiled.replicate(half), batches, STOP, STEPS)
    loss, accuracy, _ = compiled.validate(state.variables())
    end = jax.device_get(state)
    again = compiled.train(compiled.replicate(half), compiled.batches(1, STOP), STOP, STEPS)
    compiled.close()
    validated = {"loss": np.array(loss), "accuracy": np.array(accuracy)}
    return {"end": end, "again": jax.device_get(again), **validated}


if __name__ == "__main__":
    write_outcomes(_outcomes)
