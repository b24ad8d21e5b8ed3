"""Serve a page that classifies drawn digits or photographs with the network of a finished run."""

import dataclasses
import errno
import ipaddress
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Annotated

import tyro

from fidle_jax.cli.parse import parse_flags
from fidle_jax.cli.terminal import command_text, exit_with, start
from fidle_jax.errors import InputError, Range
from fidle_jax.train.signals import Stop

SHUTDOWN_SECONDS = 1  # for requests in progress
MAX_CONNECTIONS = 1000


@dataclasses.dataclass(frozen=True)
class Flags:
    """Run, and the address of the page."""

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Directory of a finished run."""
    host: str = "127.0.0.1"
    """Name or address at which the page is served. 0.0.0.0: all addresses of this machine."""
    public: bool = False
    """Allow other machines to connect, for example a phone, if they reach --host."""
    port: Annotated[int, Range(0, 2**16 - 1)] = 8000
    """Port of the page; 0 selects a free one."""
    open: bool = False
    """Open the page in the browser."""
    debug: bool = False
    """Show the traceback of an error."""


def main(argv: list[str] | None = None) -> None:
    """Serve the page until a signal arrives, and exit."""
    exit_with(lambda stop: _demo(argv, stop), "the server has stopped")


def _demo(argv: list[str] | None, stop: Stop) -> None:
    flags = parse_flags(__doc__ or "", Flags, argv)
    # Preprocessing solves small linear systems, which are much slower with more threads than free cores.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    served = _resolve(flags.host, flags.public)
    with _listen(served, flags.port) as listening:
        start(stop, "uvicorn", "fidle_jax.inference.demo")
        import uvicorn

        from fidle_jax.inference.demo import HeaderTimeout, make_app
        from fidle_jax.inference.load import load

        app = make_app(load(flags.run_dir), command_text("demo", argv), flags.host, served)
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(served, served)
        host = f"[{host}]" if ":" in host else host
        address = f"http://{host}:{listening.getsockname()[1]}/"
        reach = f"; it listens on {served}, so other machines can connect" if flags.public else ""
        print(f"page: {address} (Ctrl-C stops the server){reach}")
        if flags.open:
            # In a thread, because some browsers return only when they are closed.
            threading.Thread(target=_open, args=(address,), daemon=True).start()
        config = uvicorn.Config(
            app,
            http=HeaderTimeout,
            lifespan="off",
            ws="none",
            # It also logs tracebacks of uploads that the shutdown aborts.
            log_level="error" if flags.debug else "critical",
            access_log=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        # It handles signals itself, and raises them again after the shutdown.
        uvicorn.Server(config).run(sockets=[listening])


def _resolve(host: str, public: bool) -> str:
    """Return the address of ``host``. Raise InputError if other machines reach it without ``public``."""
    wrong = f"--host {host.strip() or repr(host)} is not an address of this machine"
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM) if host.strip() else []
    except (OSError, UnicodeError):
        found = []
    if not found:
        raise InputError(f"{wrong}; give one of its addresses, or 127.0.0.1")
    # "localhost" is an IPv6 and an IPv4 address. The second one always works.
    address = str(min(found, key=lambda each: each[0] != socket.AF_INET)[4][0])
    is_local = ipaddress.ip_address(address.partition("%")[0]).is_loopback
    if public and is_local:
        raise InputError(f"--public has no effect with --host {host}; give --host 0.0.0.0 too")
    if not public and not is_local:
        named = host if host == address else f"{host} ({address})"
        raise InputError(
            f"--host is {named}, which other machines may reach; add --public to allow it, or omit --host"
        )
    return address


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        message = (
            f"--host {host} is not an address of this machine ({error.strerror}); give one of its "
            "addresses, 127.0.0.1, or 0.0.0.0 for all of them"
        )
        if error.errno == errno.EADDRINUSE:
            message = f"port {port} of {host} is in use; give another: --port {port % 65535 + 1}"
        if error.errno == errno.EACCES:
            message = f"port {port} requires root privileges; use one of at least 1024, such as --port 8000"
        raise InputError(message) from error


def _open(address: str) -> None:
    import webbrowser

    if not webbrowser.open(address):
        print(f"warning: no browser was found; open {address} yourself", file=sys.stderr)
