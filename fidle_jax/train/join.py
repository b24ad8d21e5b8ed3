"""How processes that make one run find each other, and what is said where one of them is lost."""

import contextlib
import errno
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator

import jax

from fidle_jax.errors import InputError
from fidle_jax.train.last_words import speak_for_native_code
from fidle_jax.train.processes import HEARTBEAT_SECONDS, InputErrorOfAll, gather_texts

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

    def explain(written: str) -> str:
        if not hosts:
            return _not_met(coordinator, processes, index, wait_seconds)
        lost = " and ".join(hosts.get(i, f"process {i}") for i in _lost(written))
        what = f"{lost} has ended or is not to be reached; see its own last line, and"
        return f"{what if lost else f'{_fatal(written)};'} go on with: {resume_command()}"

    if coordinator and index == 0:
        _check_port(int(coordinator.rpartition(":")[2]))
    speak_for_native_code(explain, debug)
    try:
        # In a thread, as it waits without looking at signals.
        _in_thread(
            lambda: jax.distributed.initialize(
                coordinator,
                processes,
                index,
                initialization_timeout=max(1, round(wait_seconds)),
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
                shutdown_timeout_seconds=2 * HEARTBEAT_SECONDS,
            )
        )
    except (ValueError, RuntimeError) as error:
        raise InputError(_not_joined(str(error), coordinator)) from error
    _check_devices()
    names = gather_texts(socket.gethostname())
    hosts.update({i: f"process {i} on {name}" for i, name in enumerate(names)})


def _in_thread(call: Callable[[], None]) -> None:
    """Calls it in another thread, and raises here what it raises there."""
    raised = []

    def attempt() -> None:
        try:
            call()
        except Exception as error:
            raised.append(error)

    with _without_proxies():
        thread = threading.Thread(target=attempt, daemon=True)
        thread.start()
        while thread.is_alive():
            time.sleep(0.05)
    if raised:
        raise raised[0]


@contextlib.contextmanager
def _without_proxies() -> Iterator[None]:
    """The processes' connections go straight to each other, where downloads may need a proxy."""
    names = [name for name in os.environ if name.lower().endswith("_proxy")]
    kept = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(kept)


def _not_met(coordinator, processes, index, wait_seconds) -> str:
    waited = f"{wait_seconds:g} s; give a longer --connect-seconds, or"
    if index is None:
        return (
            f"the job's processes did not all meet within {waited} check that each of them started "
            "and that their machines reach each other"
        )
    if index == 0:
        return (
            f"not all of the {processes} processes had appeared at {coordinator} after {waited} "
            "check that each of them started"
        )
    return (
        f"the coordinator {coordinator} was not reached within {waited} check that process 0 runs "
        "there and that its port is open"
    )


def _check_devices() -> None:
    counts = [len(jax.local_devices(i)) for i in range(jax.process_count())]
    if len(set(counts)) > 1:
        raise InputErrorOfAll(
            f"the processes have {', '.join(map(str, counts))} devices; expected as many in each: "
            "start them on machines that are alike"
        )


def _lost(written: str) -> list[int]:
    """The processes that JAX's distributed runtime says are lost."""
    silent = re.search(r"stopped sending heartbeats\):\s*((?:\S*\d+\s)+)", written)
    if silent:
        return [int(name) for name in re.findall(r"(\d+)(?!\S)", silent[1])]
    # Its service lives in the first process: calls fail once that is gone.
    return [0] if "Failed to send RPC to coordination service" in written else []


def _fatal(written: str) -> str:
    """The line in which native code says why it gives up."""
    lines = [line for line in written.splitlines() if line.strip()]
    fatal = [line for line in lines if re.match(r"F\d{4} ", line)]
    return (fatal or lines or ["native code ended the process"])[-1][:300]


def _check_port(port: int) -> None:
    """Raises InputError where another program has it: JAX's service would take the process down."""
    family, host = (socket.AF_INET6, "::") if socket.has_ipv6 else (socket.AF_INET, "")
    try:
        with socket.socket(family) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host, port))
    except OSError as error:
        if error.errno != errno.EADDRINUSE and error.errno != errno.EACCES:
            return  # no IPv6, perhaps; the service will say
        raise InputError(
            f"--coordinator: port {port} cannot be had here ({error.strerror}); take another"
        ) from error


def _not_joined(reason: str, coordinator: str | None) -> str:
    if "should be defined" in reason or "must be defined" in reason:
        return (
            "--distributed: no Slurm, Open MPI or cloud is found that says which processes there are; "
            f"start this command by srun or mpirun, or give {MANUAL}"
        )
    return f"--distributed: the processes could not be joined at {coordinator}: {reason}"
