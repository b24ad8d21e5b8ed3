"""What the processes that make one run tell each other, once they have joined.

Every function may be called in a run of one process too, where it does nothing. All processes have to
call them in the same order.
"""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from fidle_jax.errors import InputError

# A process that has not been heard of for so long is lost; the others end within twice that time.
HEARTBEAT_SECONDS = 20
SHOWN_SECONDS = 10


class InputErrorOfAll(InputError):
    """One that every process has raised: they can end in an orderly way."""


def is_first() -> bool:
    """Whether this is the process that writes."""
    return jax.process_index() == 0


def gather_texts(text: str) -> list[str]:
    """What each process gave, by its index."""
    if jax.process_count() == 1:
        return [text]
    data = np.frombuffer(text.encode(), np.uint8)
    longest = int(multihost_utils.process_allgather(np.int32(len(data))).max())
    rows = multihost_utils.process_allgather(np.pad(data, (0, longest - len(data))))
    return [row.tobytes().rstrip(b"\0").decode() for row in rows]


def gather_rows(rows: np.ndarray) -> np.ndarray:
    """The rows of all processes, one after the other; each has as many, but for the last ones."""
    if jax.process_count() == 1:
        return rows
    counts = multihost_utils.process_allgather(np.int32(len(rows)))
    padded = np.pad(rows, [(0, counts.max() - len(rows)), *[(0, 0)] * (rows.ndim - 1)])
    shares = multihost_utils.process_allgather(padded)
    return np.concatenate([share[:count] for share, count in zip(shares, counts, strict=True)])


def from_first(tree: PyTree) -> PyTree:
    """The first process's arrays, on the host, in all of them."""
    if jax.process_count() == 1:
        return tree
    return multihost_utils.broadcast_one_to_all(jax.device_get(tree))


def decide(first_says: tuple[int, ...], anyone: bool) -> tuple[tuple[int, ...], bool]:
    """Numbers that the first process settles, and what is so as soon as one process says it."""
    if jax.process_count() == 1:
        return first_says, anyone
    rows = multihost_utils.process_allgather(np.array([*first_says, anyone], np.int32))
    return tuple(int(number) for number in rows[0, :-1]), bool(rows[:, -1].any())


def wait_for_all(what: str) -> None:
    """Returns when every process is there."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


@contextlib.contextmanager
def all_or_none() -> Iterator[None]:
    """Where one process raises InputError within, all raise InputErrorOfAll, with its message.

    No other function of this module may be called within.
    """
    try:
        yield
    except InputError as error:
        gather_texts(str(error))
        raise InputErrorOfAll(str(error)) from error
    if found := _first_problem(gather_texts("")):
        raise InputErrorOfAll(found)


def _first_problem(messages: list[str]) -> str | None:
    return next((f"process {i}: {text}" for i, text in enumerate(messages) if text), None)


def check_same(settings: dict[str, Any]) -> None:
    """Raises InputErrorOfAll where ``settings`` are not the same in all processes."""
    texts = gather_texts(json.dumps({name: str(value) for name, value in settings.items()}))
    first, *others = map(json.loads, texts)
    for index, other in enumerate(others, 1):
        different = [
            f"{name} is {other.get(name)} in process {index} and {first.get(name)} in process 0"
            for name in first | other
            if first.get(name) != other.get(name)
        ]
        if different:
            raise InputErrorOfAll(
                f"the processes disagree: {'; '.join(different)}; "
                "start all of them with the same flags, data and software"
            )


def check_shared(directory: Path) -> None:
    """Raises InputErrorOfAll where a process does not see the first's ``directory``."""
    if jax.process_count() == 1:
        return
    number = int(from_first(np.int32(time.time_ns() % 2**31)))
    sign = directory / f".shared.{number}.part"
    if is_first():
        sign.touch()
    wait_for_all("a sign is set")
    try:
        with all_or_none():
            if not _appears(sign):
                raise InputError(
                    f"the run directory {directory} is not there on {socket.gethostname()}, or another "
                    "one; give a --run-dir on a disk that all processes share"
                )
    finally:
        if is_first():
            sign.unlink()


def _appears(path: Path) -> bool:
    """Whether there is such a file; network file systems take seconds to show a new one."""
    deadline = time.monotonic() + SHOWN_SECONDS
    # Listed, as such a file system remembers for a while that a name was not there.
    while not path.parent.is_dir() or path.name not in os.listdir(path.parent):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def await_verdict() -> None:
    """Gives the runtime the time to say which process was lost; this one then ends with that line."""
    time.sleep(2 * HEARTBEAT_SECONDS)
