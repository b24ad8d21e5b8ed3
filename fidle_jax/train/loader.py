"""Where a run has its images: all of them on its devices, or on disk, read as steps need them."""

import dataclasses
import math

import optax
from jax.sharding import Mesh

from fidle_jax.data import Dataset, Split, StoredSplit
from fidle_jax.errors import InputError
from fidle_jax.train import processes
from fidle_jax.train.config import ResolvedConfig
from fidle_jax.train.measure import free_memory_bytes
from fidle_jax.train.program import Program, compile_program
from fidle_jax.train.state import TrainState
from fidle_jax.train.step import Task

SHARE = 0.5  # of the free memory that images may take where nobody has asked


def choose_loader(asked: str, dataset: Dataset, mesh: Mesh) -> tuple[bool, str]:
    """Whether to stream the images, the same in all processes; and what to say of it.

    Args:
        asked: "memory", "stream", or "auto": memory where the training images, as uint8, take no more
            than `SHARE` of what is free on each device of every process.
        dataset: it can only be streamed where it can be opened.
        mesh: the devices.

    Raises:
        InputErrorOfAll: what was asked for cannot be had.
    """
    needed = dataset.train_examples * math.prod(dataset.image_shape)
    free = free_memory_bytes(mesh.local_devices)
    with processes.all_or_none():
        if asked == "stream" and dataset.open is None:
            raise InputError(
                f"--loader is stream, but {dataset.name} ({dataset.variant}) is only to be had as a "
                "whole; give --loader memory"
            )
    too_large = processes.decide((), needed > SHARE * free)[1]
    streamed = asked == "stream" or (asked == "auto" and too_large and dataset.open is not None)
    chosen = "stream" if streamed else "memory"
    sizes = f"{needed / 1e6:,.1f} MB of images, {free / 1e6:,.0f} MB of memory free"
    return streamed, f"{chosen} ({sizes})"


def gather_parts(part: Split | StoredSplit) -> Split | StoredSplit:
    """The whole of a split of which each process has a part; of images, no more than it has in memory."""
    groups = None if part.groups is None else processes.gather_rows(part.groups)
    labels = processes.gather_rows(part.labels)
    if isinstance(part, Split):
        return Split(processes.gather_rows(part.images), labels, groups)
    return dataclasses.replace(part, labels=labels, groups=groups)


def make_program(
    task: Task,
    schedule: optax.Schedule,
    mesh: Mesh,
    state: TrainState,
    train: Split | StoredSplit,
    validation: Split | StoredSplit,
    config: ResolvedConfig,
) -> Program:
    """The functions of the run that ``config`` describes, over images in memory or on disk."""
    if isinstance(train, Split) and isinstance(validation, Split):
        return compile_program(task, schedule, mesh, state, train, validation, config)
    if isinstance(train, StoredSplit) and isinstance(validation, StoredSplit):
        from fidle_jax.train.streaming import stream_program  # imports grain

        return stream_program(task, schedule, mesh, state, train, validation, config)
    raise TypeError("train and validation differ in kind; expected both in memory or both on disk")
