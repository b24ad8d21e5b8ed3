import http.server
import os
import threading
from functools import partial
from pathlib import Path

import pytest

from tests.data import small_gtsrb, small_mnist


@pytest.fixture(autouse=True)
def _no_archives_from_outside(monkeypatch):
    monkeypatch.delenv("FIDLE_JAX_ARCHIVES", raising=False)


@pytest.fixture
def mnist_archives(tmp_path, monkeypatch):
    """A folder with small archives that pass for MNIST's."""
    folder = tmp_path / "mnist archives"
    folder.mkdir()
    small_mnist.write(folder)
    small_mnist.install(monkeypatch, folder)
    return folder


@pytest.fixture
def sign_archives(tmp_path, monkeypatch):
    """A folder with small archives that pass for copies of GTSRB's."""
    folder = tmp_path / "sign archives"
    folder.mkdir()
    small_gtsrb.write(folder, small_gtsrb.members())
    small_gtsrb.install(monkeypatch)
    return folder


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def serve(monkeypatch):
    """``serve(folder)`` starts a web server for the files in ``folder`` and returns its address."""
    monkeypatch.setenv("NO_PROXY", "*")
    servers = []

    def start(folder):
        handler = partial(_Handler, directory=folder)
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def official_archives():
    """``official_archives(name)``: the folder of the official archives of "mnist" or "gtsrb"."""
    folder = os.environ.get("FIDLE_JAX_ARCHIVES")

    def find(name):
        for parent in (Path(folder), Path(folder).parent) if folder else ():
            if (parent / name).is_dir():
                return parent / name
        pytest.skip(f"FIDLE_JAX_ARCHIVES does not lead to archives of {name}")

    return find
