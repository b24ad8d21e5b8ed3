"""The drawing page at the command line and in a browser."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from fidle_jax.cli.demo import main
from fidle_jax.inference.demo import HEADER_SECONDS
from tests.inference.drawn_digits import DIGITS, drawing
from tests.inference.test_demo import png
from tests.trained import train_sample

DEMO = Path(__file__).parents[2] / "experiments" / "demo.py"


class Served:
    """A server of a run's page, in a process of its own until the block ends."""

    def __init__(self, *words, **environment):
        self.process = subprocess.Popen(
            [sys.executable, DEMO, *map(str, words), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )

    def __enter__(self):
        self.line = self.process.stdout.readline()
        pattern = r"page: (http://127\.0\.0\.1:(\d+)/) \(Ctrl-C stops the server\)\n"
        found = re.fullmatch(pattern, self.line)
        assert found, self.line + self.process.communicate()[1]
        self.address, self.port = found[1], int(found[2])
        return self

    def end(self, number=signal.SIGINT):
        self.process.send_signal(number)
        rest, errors = self.process.communicate(timeout=30)
        return self.process.returncode, rest, errors

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def served(trained_run):
    with Served(trained_run) as page:
        yield page


def post(page, content, kind="image/png"):
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=30)
    connection.request("POST", "/answer", content, {"Content-Type": kind})
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def test_the_page_is_served_and_a_drawing_is_classified(served):
    with urllib.request.urlopen(served.address) as page:
        assert "<title>Draw a digit</title>" in page.read().decode()
    status, answer = post(served, png(drawing(1)))
    assert status == 200
    assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)


def test_an_upload_that_is_too_large_has_an_error_over_a_real_connection(served):
    status, answer = post(served, bytes(30 * 2**20))
    assert status == 413
    assert "larger than 8 MB" in answer["error"]
    assert post(served, png(drawing(1)))[0] == 200


@pytest.mark.parametrize("again", [False, True], ids=["first request", "second request"])
def test_connections_without_a_complete_header_delay_nobody_and_are_closed(served, again):
    whole = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with contextlib.ExitStack() as stack:
        slow = []
        for _ in range(200):
            slow.append(stack.enter_context(socket.create_connection(("127.0.0.1", served.port))))
            slow[-1].sendall((whole if again else b"") + whole[:20])
        began = time.monotonic()
        assert post(served, png(drawing(1)))[0] == 200
        assert time.monotonic() - began < 5
        slow[-1].settimeout(HEADER_SECONDS + 10)
        while slow[-1].recv(2**20):
            pass


@pytest.mark.parametrize(
    "host", [b"", b"Host: \r\n", b"Host: @\r\n", b"Host: 127.0.0.1:x@evil\r\n"]
)
def test_a_malformed_host_is_refused(served, host):
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n" + host + b"Connection: close\r\n\r\n")
        assert connection.recv(2**16).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_server_with_one_line(trained_run, number):
    with Served(trained_run) as page:
        # The idle connection of a browser does not delay the shutdown.
        idle = http.client.HTTPConnection("127.0.0.1", page.port, timeout=30)
        idle.request("GET", "/")
        idle.getresponse().read()
        assert page.end(number) == (130, "", "the server has stopped\n")


def test_the_server_stops_during_an_upload(trained_run):
    with Served(trained_run) as page, socket.create_connection(("127.0.0.1", page.port)) as upload:
        head = "POST /answer HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
        upload.sendall(f"{head}Content-Length: 1000\r\n\r\nbegun".encode())
        upload.settimeout(0.5)
        with pytest.raises(TimeoutError):
            upload.recv(1)
        status, _, errors = page.end()
        assert (status, errors) == (130, "the server has stopped\n")


def test_the_browser_is_opened(trained_run, tmp_path):
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}.part && mv {opened}.part {opened}\n')
    browser.chmod(0o755)
    with Served(trained_run, "--open", BROWSER=f"{browser} %s") as page:
        patience = time.monotonic() + 30
        while not opened.exists() and time.monotonic() < patience:
            time.sleep(0.05)
        assert opened.read_text() == f"{page.address}\n"


def test_a_port_in_use_is_an_error_that_suggests_another(call, trained_run, served):
    done = call(main, trained_run, "--port", served.port)
    assert done.status == 2
    expected = f"port {served.port} of 127.0.0.1 is in use; give another: --port {served.port + 1}"
    assert done.error() == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "RUN is missing"),
        (("missing", "--port", "0"), "there is no run in missing"),
        (("missing", "--port", "70000"), "--port is 70000; it must be between 0 and 65535"),
        (
            ("missing", "--host", "192.0.2.1", "--public"),
            "--host 192.0.2.1 is not an address of this",
        ),
        (("missing", "--host", "a b"), "--host a b is not an address of this machine"),
        (("missing", "--host", ""), "--host '' is not an address of this machine"),
        (
            ("missing", "--public"),
            "--public has no effect with --host 127.0.0.1; give --host 0.0.0.0 too",
        ),
        (("missing", "--host", "localhost", "--port", "0"), "there is no run in missing"),
        (
            ("missing", "--host", "192.0.2.1"),
            "--host is 192.0.2.1, which other machines may reach; add",
        ),
        (
            ("missing", "--host", "0.0.0.0"),
            "--host is 0.0.0.0, which other machines may reach; add",
        ),
        (("missing", "--host", "0"), "--host is 0 (0.0.0.0), which other machines may reach; add"),
        (("missing", "--host", "::"), "--host is ::, which other machines may reach; add --public"),
    ],
)
def test_wrong_input_is_one_line(call, words, expected):
    done = call(main, *words)
    assert (done.status, done.out) == (2, "")
    assert expected in done.error()


@pytest.fixture(scope="module")
def good_run(tmp_path_factory, compilation_cache):
    """A run with the full training of the embedded sample."""
    run_dir = tmp_path_factory.mktemp("good") / "run"
    train_sample(run_dir)
    return run_dir


@pytest.fixture
def page(browser, good_run):
    with Served(good_run) as served:
        page = browser.new_page(viewport={"width": 1100, "height": 1000})
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("console", lambda said: page.faults.append(said.text))
        page.goto(served.address)
        yield page
        assert page.faults == []
        page.close()


def on_the_board(page, stroke):
    box = page.locator("#board").bounding_box()
    return [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in stroke]


def draw(page, digit):
    for stroke in DIGITS[digit]:
        first, *others = on_the_board(page, stroke)
        page.mouse.move(*first)
        page.mouse.down()
        for place in others:
            page.mouse.move(*place)
        page.mouse.up()


def settled_answer(page):
    """Return the answer after the last request."""
    page.locator("#desk[aria-busy=false]").wait_for()
    return page.locator("#answer").text_content()


def first_map(page):
    return page.locator(".maps canvas").first.evaluate("canvas => canvas.toDataURL()")


@pytest.mark.slow
def test_at_least_nine_of_ten_drawn_digits_are_recognised(page):
    answers = {}
    for digit in DIGITS:
        page.keyboard.press("c")
        draw(page, digit)
        answers[digit] = settled_answer(page)
    assert sum(answer == str(digit) for digit, answer in answers.items()) >= 9, answers


@pytest.mark.slow
def test_the_page_follows_the_drawing(page):
    draw(page, 1)
    assert settled_answer(page) == "1"
    assert page.locator("#bars .answer .name").text_content() == "1"
    one = first_map(page)
    draw(page, 7)
    settled_answer(page)
    assert first_map(page) != one
    page.locator("#undo").click()
    settled_answer(page)
    assert first_map(page) == one
    page.keyboard.press("u")
    assert page.locator("#answer").text_content() == "–"
    assert page.locator("#hint").is_visible()


@pytest.mark.slow
def test_a_finger_can_draw(browser, good_run):
    with Served(good_run) as served:
        page = browser.new_page(viewport={"width": 400, "height": 800}, has_touch=True)
        page.goto(served.address)
        hand = page.context.new_cdp_session(page)
        for stroke in DIGITS[4]:
            kind = "touchStart"
            for x, y in on_the_board(page, stroke):
                touch = {"type": kind, "touchPoints": [{"x": x, "y": y}]}
                hand.send("Input.dispatchTouchEvent", touch)
                kind = "touchMove"
            hand.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        assert settled_answer(page) == "4"
        assert page.evaluate("scrollY") == 0  # drawing does not scroll the page
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        page.close()


@pytest.mark.slow
def test_a_file_is_classified_and_an_unusable_one_has_an_error(page, tmp_path):
    picture, words = tmp_path / "seven.png", tmp_path / "words.png"
    picture.write_bytes(png(drawing(7)))
    words.write_text("no image")
    page.locator("#file").set_input_files(words)
    page.locator("#error").wait_for(state="visible")
    assert "is not an image" in page.locator("#error").text_content()
    # The browser logs every response with an error status.
    assert [said for said in page.faults if "400" not in said] == []
    page.faults.clear()
    page.locator("#file").set_input_files(picture)
    assert settled_answer(page) == "7"
    assert not page.locator("#error").is_visible()
