"""Checkpoints by orbax: atomic, asynchronous, each whole in itself and known to be so.

A checkpoint holds three items: ``state``, from which the run goes on; ``best``, the variables that
did best on validation so far (the last ones where nothing is held out); ``facts``, JSON, with what
is known of them and a digest of every byte, so that damage is seen on restoring.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from fidle_jax.absl_logs import only_errors
from fidle_jax.errors import InputError
from fidle_jax.train.processes import all_or_none, from_first, gather_texts, is_first

KEPT = 3

logger = logging.getLogger("fidle_jax")


class Checkpoints:
    """The checkpoints of one run, in its directory ``checkpoints/``, named by their step."""

    def __init__(self, directory: Path):
        self._directory = directory.absolute()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=KEPT, create=True, cleanup_tmp_directories=True
        )
        self._manager = ocp.CheckpointManager(self._directory, options=options)
        self._last_step = None

    def save(self, step: int, state: PyTree, best: PyTree, facts: dict[str, Any]) -> None:
        """Begins to write a checkpoint and returns; the arrays are copied before it does.

        Where it is there already, from `restore` or an earlier call, nothing is done.

        Raises:
            OSError: this save, or an earlier one that was still under way, failed.
        """
        if step == self._last_step:
            return
        state, best = jax.device_get((state, best))
        facts = facts | {"digest": _digest((state, best))}
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            best=ocp.args.StandardSave(best),
            facts=ocp.args.JsonSave(facts),
        )
        with _as_os_error():
            self._manager.save(step, args=items)
        self._last_step = step

    def restore(self, state: PyTree, best: PyTree) -> tuple[PyTree, PyTree, dict[str, Any]] | None:
        """State, best and facts of the newest whole checkpoint; None where none was ever written.

        ``state`` and ``best`` give the structure. A damaged checkpoint is set aside under another
        name, with a warning, and the one before it taken. Of several processes the first reads, and
        the others have it from there: whether a file is damaged is for one to say.

        Raises:
            InputError: there are checkpoints, and all are damaged.
        """
        # As plain NumPy: the device's memory is the caller's to fill.
        arrays = jax.tree.map(np.asarray, jax.device_get((state, best)))
        step = facts = None
        with all_or_none():
            if is_first() and (found := self._newest_whole(*arrays)):
                *arrays, facts, step = found
        self._last_step, facts = json.loads(gather_texts(json.dumps([step, facts]))[0])
        self._manager.reload()
        if facts is None:
            return None
        return *from_first(tuple(arrays)), facts

    def _newest_whole(self, state: PyTree, best: PyTree):
        with _reader(self._directory) as reader:
            steps = sorted(reader.all_steps(), reverse=True)
            for position, step in enumerate(steps):
                try:
                    restored = _restore_step(reader, step, state, best)
                # What a damaged file makes orbax and tensorstore raise is of many kinds.
                except Exception as error:
                    logger.warning(
                        "checkpoint %s is damaged (%s): taking the one before it",
                        step,
                        _reason(error),
                    )
                else:
                    for damaged in steps[:position]:
                        self._set_aside(damaged)
                    return *restored, step
        if steps:
            raise InputError(
                f"every checkpoint in {self._directory} is damaged; begin again in another --run-dir"
            )
        return None

    def _set_aside(self, step: int) -> None:
        name = self._directory / str(step)
        number = sum(1 for _ in self._directory.glob(f"damaged_{step}_*"))
        os.replace(name, self._directory / f"damaged_{step}_{number}")

    def is_saving(self) -> bool:
        """Whether what was saved last is still being written."""
        return self._manager.is_saving_in_progress()

    def wait(self) -> None:
        """Returns when everything saved is on disk; raises what `save` raises."""
        with _as_os_error():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and lets the background threads go."""
        self._manager.close()


def read_newest(
    directory: Path, state: PyTree, best: PyTree
) -> tuple[PyTree, PyTree, dict[str, Any]] | None:
    """State, best and facts of the newest checkpoint in a directory that is only read; None without one.

    ``state`` and ``best`` give the structure.

    Raises:
        Exception: it is damaged, or of another structure; of whatever kind orbax raises.
    """
    if not directory.is_dir():
        return None
    # Orbax warns three times that a directory that is only read is only read.
    with only_errors(), _reader(directory.absolute()) as reader:
        step = reader.latest_step()
        return None if step is None else _restore_step(reader, step, state, best)


def _reader(directory: Path) -> ocp.CheckpointManager:
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(),
        active_processes={jax.process_index()},
        barrier_sync_key_prefix="restore",
    )
    options = ocp.CheckpointManagerOptions(read_only=True, multiprocessing_options=alone)
    return ocp.CheckpointManager(directory, options=options)


def _restore_step(reader: ocp.CheckpointManager, step: int, state: PyTree, best: PyTree):
    item = reader.restore(
        step,
        args=ocp.args.Composite(
            state=ocp.args.StandardRestore(state),
            best=ocp.args.StandardRestore(best),
            facts=ocp.args.JsonRestore(),
        ),
    )
    facts = dict(item.facts)
    if facts.pop("digest") != _digest((item.state, item.best)):
        raise ValueError("its bytes are not those that were saved")
    return item.state, item.best, facts


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Whatever orbax and tensorstore raise where a file cannot be written, as one kind."""
    try:
        yield
    except jax.errors.JaxRuntimeError:
        raise  # another process is lost
    except Exception as error:
        raise OSError(f"a checkpoint could not be written: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """One line of what may be pages: the system's own words where they are in it."""
    text = " ".join(str(error).split()) or type(error).__name__
    known = re.search(r"No space left on device|Permission denied|Read-only file system", text)
    return known[0] if known else text[:200]


def _digest(tree: PyTree) -> str:
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
