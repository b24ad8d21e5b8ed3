"""The page of a network at the command line: written as a file, or served if it is large."""

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from fidle_jax.cli.demo import main

# A small limit, so that the page of a small network is served.
SERVE = "import sys; from fidle_jax.cli import demo; demo.MAX_FILE = 1e5; demo.main(sys.argv[1:])"


class Served:
    """A server of a run's page, in a process of its own until the block ends."""

    def __init__(self, *words, **environment):
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, *map(str, words), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )

    def __enter__(self):
        line = self.process.stdout.readline()
        pattern = r"page: (http://127\.0\.0\.1:(\d+)/) \(0 MB; Ctrl-C stops the server\)\n"
        found = re.fullmatch(pattern, line)
        assert found, line + self.process.communicate()[1]
        self.address, self.port = found[1], int(found[2])
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def get(self, path, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()


@pytest.fixture(scope="module")
def served(trained_run):
    with Served(trained_run) as page:
        yield page


@pytest.fixture
def copy(trained_run, tmp_path):
    """A copy of the run."""
    return shutil.copytree(trained_run, tmp_path / "run")


def test_the_page_is_one_file_in_the_directory_of_the_run(call, copy):
    done = call(main, copy)
    assert done.status == 0, done.err
    assert done.out == f"page: {copy / 'demo.html'} (0.3 MB, with 10 test images)\n"
    page = (copy / "demo.html").read_text()
    assert "<title>Draw a digit: cnn on mnist</title>" in page
    assert not re.search(r"""(?:src|href)\s*=\s*(?!["']?data:)|https?://|@import|url\(""", page)


def test_a_large_page_is_served_with_its_weights(served, browser):
    assert len(served.get("/weights")[1]) == 4 * 42_358
    page = browser.new_page()
    page.goto(served.address)
    page.locator("#desk[aria-busy=false]").wait_for()
    assert page.locator("#answer").text_content() != "–"
    page.close()


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/", {"Host": "evil.example"}), ("/../config.json", {}), ("/config.json", {})],
)
def test_other_hosts_and_other_files_are_not_served(served, path, headers):
    assert served.get(path, **headers) == (404, b"")


def test_idle_connections_delay_nobody(served):
    idle = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(50)]
    assert served.get("/")[0] == 200
    for each in idle:
        each.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_server_with_one_line(trained_run, number):
    with Served(trained_run) as page:
        page.process.send_signal(number)
        rest, errors = page.process.communicate(timeout=30)
        assert (page.process.returncode, rest, errors) == (130, "", "stopped\n")


def test_the_browser_is_opened(trained_run, tmp_path):
    opened = tmp_path / "opened"
    program = tmp_path / "browser"
    program.write_text(f'#!/bin/sh\necho "$1" > {opened}.part && mv {opened}.part {opened}\n')
    program.chmod(0o755)
    with Served(trained_run, "--open", BROWSER=f"{program} %s") as page:
        patience = time.monotonic() + 30
        while not opened.exists() and time.monotonic() < patience:
            time.sleep(0.05)
        assert opened.read_text() == f"{page.address}\n"


def test_a_port_in_use_is_an_error_that_suggests_another(call, trained_run, served, monkeypatch):
    monkeypatch.setattr("fidle_jax.cli.demo.MAX_FILE", 1e5)
    done = call(main, trained_run, "--port", served.port)
    assert done.status == 2
    assert done.error() == f"port {served.port} is in use; give another: --port {served.port + 1}"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "RUN is missing"),
        (("missing",), "there is no run in missing"),
        (("missing", "--port", "70000"), "--port is 70000; it must be between 0 and 65535"),
    ],
)
def test_wrong_input_is_one_line(call, words, expected):
    done = call(main, *words)
    assert (done.status, done.out) == (2, "")
    assert expected in done.error()


def test_a_directory_that_is_not_writable_is_one_line(call, copy):
    (copy / "demo.html").mkdir()
    done = call(main, copy)
    assert done.status == 2
    assert "demo.html cannot be used: Is a directory" in done.error()
