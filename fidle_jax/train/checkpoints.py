"""Checkpoints written by Orbax: atomic, asynchronous, and checked for damage.

A checkpoint has three items: ``state``, from which the run continues; ``best``, the variables with the best
validation result (the last ones without validation); ``facts``, JSON with the record of the run, digests of
the arrays, and a checksum of the run, the step and the other facts. They reveal damage when a checkpoint is
restored.
"""

import contextlib
import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, CustomSteps, LatestN

from fidle_jax.errors import InputError
from fidle_jax.train.distributed import broadcast, fail_together, gather_texts, is_first

MAX_TO_KEEP = 3

logger = logging.getLogger("fidle_jax")


class Checkpoints:
    """The checkpoints of one run, in subdirectories of ``directory`` named by their step.

    ``run`` identifies the run. Checkpoints of another run count as damaged. The checkpoint of step ``kept``
    is not deleted.
    """

    def __init__(self, directory: Path, run: str = "", kept: int | None = None):
        self._directory, self._run = directory.absolute(), run
        _check_files(self._directory)
        policy = AnyPreservationPolicy(
            [LatestN(MAX_TO_KEEP), CustomSteps([] if kept is None else [kept])]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy, create=True, cleanup_tmp_directories=True
        )
        self._manager = ocp.CheckpointManager(self._directory, options=options)
        self._last_step = None

    def save(self, step: int, state: PyTree, best: PyTree, facts: dict[str, Any]) -> None:
        """Copy the arrays and start to write a checkpoint, unless that of ``step`` exists.

        Raises:
            OSError: This save failed, or an earlier one that was still in progress.
        """
        if step == self._last_step:
            return
        state, best = jax.device_get((state, best))
        facts = facts | {"digest": digest((state, best)), "best_digest": digest(best)}
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            best=ocp.args.StandardSave(best),
            facts=ocp.args.JsonSave(facts | {"checksum": _checksum(self._run, step, facts)}),
        )
        with _as_os_error():
            self._manager.save(step, args=items)
        self._last_step = step

    def restore(
        self, state: PyTree, best: PyTree, read_facts: Callable[..., Any] = dict
    ) -> tuple[PyTree, PyTree, Any] | None:
        """Return state, best and facts of the newest undamaged checkpoint, or None without any.

        ``state`` and ``best`` are examples, which define the structure. The facts are arguments of
        ``read_facts``, which raises an exception if they are wrong. A damaged checkpoint is renamed, with a
        warning. With several processes, only the first one reads, so that all agree about damage.

        Raises:
            InputError: All checkpoints are damaged.
        """
        # Restore to NumPy arrays. The caller decides what to move to the devices.
        arrays = jax.tree.map(np.asarray, jax.device_get((state, best)))
        step = facts = None
        with fail_together():
            if is_first() and (found := self._newest_undamaged(*arrays, read_facts=read_facts)):
                *arrays, facts, step = found
        self._last_step, facts = json.loads(gather_texts(json.dumps([step, facts]))[0])
        self._manager.reload()
        if facts is None:
            return None
        return *broadcast(tuple(arrays)), read_facts(**facts)

    def _newest_undamaged(self, state: PyTree, best: PyTree, read_facts: Callable[..., Any]):
        with _open_reader(self._directory) as reader:
            steps = sorted(reader.all_steps(), reverse=True)
            for position, step in enumerate(steps):
                try:
                    restored = _restore_step(reader, step, state, best, self._run)
                    read_facts(**restored[2])
                except Exception as error:  # Orbax and tensorstore raise many types for damage
                    logger.warning(
                        "checkpoint %s is damaged (%s); using the previous one",
                        step,
                        _reason(error),
                    )
                else:
                    for damaged in steps[:position]:
                        number = sum(1 for _ in self._directory.glob(f"damaged_{damaged}_*"))
                        path = self._directory / str(damaged)
                        path.rename(self._directory / f"damaged_{damaged}_{number}")
                    return *restored, step
        if steps:
            raise InputError(
                f"all checkpoints in {self._directory} are damaged; start again in another --run-dir"
            )
        return None

    def is_saving(self) -> bool:
        """Return whether a checkpoint is still being written."""
        return self._manager.is_saving_in_progress()

    def wait(self) -> None:
        """Wait until everything is on disk. Raise what `save` raises."""
        with _as_os_error():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait, and stop the background threads."""
        self._manager.close()


def read_step(
    directory: Path, step: int, state: PyTree, best: PyTree, run: str = ""
) -> tuple[PyTree, PyTree, dict[str, Any]] | None:
    """Return state, best and facts of the checkpoint of ``step``, or None without it. Write nothing.

    If ``state`` is None, the state is not read.

    Raises:
        Exception: The checkpoint is damaged or has another structure than ``state`` and ``best``.
    """
    if not directory.is_dir():
        return None
    _check_files(directory)
    absl = logging.getLogger("absl")
    level = absl.level
    try:
        # Orbax warns three times that a read-only directory is read-only.
        absl.setLevel(logging.ERROR)
        with _open_reader(directory.absolute()) as reader:
            found = step in reader.all_steps()
            return _restore_step(reader, step, state, best, run) if found else None
    finally:
        absl.setLevel(level)


def _check_files(directory: Path) -> None:
    """Raise InputError if ``directory`` contains pipes or devices, which may block Orbax forever."""
    for path in directory.rglob("*"):
        if path.exists() and not path.is_file() and not path.is_dir():
            raise InputError(f"{path} is not a regular file; delete it")


def _open_reader(directory: Path) -> ocp.CheckpointManager:
    this_process_only = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(),
        active_processes={jax.process_index()},
        barrier_sync_key_prefix="restore",
    )
    options = ocp.CheckpointManagerOptions(
        read_only=True, multiprocessing_options=this_process_only
    )
    return ocp.CheckpointManager(directory, options=options)


def _restore_step(reader: ocp.CheckpointManager, step: int, state: PyTree, best: PyTree, run: str):
    items = {"best": ocp.args.StandardRestore(best), "facts": ocp.args.JsonRestore()}
    if state is not None:
        items["state"] = ocp.args.StandardRestore(state)
    item = reader.restore(step, args=ocp.args.Composite(**items))
    restored = item.get("state"), item.best
    facts = dict(item.facts)
    if facts.pop("checksum") != _checksum(run, step, facts):
        raise ValueError("its checksum does not match, or it belongs to another run")
    # Checkpoints of older versions have no best_digest.
    digests = facts.pop("digest"), facts.pop("best_digest", None)
    known, content = (digests[1], item.best) if state is None else (digests[0], restored)
    if known not in (None, digest(content)):
        raise ValueError("its digest does not match")
    if jax.tree.map(np.shape, restored) != jax.tree.map(np.shape, (state, best)):
        raise ValueError("its arrays have other shapes than those of the network")
    return *restored, facts


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Convert the errors of Orbax and tensorstore to OSError."""
    try:
        yield
    except jax.errors.JaxRuntimeError:
        raise  # another process is lost
    except Exception as error:
        raise OSError(f"cannot write a checkpoint: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return one line: the message of the system, if it is part of a long one."""
    text = " ".join(str(error).split()) or type(error).__name__
    known = re.search(r"No space left on device|Permission denied|Read-only file system", text)
    return known[0] if known else text[:200]


def _checksum(run: str, step: int, facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps([run, step, facts], sort_keys=True).encode()).hexdigest()


def digest(tree: PyTree) -> str:
    """Return the SHA-256 digest of the arrays of ``tree`` with their paths."""
    sha256 = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        sha256.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape} ".encode())
        sha256.update(array.tobytes())
    return sha256.hexdigest()
