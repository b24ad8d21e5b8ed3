"""A page to draw digits on, or to show traffic signs, with what a finished run's network says to them."""

import dataclasses
import errno
import os
import shlex
import socket
import sys
import threading
from pathlib import Path
from typing import Annotated

import tyro

from fidle_jax.cli.terminal import enable_compilation_cache, exit_with, parse_flags, set_up_output
from fidle_jax.errors import InputError
from fidle_jax.train.signals import Stop

GRACE_SECONDS = 1  # for answers under way when the server ends
MOST_CONNECTIONS = 64


@dataclasses.dataclass(frozen=True)
class Flags:
    """Whose network, and where the page is served."""

    run_dir: Annotated[Path, tyro.conf.Positional]
    """The finished run's directory."""
    host: str = "127.0.0.1"
    """Address to serve at; 127.0.0.1: this machine alone, 0.0.0.0: all that can reach it, as a telephone."""
    port: int = 8000
    """Port to serve at; 0: one that is free."""
    open: bool = False
    """Open the page in the browser."""
    debug: bool = False
    """Show the traceback of an error."""


def main(stop: Stop) -> int:
    """Serves the page until a signal ends it."""
    flags = parse_flags(__doc__, Flags(tyro.MISSING))
    set_up_output()
    # An image's preparation solves small systems, which more threads than free cores make ten times slower.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with _listen(flags.host, flags.port) as listening:
        with stop.defer():
            from fidle_jax.inference.app import make_app
            from fidle_jax.inference.load import load

            enable_compilation_cache()
        stop.check()
        command = f"python experiments/demo.py {shlex.join(sys.argv[1:])}"
        app = make_app(load(flags.run_dir), command, flags.host)
        address = _address(flags.host, listening.getsockname()[1])
        print(f"the page: {address} (Ctrl-C ends it)")
        if flags.open:
            _open(address)
        _serve(app, listening, flags.debug)
    return 0


def _serve(app, listening: socket.socket, debug: bool) -> None:
    import uvicorn

    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        # It logs tracebacks, of uploads that its end cuts off, too.
        log_level="error" if debug else "critical",
        access_log=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    # It catches signals itself, and sends them on once it has ended.
    uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port < 2**16:
        raise InputError(f"--port is {port}; expected 0 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InputError(
                f"port {port} of {host} is in use; end what serves there, or give another: "
                f"--port {port % 65535 + 1}"
            ) from error
        if error.errno == errno.EACCES:
            raise InputError(
                f"port {port} needs more rights; give one from 1024 on: --port 8000"
            ) from error
        raise InputError(
            f"--host {host} is no address of this machine ({error.strerror}); "
            "expected one, as 127.0.0.1, or 0.0.0.0 for all"
        ) from error


def _address(host: str, port: int) -> str:
    """What a browser on this machine is to open."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}/"


def _open(address: str) -> None:
    """In a thread: some browsers come back only when they are closed."""

    def open_page() -> None:
        import webbrowser

        if not webbrowser.open(address):
            print(f"warning: no browser was found; open {address} yourself", file=sys.stderr)

    threading.Thread(target=open_page, daemon=True).start()


if __name__ == "__main__":
    exit_with(main, "the page is no longer served")
