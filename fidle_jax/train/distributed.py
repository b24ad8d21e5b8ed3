"""Several processes in one run: joining, communication, and the loss of a process.

The functions other than `join` and `install_abort_handler` do nothing in a run with one process.
All processes must call them in the same order.
"""

import contextlib
import ctypes
import errno
import json
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree, Shaped

from fidle_jax.errors import InputError

# A process without a heartbeat for this long is lost. The others exit within twice this time.
HEARTBEAT_SECONDS = 20
DIRECTORY_SECONDS = 10  # a network file system may show a new file this late
ABORT_STATUS = 1
ABORT_LOG_BYTES = 2**20

# C keeps no reference to a signal handler, so Python must.
_kept_alive = []


class SharedInputError(InputError):
    """An input error that every process raises, so that all processes exit cleanly."""


def is_first() -> bool:
    """Return whether this process has index 0 and therefore writes the files."""
    return jax.process_index() == 0


def gather(array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "process ..."]:
    """Return the arrays of all processes, stacked by process index."""
    if jax.process_count() == 1:
        return array[None]
    return multihost_utils.process_allgather(array)


def gather_texts(text: str) -> list[str]:
    """Return the texts of all processes, by process index."""
    data = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    longest = int(gather(np.array(len(data), np.int32)).max())
    rows = gather(np.pad(data, (0, longest - len(data))))
    return [row.tobytes().rstrip(b"\0").decode("utf-8", "surrogatepass") for row in rows]


def any_process(flag: bool) -> bool:
    """Return whether ``flag`` is true in at least one process."""
    return bool(gather(np.array(flag, np.int32)).any())


def broadcast(tree: PyTree) -> PyTree:
    """Return the arrays of the first process, on the host, in all processes."""
    if jax.process_count() == 1:
        return tree
    return multihost_utils.broadcast_one_to_all(jax.device_get(tree))


def barrier(name: str) -> None:
    """Wait until every process has reached this call."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def fail_together() -> Iterator[None]:
    """Raise SharedInputError in all processes if the block raises InputError in one of them.

    The block must not call another function of this module.
    """
    try:
        yield
    except InputError as error:
        gather_texts(str(error))
        raise SharedInputError(str(error)) from error
    for index, text in enumerate(gather_texts("")):
        if text:
            raise SharedInputError(f"process {index}: {text}")


def check_same(settings: dict[str, Any]) -> None:
    """Raise SharedInputError if ``settings`` differ between the processes."""
    texts = gather_texts(json.dumps({name: str(value) for name, value in settings.items()}))
    first, *others = map(json.loads, texts)
    for index, other in enumerate(others, 1):
        different = [
            f"{name} is {other.get(name)} in process {index} and {first.get(name)} in process 0"
            for name in first | other
            if first.get(name) != other.get(name)
        ]
        if different:
            raise SharedInputError(
                f"the processes disagree: {'; '.join(different)}; "
                "start all of them with the same flags, data and software"
            )


def check_shared(directory: Path) -> None:
    """Raise SharedInputError unless all processes see the first one's ``directory``."""
    if jax.process_count() == 1:
        return
    marker = directory / f".shared.{int(broadcast(np.int32(time.time_ns() % 2**31)))}.part"
    if is_first():
        marker.touch()
    barrier("marker written")
    try:
        with fail_together():
            if not _appears(marker):
                raise InputError(
                    f"the run directory {directory} on {socket.gethostname()} is not the one of "
                    "process 0; give a --run-dir on a disk that all processes share"
                )
    finally:
        if is_first():
            marker.unlink()


def _appears(path: Path) -> bool:
    deadline = time.monotonic() + DIRECTORY_SECONDS
    # List the directory, because network file systems cache that a name does not exist.
    while not path.parent.is_dir() or path.name not in os.listdir(path.parent):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def wait_for_abort() -> None:
    """Wait until the runtime reports the lost process and aborts this one."""
    time.sleep(2 * HEARTBEAT_SECONDS)


def join(
    coordinator: str | None,
    processes: int | None,
    index: int | None,
    *,
    wait_seconds: float,
    resume_command: Callable[[], str],
    debug: bool = False,
) -> None:
    """Join the other processes of the run.

    If the first three arguments are None, JAX takes them from Slurm, Open MPI or the cloud. After
    joining, the loss of another process ends this one with status 1 and a line that names it. If the
    others don't appear in time, the process ends in the same way.

    Args:
        coordinator: HOST:PORT of the first process.
        processes: Number of processes.
        index: Index of this process.
        wait_seconds: Time to wait for the other processes.
        resume_command: Returns the command that resumes the run.
        debug: Also show the log of native code if it aborts.

    Raises:
        InputError: The other processes are unknown, or the port is in use.
    """
    hosts = {}

    def explain(log: str) -> str:
        if not hosts:
            return _explain_timeout(coordinator, processes, index, wait_seconds)
        lost = [hosts.get(i, f"process {i}") for i in find_lost(log)]
        what = f"{' and '.join(lost)} has ended or is unreachable; see its last line"
        return f"{what if lost else find_fatal(log)}; to resume: {resume_command()}"

    if coordinator and index == 0:
        _check_port(int(coordinator.rpartition(":")[2]))
    install_abort_handler(explain, debug)
    try:
        # The call ignores signals while it waits, so run it in another thread.
        _call_in_thread(
            jax.distributed.initialize,
            coordinator,
            processes,
            index,
            initialization_timeout=max(1, round(wait_seconds)),
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=2 * HEARTBEAT_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        if re.search("(should|must) be defined", str(error)):
            raise InputError(
                "--distributed: this process was not started by Slurm, Open MPI or a supported cloud; "
                "start the command with srun or mpirun, or give "
                "--coordinator HOST:PORT --processes N --process-index I"
            ) from error
        raise InputError(
            f"--distributed: cannot connect to the coordinator {coordinator} ({error}); "
            "check --coordinator, and that process 0 is running"
        ) from error
    counts = [len(jax.local_devices(i)) for i in range(jax.process_count())]
    if len(set(counts)) > 1:
        raise SharedInputError(
            f"the processes have {', '.join(map(str, counts))} devices; expected the same number in "
            "each; use machines of the same kind"
        )
    names = gather_texts(socket.gethostname())
    hosts.update({i: f"process {i} on {name}" for i, name in enumerate(names)})


def _call_in_thread(function: Callable[..., None], *arguments: Any, **options: Any) -> None:
    """Call ``function`` in a daemon thread without proxies. Re-raise its exception here."""
    ended: Future[None] = Future()

    def call() -> None:
        try:
            ended.set_result(function(*arguments, **options))
        except Exception as error:
            ended.set_exception(error)

    # Downloads may need a proxy, but the processes connect directly.
    proxies = {n: os.environ.pop(n) for n in list(os.environ) if n.lower().endswith("_proxy")}
    try:
        threading.Thread(target=call, daemon=True).start()
        ended.result()
    finally:
        os.environ.update(proxies)


def _explain_timeout(coordinator, processes, index, wait_seconds) -> str:
    advice = f"within {wait_seconds:g} s; increase --connect-seconds, or check that"
    if index is None:
        return f"the processes did not all join {advice} each started and can reach the others"
    if index == 0:
        return f"not all {processes} processes joined at {coordinator} {advice} each started"
    return f"the coordinator {coordinator} was not reached {advice} process 0 runs there"


def find_lost(log: str) -> list[int]:
    """Return the indices of the processes that JAX's distributed runtime reports as lost."""
    silent = re.search(r"stopped sending heartbeats\):\s*((?:\S*\d+\s)+)", log)
    if silent:
        return [int(name) for name in re.findall(r"(\d+)(?!\S)", silent[1])]
    # The coordination service runs in the first process, so calls fail if that one is lost.
    return [0] if "Failed to send RPC to coordination service" in log else []


def find_fatal(log: str) -> str:
    """Return the line in which native code reports why it aborts."""
    lines = [line for line in log.splitlines() if line.strip()]
    fatal = [line for line in lines if re.match(r"F\d{4} ", line)]
    return (fatal or lines or ["native code ended the process"])[-1][:300]


def _check_port(port: int) -> None:
    """Raise InputError if the port is in use. JAX's service would abort the process instead."""
    family, host = (socket.AF_INET6, "::") if socket.has_ipv6 else (socket.AF_INET, "")
    try:
        with socket.socket(family) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host, port))
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise InputError(
                f"--coordinator: port {port} is not available ({error.strerror}); choose another"
            ) from error


def install_abort_handler(explain: Callable[[str], str], debug: bool = False) -> None:
    """Turn an abort of native code into one line on stderr and exit status 1.

    JAX's distributed runtime raises no exception if a process is lost. Its C++ code logs about twenty
    lines and aborts, in any thread. This function redirects the output of native code to a temporary
    file. Python's own output is not affected. ``explain`` maps the log of native code to the line to
    print. With ``debug``, the log is printed too.
    """
    file = tempfile.TemporaryFile()  # noqa: SIM115  # closed when the process ends
    sys.stdout = _redirect("stdout", 1, file)
    sys.stderr = _redirect("stderr", 2, file)

    @ctypes.CFUNCTYPE(None, ctypes.c_int)
    def on_abort(number: int) -> None:
        # The process must exit with this status even if something raises here.
        with contextlib.suppress(BaseException):
            start = max(0, os.fstat(file.fileno()).st_size - ABORT_LOG_BYTES)
            log = os.pread(file.fileno(), ABORT_LOG_BYTES, start).decode(errors="replace")
            if debug:
                print(log, file=sys.stderr)
            print(f"error: {' '.join(explain(log).split())}", file=sys.stderr, flush=True)
        os._exit(ABORT_STATUS)

    _kept_alive.extend((file, on_abort))
    # Python runs its signal handlers in the main thread, which an abort does not wait for.
    ctypes.CDLL(None).signal(signal.SIGABRT, on_abort)


def _redirect(name: str, descriptor: int, file) -> Any:
    """Redirect ``descriptor`` to ``file``. Return Python's stream on the original target."""
    stream = getattr(sys, name)
    stream.flush()
    copy = os.dup(descriptor)
    os.dup2(file.fileno(), descriptor)
    return os.fdopen(copy, "w", buffering=1, encoding=stream.encoding, errors=stream.errors)
