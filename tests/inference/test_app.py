"""The web application: what it takes, what it refuses, and that it goes on."""

import asyncio
import re

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from fidle_jax.inference import app as web
from fidle_jax.inference.load import load
from fidle_jax.inference.prepare import prepare
from tests.inference.drawn_digits import drawing
from tests.inference.test_serving import png

PNG = {"Content-Type": "image/png"}
HERE = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def trained(trained_run):
    return load(trained_run)


@pytest.fixture(scope="module")
def app(trained):
    return web.make_app(trained, "python experiments/demo.py RUN")


@pytest.fixture
def client(app):
    """It is asked for a drawing again after each test: whatever happened, the server goes on."""
    client = TestClient(app, base_url=HERE, raise_server_exceptions=False)
    yield client
    assert client.post("/answer", content=png(drawing(7)), headers=PNG).status_code == 200


def error_of(response, status) -> str:
    assert response.status_code == status, response.text
    message = response.json()["error"]
    assert "\n" not in message
    return message


def test_a_drawing_is_answered_with_what_the_network_predicts(client, trained):
    response = client.post("/answer", content=png(drawing(4)), headers=PNG)
    assert response.status_code == 200
    expected = trained.predict(prepare(drawing(4), trained)[None])[0]
    np.testing.assert_allclose(response.json()["probabilities"], expected, rtol=1e-4, atol=1e-6)
    assert re.fullmatch(r"answer;dur=\d+\.\d\d", response.headers["Server-Timing"])


@pytest.mark.parametrize(("kind", "name"), web.TYPES.items())
def test_every_type_that_the_page_offers_is_read(client, tmp_path, kind, name):
    file = tmp_path / "image"
    drawing(2).convert("RGB").save(file, name)
    response = client.post("/answer", content=file.read_bytes(), headers={"Content-Type": kind})
    assert response.status_code == 200, response.text


def test_the_page_needs_nothing_from_elsewhere(client):
    response = client.get("/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert not re.search(
        r"""(?:src|href)\s*=\s*(?!["']?data:)|https?://|@import|url\(""", response.text
    )


def test_the_page_has_a_picture_for_every_map(client):
    page = client.get("/").text
    answer = client.post("/answer", content=png(drawing(4)), headers=PNG).json()
    groups = re.findall(r'<div class="maps.*?</div>', page, re.DOTALL)
    assert len(groups) == len(answer["maps"])
    assert [group.count("<canvas") for group in groups] == [8, 8, 16, 16, 1]


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/json", "image/svg+xml", "", "x" * 5000]
)
def test_other_types_are_refused(client, kind):
    response = client.post("/answer", content=png(drawing(4)), headers={"Content-Type": kind})
    assert "expected an image (PNG, JPEG," in error_of(response, 415)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the image is empty"),
        (b"these are words", "no image of a kind that is read"),
        (png(drawing(4))[:700], "no whole image"),
        (png(Image.new("L", (280, 280))), "no digit to be seen"),
        (png(Image.new("1", (10_000, 10_000))), "pixels that are read"),
    ],
    ids=["empty", "words", "truncated", "nothing drawn", "a hundred million pixels"],
)
def test_what_is_no_image_is_told_in_a_line(client, content, says):
    assert says in error_of(client.post("/answer", content=content, headers=PNG), 400)


def test_an_image_may_be_as_large_as_the_limit_and_no_larger(client):
    full = png(drawing(4)).ljust(
        web.MOST_BYTES, b"\0"
    )  # what comes after an image's end is ignored
    assert client.post("/answer", content=full, headers=PNG).status_code == 200
    response = client.post("/answer", content=full + b"\0", headers=PNG)
    assert "larger than 8 MB" in error_of(response, 413)


def test_what_is_too_large_is_not_read_to_its_end(app):
    chunks = [{"type": "http.request", "body": bytes(2**20), "more_body": True}] * 1000
    status, error, read = asyncio.run(ask(app, chunks))
    assert (status, read) == (413, 9)
    assert b"larger than 8 MB" in error


def test_what_does_not_arrive_is_waited_for_a_while(app, monkeypatch):
    monkeypatch.setattr(web, "MOST_SECONDS", 0.05)
    part = {"type": "http.request", "body": png(drawing(4))[:500], "more_body": True}
    status, error, _ = asyncio.run(ask(app, [part]))
    assert status == 408
    assert b"did not arrive within" in error


def test_who_leaves_half_way_leaves_no_error(app):
    part = {"type": "http.request", "body": png(drawing(4))[:500], "more_body": True}
    status, _, _ = asyncio.run(ask(app, [part, {"type": "http.disconnect"}]))
    assert status == 400


async def ask(app, messages):
    """The status and the body of the answer to an upload in parts, and how many of them were read."""
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/answer",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:8000"), (b"content-type", b"image/png")],
    }
    coming, sent = iter(messages), []
    read = 0

    async def receive():
        nonlocal read
        read += 1
        message = next(coming, None)
        if message is None:
            await asyncio.sleep(60)
        return message

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], sent[1]["body"], read


@pytest.mark.parametrize(
    "own", ["localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000", "LocalHost"]
)
def test_this_machine_is_served(client, own):
    response = client.post("/answer", content=png(drawing(4)), headers=PNG | {"Host": own})
    assert response.status_code == 200


STRANGERS = [
    "evil.example",
    "localhost.evil.example:8000",
    "10.1.2.3",
    "",
    "[",
    "[::2]",
    "localhost@evil",
    "x@localhost",
]


@pytest.mark.parametrize("other", STRANGERS)
def test_other_names_that_lead_here_are_refused(client, other):
    response = client.post("/answer", content=png(drawing(4)), headers=PNG | {"Host": other})
    assert "not served at" in error_of(response, 403)
    assert client.get("/", headers={"Host": other}).status_code == 403


@pytest.mark.parametrize(
    "other", ["http://evil.example", "null", "http://127.0.0.1:9000", "http://localhost:8000", "["]
)
def test_other_sites_are_refused(client, other):
    response = client.post("/answer", content=png(drawing(4)), headers=PNG | {"Origin": other})
    assert "not answered" in error_of(response, 403)


def test_the_page_itself_is_no_other_site(client):
    response = client.post("/answer", content=png(drawing(4)), headers=PNG | {"Origin": HERE})
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("host", "name", "status"),
    [
        ("lab.example", "lab.example:8000", 200),
        ("lab.example", "other.example:8000", 403),
        ("192.168.1.5", "192.168.1.5:8000", 200),
        ("192.168.1.5", "192.168.1.6:8000", 403),
        ("0.0.0.0", "192.168.1.6:8000", 200),
        ("0.0.0.0", "evil.example:8000", 403),
    ],
)
def test_the_given_host_is_served_and_where_all_are_every_address(trained, host, name, status):
    client = TestClient(web.make_app(trained, "", host), base_url=f"http://{name}")
    assert client.get("/").status_code == status


def test_other_places_and_methods_are_told(client):
    assert error_of(client.get("/elsewhere"), 404)
    assert error_of(client.get("/answer"), 405)
    assert error_of(client.post("/"), 405)


def test_a_failure_of_the_server_is_told_there_and_here(trained, monkeypatch, caplog):
    def fail(content):
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(web, "compile_answer", lambda trained: fail)
    client = TestClient(web.make_app(trained, ""), base_url=HERE, raise_server_exceptions=False)
    response = client.post("/answer", content=png(drawing(4)), headers=PNG)
    assert "its terminal says why" in error_of(response, 500)
    assert caplog.messages == ["an image could not be answered: RuntimeError: unforeseen"]
