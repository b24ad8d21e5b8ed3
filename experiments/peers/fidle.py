"""This project: the compiled chunk of steps of its own runs."""

import dataclasses
import time

import jax
import jax.numpy as jnp

import fidle_jax
from fidle_jax.data import Split
from fidle_jax.data.batches import padded_order
from fidle_jax.nn import MODELS
from fidle_jax.train.compiled_steps import compile_steps
from fidle_jax.train.config import Config, resolve
from fidle_jax.train.optimizer import make_optimizer, make_schedule
from fidle_jax.train.parallel import make_mesh
from fidle_jax.train.state import init_state
from fidle_jax.train.step import Task, train_chunk
from peers.case import LEARNING_RATE, Case, Trainer, made_up_images


def prepare(case: Case, parallel: str = "jit") -> Trainer:
    """The network in a compiled `fori_loop`, as a run has it, on all devices."""
    task, config, images, state = _begin(case)
    config = dataclasses.replace(config, parallel=parallel)
    nothing = Split(images.images[:0], images.labels[:0])
    schedule = make_schedule(config, len(images.labels) // case.batch_size)
    program = compile_steps(task, schedule, make_mesh(None), state, images, nothing, config)
    return _trainer(program.train, program.replicate(state), program.order(0))


def prepare_pmap(case: Case) -> Trainer:
    """The same by pmap."""
    return prepare(case, "pmap")


def prepare_plain(case: Case) -> Trainer:
    """The same without any machinery for several devices."""
    task, _, images, state = _begin(case)
    order = padded_order(jnp.arange(len(images.labels)), case.batch_size)
    data = jax.device_put((images.images, images.labels))
    chunk = jax.jit(lambda *args: train_chunk(task, *args), donate_argnums=0)
    chunk = chunk.lower(state, *data, order, 0, 1).compile()
    return _trainer(lambda state, *args: chunk(state, *data, *args), state, order)


def _trainer(chunk, state, order):
    def train(steps):
        nonlocal state
        for start in range(0, steps, len(order)):
            state = chunk(state, order, 0, min(steps - start, len(order)))
        totals = jax.block_until_ready(state).totals
        return float(totals.loss / totals.examples)

    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    return Trainer(train, parameters, "", f"{fidle_jax.__version__}, jax {jax.__version__}")


def compile_seconds(case: Case, method: str) -> float:
    """Seconds to trace and compile a chunk of steps, its convolutions by ``method``."""
    task, _, images, state = _begin(case, method)
    order = padded_order(jnp.arange(len(images.labels)), case.batch_size)
    jax.config.update("jax_enable_compilation_cache", False)
    jax.clear_caches()
    began = time.perf_counter()
    chunk = jax.jit(lambda *args: train_chunk(task, *args), donate_argnums=0)
    chunk.lower(state, images.images, images.labels, order, 0, 1).compile()
    return time.perf_counter() - began


def _begin(case: Case, method: str = "auto"):
    config = Config(recipe="course", batch_size=case.batch_size, learning_rate=LEARNING_RATE)
    config = resolve(config, "full")
    model = MODELS[case.model].clone(classes=case.classes, dropout=case.dropout, method=method)
    optimizer = make_optimizer(config, make_schedule(config, 1))
    state = init_state(model, case.image_shape, optimizer, config.seed)
    return Task(model, optimizer), config, Split(*made_up_images(case)), state
