import http.server
import socket
import threading
import time

import pytest

from fidle_jax.data.network import reachable


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(200 if self.path == "/there" else 404)
        self.end_headers()

    def log_message(self, *args):
        pass


def _slow_lookup(*args, **kwargs):
    time.sleep(30)
    raise socket.gaierror


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_file_that_is_there_is_reachable(server):
    assert reachable(f"{server}/there")


def test_a_file_that_is_not_there_is_not(server):
    assert not reachable(f"{server}/gone")


def test_a_server_that_never_answers_is_given_up_in_time(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        assert not reachable(f"http://127.0.0.1:{silent.getsockname()[1]}", seconds=0.3)
        assert time.monotonic() - start < 2


def test_a_name_lookup_that_hangs_is_given_up_in_time(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(socket, "getaddrinfo", _slow_lookup)
    start = time.monotonic()
    assert not reachable("https://storage.googleapis.com", seconds=0.3)
    assert time.monotonic() - start < 2
