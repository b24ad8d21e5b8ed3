"""The compiled program does what the plain functions do."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from fidle_jax.data import Split
from fidle_jax.data.batches import epoch_order
from fidle_jax.nn import DNN
from fidle_jax.train.config import ResolvedConfig
from fidle_jax.train.evaluation import evaluate
from fidle_jax.train.parallel import make_mesh
from fidle_jax.train.program import compile_program
from fidle_jax.train.state import init_state
from fidle_jax.train.step import Task, train_chunk

SHAPE = (12, 12, 1)
TASK = Task(DNN(classes=3), optax.sgd(0.1))
CONFIG = ResolvedConfig(batch_size=4, seed=3)


def make_split(examples):
    rng = np.random.default_rng(examples)
    images = rng.integers(0, 256, (examples, *SHAPE), dtype=np.uint8)
    return Split(images, rng.integers(0, 3, examples, dtype=np.int32))


def _arrays(split):
    return split.images, split.labels


def make(validation):
    state = init_state(TASK.model, SHAPE, TASK.optimizer, CONFIG.seed)
    schedule = optax.constant_schedule(0.1)
    program = compile_program(
        TASK, schedule, make_mesh(1), state, make_split(10), validation, CONFIG
    )
    return state, program


def test_it_shuffles_by_seed_and_epoch_and_trains_as_the_chunk_written_out():
    state, program = make(make_split(0))
    order = program.order(2)
    chex.assert_trees_all_equal(order, epoch_order(3, 2, 10, 4))
    train = make_split(10)
    copy = jax.tree.map(jnp.copy, state)
    expected = train_chunk(TASK, state, *map(jnp.asarray, _arrays(train)), order, 0, 3)
    chex.assert_trees_all_close(program.train(copy, order, 0, 3), expected, rtol=1e-4, atol=1e-5)
    assert program.learning_rate(7) == 0.1


def test_it_validates_over_every_example_and_not_at_all_where_there_are_none():
    state, program = make(make_split(7))
    held_out = make_split(7)
    loss, right = evaluate(TASK.model, state.variables(), *map(jnp.asarray, _arrays(held_out)))
    found = program.validate(state.variables())
    np.testing.assert_allclose(found, (loss, right / 7), rtol=1e-5)
    assert make(make_split(0))[1].validate is None
