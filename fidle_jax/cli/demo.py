"""Write a page that runs the network of a finished run in the browser, on drawings or images.

The page is one file, RUN/demo.html, which needs no server and no internet connection. If it would be larger
than 20 MB, it is served from this machine until Ctrl-C.
"""

import dataclasses
import errno
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated

import tyro

from fidle_jax.cli.parse import parse_flags
from fidle_jax.cli.terminal import exit_with, start
from fidle_jax.errors import InputError, Range
from fidle_jax.files import as_input_error, write_atomically
from fidle_jax.train.run_content import read_evaluation
from fidle_jax.train.signals import Stop

MAX_FILE = 20e6  # bytes of a page that a browser opens without delay
HOST = "127.0.0.1"
IDLE_SECONDS = 30  # after which an idle connection is closed


@dataclasses.dataclass(frozen=True)
class Flags:
    """Run, and how its page is shown."""

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Directory of a finished run."""
    open: bool = False
    """Open the page in the browser."""
    port: Annotated[int, Range(0, 2**16 - 1)] = 8000
    """Port of a page that is served; 0 selects a free one."""
    debug: bool = False
    """Show the traceback of an error."""


def main(argv: list[str] | None = None) -> None:
    """Write the page, or serve it until a signal arrives, and exit."""
    exit_with(lambda stop: _demo(argv, stop), "stopped")


def _demo(argv: list[str] | None, stop: Stop) -> None:
    flags = parse_flags(__doc__ or "", Flags, argv)
    start(stop, "fidle_jax.inference.export")
    from fidle_jax.inference.export import describe_network
    from fidle_jax.inference.load import load
    from fidle_jax.report.network_page import choose_examples, pack_weights, render_network

    network = describe_network(load(flags.run_dir))
    examples = choose_examples(read_evaluation(flags.run_dir))
    page = render_network(network, examples)
    if len(page) > MAX_FILE:
        short = render_network(network, examples, with_weights=False).encode()
        _serve({"/": short, "/weights": pack_weights(network.nodes)}, flags)
        return
    path = flags.run_dir / "demo.html"
    with as_input_error(path, "run directory, for example a copy"):
        write_atomically(path, page)
    print(f"page: {path} ({len(page) / 1e6:.1f} MB, with {len(examples.labels)} test images)")
    if flags.open:
        _open(path.absolute().as_uri())


def _serve(contents: dict[str, bytes], flags: Flags) -> None:
    """Serve the page and its weights, on this machine only, until a signal arrives."""

    class Handler(BaseHTTPRequestHandler):
        timeout = IDLE_SECONDS

        def do_GET(self) -> None:  # named by the base class
            # Otherwise, another web site could read the page under a name of its own (DNS rebinding).
            is_local = self.headers.get("host", "").rpartition(":")[0] in (HOST, "localhost")
            content = contents.get(self.path) if is_local else None
            self.send_response(404 if content is None else 200)
            html = "text/html; charset=utf-8"
            self.send_header(
                "Content-Type", html if self.path == "/" else "application/octet-stream"
            )
            self.send_header("Content-Length", str(len(content or b"")))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, format: str, *args: object) -> None:
            pass

    try:
        server = ThreadingHTTPServer((HOST, flags.port), Handler)
    except OSError as error:
        message = (
            f"port {flags.port} cannot be used ({error.strerror}); give another, such as --port 0"
        )
        if error.errno == errno.EADDRINUSE:
            message = f"port {flags.port} is in use; give another: --port {flags.port % 65535 + 1}"
        raise InputError(message) from error
    server.handle_error = lambda request, client_address: None  # a browser may leave at any time
    with server:
        address = f"http://{HOST}:{server.server_port}/"
        size = sum(map(len, contents.values())) / 1e6
        print(f"page: {address} ({size:.0f} MB; Ctrl-C stops the server)", flush=True)
        if flags.open:
            # In a thread, because some browsers return only when they are closed.
            threading.Thread(target=_open, args=(address,), daemon=True).start()
        server.serve_forever()


def _open(address: str) -> None:
    import webbrowser

    if not webbrowser.open(address):
        print(f"warning: no browser was found; open {address} yourself", file=sys.stderr)
