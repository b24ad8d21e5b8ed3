"""The web application classifies images, refuses requests that are not its own, and survives errors."""

import asyncio
import base64
import dataclasses
import io
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from fidle_jax.errors import InputError
from fidle_jax.inference import demo
from fidle_jax.inference.load import Run
from fidle_jax.inference.preprocess import prepare
from fidle_jax.nn import make_model
from fidle_jax.nn.intermediates import compute_intermediates
from fidle_jax.train.config import ResolvedConfig
from tests.inference.drawn_digits import drawing

PNG = {"Content-Type": "image/png"}
HERE = "http://127.0.0.1:8000"


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def app(trained):
    return demo.make_app(trained, "python experiments/demo.py RUN")


@pytest.fixture
def client(app):
    """A client. After each test, the server must still classify a drawing."""
    client = TestClient(app, base_url=HERE, raise_server_exceptions=False)
    yield client
    assert client.post("/answer", content=png(drawing(7)), headers=PNG).status_code == 200


def error_of(response, status) -> str:
    assert response.status_code == status, response.text
    message = response.json()["error"]
    assert "\n" not in message
    return message


def test_the_answer_to_a_drawing_is_the_prediction_of_the_network(client, trained):
    response = client.post("/answer", content=png(drawing(4)), headers=PNG)
    assert response.status_code == 200
    expected = trained.predict(prepare(drawing(4), trained)[None])[0]
    np.testing.assert_allclose(response.json()["probabilities"], expected, rtol=1e-4, atol=1e-6)
    assert re.fullmatch(r"answer;dur=\d+\.\d\d", response.headers["Server-Timing"])


@pytest.mark.parametrize(("kind", "name"), demo.TYPES.items())
def test_every_type_that_the_page_offers_is_accepted(client, kind, name):
    file = io.BytesIO()
    drawing(2).convert("RGB").save(file, name)
    response = client.post("/answer", content=file.getvalue(), headers={"Content-Type": kind})
    assert response.status_code == 200, response.text


def test_the_page_loads_nothing_from_elsewhere(client):
    response = client.get("/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    loads = r"""(?:src|href)\s*=\s*(?!["']?data:)|https?://|@import|url\("""
    assert not re.search(loads, response.text)


def test_the_page_has_a_canvas_for_every_map(client):
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
    ("content", "message"),
    [
        (b"", "the image is empty"),
        (b"these are words", "the image is not an image"),
        (png(drawing(4))[:700], "the image is damaged"),
        (png(Image.new("L", (280, 280))), "no digit found"),
        (png(Image.new("1", (10_000, 10_000))), "too many pixels"),
    ],
    ids=["empty", "words", "truncated", "blank", "a hundred million pixels"],
)
def test_unusable_images_give_one_line(client, content, message):
    assert message in error_of(client.post("/answer", content=content, headers=PNG), 400)


def test_an_image_may_be_as_large_as_the_limit_but_not_larger(client):
    full = png(drawing(4)).ljust(demo.MAX_BYTES, b"\0")  # bytes after the image are ignored
    assert client.post("/answer", content=full, headers=PNG).status_code == 200
    response = client.post("/answer", content=full + b"\0", headers=PNG)
    assert "larger than 8 MB" in error_of(response, 413)


PART = {"type": "http.request", "body": png(drawing(4))[:500], "more_body": True}


def test_an_upload_that_is_too_large_is_not_read_to_its_end(app):
    chunks = [{"type": "http.request", "body": bytes(2**20), "more_body": True}] * 1000
    status, error, read = asyncio.run(upload(app, chunks))
    assert (status, read) == (413, 9)
    assert b"larger than 8 MB" in error


@pytest.mark.parametrize("limit", ["MAX_SECONDS", "PATIENCE"])
def test_an_upload_that_stalls_times_out(app, monkeypatch, limit):
    monkeypatch.setattr(demo, limit, 0.05)
    status, error, _ = asyncio.run(upload(app, [PART]))
    assert status == 408
    assert b"did not arrive within" in error


def test_a_client_has_few_uploads_at_a_time_and_others_are_not_affected(app, monkeypatch):
    monkeypatch.setattr(demo, "PATIENCE", 0.5)

    async def run():
        stalled = [asyncio.create_task(upload(app, [PART], "10.0.0.1")) for _ in range(64)]
        await asyncio.sleep(0.1)
        whole = [{"type": "http.request", "body": png(drawing(4))}]
        other = await upload(app, whole, "10.0.0.2")
        statuses = [found[0] for found in await asyncio.gather(*stalled)]
        return other[0], statuses, (await upload(app, whole, "10.0.0.1"))[0]

    other, stalled, later = asyncio.run(run())
    assert (other, later) == (200, 200)
    assert sorted(stalled) == [408] * 8 + [503] * 56


def test_an_aborted_upload_is_not_an_error_of_the_server(app):
    status, _, _ = asyncio.run(upload(app, [PART, {"type": "http.disconnect"}]))
    assert status == 400


async def upload(app, messages, client="127.0.0.1"):
    """Upload in parts. Return status and body of the response, and the number of parts read."""
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/answer",
        "query_string": b"",
        "client": (client, 50000),
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


STRANGERS = (
    "evil.example",
    "localhost.evil.example:8000",
    "10.1.2.3",
    "",
    "[",
    "[::2]",
    "localhost@evil",
    "x@localhost",
)


@pytest.mark.parametrize("other", STRANGERS)
def test_other_host_names_are_refused(client, other):
    response = client.post("/answer", content=png(drawing(4)), headers=PNG | {"Host": other})
    assert (response.status_code, response.text) == (400, "Invalid host header")
    assert client.get("/", headers={"Host": other}).status_code == 400


@pytest.mark.parametrize(
    "other",
    [
        "http://evil.example",
        "null",
        "http://127.0.0.1:9000",
        "http://localhost:8000",
        "[",
        "http://[",
    ],
)
def test_other_web_sites_are_refused(client, other):
    response = client.post("/answer", content=png(drawing(4)), headers=PNG | {"Origin": other})
    assert "are refused" in error_of(response, 403)


def test_requests_of_the_page_itself_are_accepted(client):
    response = client.post("/answer", content=png(drawing(4)), headers=PNG | {"Origin": HERE})
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("host", "name", "served"),
    [
        ("lab.example", "lab.example", True),
        ("lab.example", "other.example", False),
        ("192.168.1.5", "192.168.1.5", True),
        ("192.168.1.5", "192.168.1.6", False),
        ("fd00::5", "[fd00::5]", True),
        ("0.0.0.0", "192.168.1.6", True),
        ("0.0.0.0", "evil.example", False),
        ("0.0.0.0", "192.168.1.6.evil.example", False),
    ],
)
def test_the_given_host_is_served_and_0_0_0_0_means_every_ipv4_address(
    trained, monkeypatch, host, name, served
):
    monkeypatch.setattr(demo, "compile_answer", lambda trained: ([], lambda content: {}))
    client = TestClient(demo.make_app(trained, "", host), base_url=f"http://{name}:8000")
    assert client.get("/").status_code == (200 if served else 400)


def test_other_paths_and_methods_are_errors(client):
    assert error_of(client.get("/elsewhere"), 404)
    assert error_of(client.get("/answer"), 405)
    assert error_of(client.post("/"), 405)


def test_a_failure_of_the_server_is_reported_to_the_page_and_in_the_terminal(
    trained, monkeypatch, caplog
):
    def fail(content):
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(demo, "compile_answer", lambda trained: ([], fail))
    client = TestClient(demo.make_app(trained, ""), base_url=HERE, raise_server_exceptions=False)
    response = client.post("/answer", content=png(drawing(4)), headers=PNG)
    assert "see its terminal" in error_of(response, 500)
    assert caplog.messages == ["could not classify an image: RuntimeError: unforeseen"]


@pytest.fixture(scope="module")
def compiled(trained):
    return demo.compile_answer(trained)


def decode(text):
    return np.frombuffer(base64.b64decode(text), np.uint8)


@pytest.mark.parametrize("digit", range(10))
def test_the_network_sees_the_prepared_drawing(trained, compiled, digit):
    found, seen = compiled[1](png(drawing(digit))), prepare(drawing(digit), trained)
    np.testing.assert_array_equal(decode(found["seen"]), seen.ravel())
    expected = trained.predict(seen[None])[0]
    np.testing.assert_allclose(found["probabilities"], expected, rtol=1e-4, atol=1e-6)


def test_all_layers_except_the_last_are_shown_in_order(compiled):
    assert compiled[0] == [
        ("conv_1", (26, 26, 8)),
        ("pool_1", (13, 13, 8)),
        ("conv_2", (11, 11, 16)),
        ("pool_2", (5, 5, 16)),
        ("dense_1", (100,)),
    ]


def test_maps_are_activations_scaled_from_the_smallest_to_the_largest(trained, compiled):
    layers, answer = compiled
    image = prepare(drawing(5), trained) / np.float32(255)
    inside = compute_intermediates(trained.model, trained.variables, image).maps
    activations = {key.split(" ")[1]: values for key, values in inside.items()}
    for (name, _), text in zip(layers, answer(png(drawing(5)))["maps"], strict=True):
        values, pixels = activations[name], decode(text)
        values = values.transpose(2, 0, 1) if values.ndim == 3 else values
        expected = 255 * (values - values.min()) / np.ptp(values)
        # Halves may be rounded in either direction.
        np.testing.assert_allclose(pixels, expected.ravel(), atol=0.51, err_msg=name)
        assert (pixels.min(), pixels.max()) == (0, 255)


@pytest.mark.parametrize(
    ("name", "shape", "width", "convolutions"),
    [
        ("v1", (24, 24, 1), 1.0, 2),
        ("v3", (24, 24, 1), 1.0, 3),
        ("compact", (32, 32, 3), 0.25, 5),
        ("dnn", (24, 24, 1), 1.0, 0),
    ],
)
def test_every_network_has_an_answer(name, shape, width, convolutions):
    model = make_model(name, 43, shape, width=width)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *shape)))
    variables = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.01, leaf.dtype), shapes)
    dataset = "24x24-L" if shape[-1] == 1 else "32x32-RGB"
    config, names = (
        ResolvedConfig().replace(dataset=dataset, model=name),
        tuple(map(str, range(43))),
    )
    signs = Run(variables, model, shape, names, config, {}, Path())
    layers, answer = demo.compile_answer(signs)
    noise = np.random.default_rng(0).integers(0, 256, (60, 50, 3), np.uint8)
    found = answer(png(Image.fromarray(noise)))
    assert sum(name.startswith("conv") for name, _ in layers) == convolutions
    assert np.shape(found["probabilities"]) == (43,)
    assert sum(found["probabilities"]) == pytest.approx(1, abs=1e-5)
    for (_, layer_shape), text in zip(layers, found["maps"], strict=True):
        *size, channels = layer_shape
        shown = min(channels, 16) if size else channels
        assert len(decode(text)) == np.prod([shown, *size])


def test_a_layer_with_equal_values_is_dark(trained):
    silent = dataclasses.replace(trained, variables=jax.tree.map(jnp.zeros_like, trained.variables))
    found = demo.compile_answer(silent)[1](png(drawing(1)))
    assert found["probabilities"] == pytest.approx([0.1] * 10)
    assert not any(decode(text).any() for text in found["maps"])


def test_damaged_files_have_an_answer_or_give_one_line(compiled):
    rng, whole = np.random.default_rng(0), png(drawing(6))
    for _ in range(30):
        content = whole[: rng.integers(0, 1500)] + rng.bytes(rng.integers(0, 60))
        try:
            assert sum(compiled[1](content)["probabilities"]) == pytest.approx(1, abs=1e-5)
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017 - both outcomes are allowed
