"""Several processes that make one run: how they find each other, agree, and tell of a lost one.

Every function but `join` may be called in a run of one process too, where it does nothing. All
processes have to call them in the same order.
"""

import contextlib
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from fidle_jax.errors import InputError
from fidle_jax.train.last_words import speak_for_native_code

# A process that has not been heard of for so long is lost; the others end within twice that time.
HEARTBEAT_SECONDS = 20
SHOWN_SECONDS = 10
MANUAL = "--coordinator HOST:PORT --processes N --process-index I"


def join(
    coordinator: str | None,
    processes: int | None,
    index: int | None,
    *,
    wait_seconds: float,
    resume_command: Callable[[], str],
    debug: bool = False,
) -> None:
    """Makes this process one of those that the run has; the coordinator runs in the first of them.

    Where all three are None, JAX finds them out from Slurm, Open MPI or the cloud. Once joined, the
    loss of another process ends this one, with status 1 and a line that names it.

    Args:
        coordinator: HOST:PORT of the first process, as the others reach it.
        processes: how many there are.
        index: which of them this one is, from 0.
        wait_seconds: for the others to appear.
        resume_command: what a person would type to go on with the run.
        debug: show what native code wrote, too, where it ends the process.

    Raises:
        InputError: nothing is known of the other processes, or the port is taken. Where they do not
            appear in time, the process ends.
    """
    hosts = {}
    waiting = f"{wait_seconds:g} s"

    def explain(written: str) -> str:
        if not hosts and index == 0:
            return (
                f"not all of the {processes} processes had appeared at {coordinator} after {waiting}; "
                "start every one, or give a longer --connect-seconds"
            )
        if not hosts:
            return (
                f"the coordinator {coordinator or 'of this job'} was not reached within {waiting}; "
                "check that process 0 runs there and that its port is open, "
                "or give a longer --connect-seconds"
            )
        lost = [hosts.get(i, f"process {i}") for i in _lost(written)]
        return (
            f"{' and '.join(lost) or 'another process'} has ended or is not to be reached; "
            f"see its own last line, and go on from the last checkpoint with: {resume_command()}"
        )

    if coordinator and index == 0:
        _check_port(int(coordinator.rpartition(":")[2]))
    speak_for_native_code(explain, debug)
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            index,
            initialization_timeout=max(1, round(wait_seconds)),
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=2 * HEARTBEAT_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        raise InputError(_not_joined(str(error), coordinator)) from error
    names = gather_texts(socket.gethostname())
    hosts.update({i: f"process {i} on {name}" for i, name in enumerate(names)})


def _check_port(port: int) -> None:
    """Raises InputError where another program has it: JAX's service would take the process down."""
    with socket.socket(socket.AF_INET6) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("::", port))
        except OSError as error:
            raise InputError(
                f"--coordinator: port {port} cannot be had here ({error.strerror}); take another"
            ) from error


def _lost(written: str) -> list[int]:
    """The processes that JAX's distributed runtime says are lost."""
    silent = re.search(r"stopped sending heartbeats\):\s*((?:\S*\d+\s)+)", written)
    if silent:
        return [int(re.search(r"\d+$", name)[0]) for name in silent[1].split()]
    # Its service lives in the first process: calls fail once that is gone.
    return [0] if "Failed to send RPC to coordination service" in written else []


def _not_joined(reason: str, coordinator: str | None) -> str:
    if "should be defined" in reason or "must be defined" in reason:
        return (
            "--distributed: no Slurm, Open MPI or cloud is found that says which processes there are; "
            f"start this command by srun or mpirun, or give {MANUAL}"
        )
    return f"--distributed: the processes could not be joined at {coordinator}: {reason}"


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
    """Where one process raises InputError within, all do, with its message. No other calls within."""
    try:
        yield
    except InputError as error:
        gather_texts(str(error))
        raise
    if found := _first_problem(gather_texts("")):
        raise InputError(found)


def _first_problem(messages: list[str]) -> str | None:
    return next((f"process {i}: {text}" for i, text in enumerate(messages) if text), None)


def check_same(settings: dict[str, Any]) -> None:
    """Raises InputError, in all processes, where ``settings`` are not the same in all of them."""
    texts = gather_texts(json.dumps({name: str(value) for name, value in settings.items()}))
    first, *others = map(json.loads, texts)
    for index, other in enumerate(others, 1):
        different = [
            f"{name} is {other.get(name)} in process {index} and {first.get(name)} in process 0"
            for name in first | other
            if first.get(name) != other.get(name)
        ]
        if different:
            raise InputError(
                f"the processes disagree: {'; '.join(different)}; "
                "start all of them with the same flags, data and software"
            )


def check_shared(directory: Path) -> None:
    """Raises InputError, in all processes, where one does not see the first's ``directory``."""
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
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def await_verdict() -> None:
    """Gives the runtime the time to say which process was lost; this one then ends with that line."""
    time.sleep(2 * HEARTBEAT_SECONDS)
