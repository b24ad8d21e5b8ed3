"""The web application of the drawing page: what it takes, and what it answers, over HTTP."""

import asyncio
import contextlib
import ipaddress
import logging
import re
import time
from collections.abc import Callable
from typing import Any, Literal

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from fidle_jax.data import SIGN_SETS, TFDS_PREFIX
from fidle_jax.errors import InputError
from fidle_jax.inference.load import Trained
from fidle_jax.inference.serving import MOST_MAPS, Answer, answered_layers, as_json, compile_answer
from fidle_jax.report.demo import Page, render_demo

_log = logging.getLogger("fidle_jax")

MOST_BYTES = 8 * 2**20  # of an image; a telephone's photographs have 2 to 6 MB
MOST_SECONDS = 20  # that an image may take to arrive
TYPES = {
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/webp": "WebP",
    "image/gif": "GIF",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
    "image/x-portable-pixmap": "PPM",
}
LOOPBACK = ("localhost", "127.0.0.1", "::1")
EVERYWHERE = ("0.0.0.0", "::")

# The page holds all that it needs: nothing comes from elsewhere, and nothing may go there.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def make_app(trained: Trained, command: str, host: str = LOOPBACK[1]) -> Starlette:
    """The application; the network is compiled here.

    ``GET /`` gives the page. ``POST /answer`` takes an image file, whose type Content-Type says, and gives
    JSON: ``probabilities``, ``seen`` and ``maps`` (see `as_json`), with the server's time in the header
    Server-Timing; where the image cannot be used, ``error``, one line, with a status of 400 and more.

    Args:
        trained: the network.
        command: what starts the page, to be shown.
        host: the address that it is served at; requests made to other names are refused.
    """
    answer = compile_answer(trained)
    page = render_demo(_page(trained, command))
    one_at_a_time = asyncio.Lock()

    async def show(request: Request) -> Response:
        return HTMLResponse(page, headers=HEADERS)

    async def respond(request: Request) -> Response:
        began = time.perf_counter()
        try:
            content = await _image_bytes(request)
            async with one_at_a_time:
                found = await asyncio.to_thread(answer, content)
        except InputError as error:
            raise HTTPException(400, str(error)) from error
        return _timed_response(found, began)

    return Starlette(
        routes=[Route("/", show), Route("/answer", respond, methods=["POST"])],
        middleware=[Middleware(_refuse_strangers, host=host)],
        exception_handlers={HTTPException: _tell, Exception: _tell_failure},
    )


def _page(trained: Trained, command: str) -> Page:
    result = trained.result
    return Page(
        shown=_shown(trained.config.data.dataset),
        network=trained.config.model.name,
        dataset=result["dataset"],
        test_accuracy=result["test_accuracy"],
        parameters=result["parameters"],
        image_shape=trained.image_shape,
        class_names=trained.class_names,
        layers=answered_layers(trained),
        most_maps=MOST_MAPS,
        most_bytes=MOST_BYTES,
        types=TYPES,
        command=command,
    )


def _shown(dataset: str) -> Literal["digit", "traffic sign", "image"]:
    # TFDS takes a version after a colon.
    if dataset.removeprefix(TFDS_PREFIX).split(":")[0] == "mnist":
        return "digit"
    return "traffic sign" if dataset in SIGN_SETS else "image"


async def _image_bytes(request: Request) -> bytes:
    """The body; it is not read on once it is known to be too long."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind not in TYPES:
        expected = ", ".join(TYPES.values())
        raise HTTPException(
            415, f"expected an image ({expected}), not {kind[:60] or 'data of no type'}"
        )
    content = bytearray()
    try:
        # Close the stream here. Otherwise, its generator can outlive the event loop.
        async with asyncio.timeout(MOST_SECONDS), contextlib.aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                content += chunk
                if len(content) > MOST_BYTES:
                    raise HTTPException(413, f"the image is larger than {_megabytes()}; scale it")
    except TimeoutError:
        raise HTTPException(408, f"the image did not arrive within {MOST_SECONDS} s") from None
    except ClientDisconnect:
        raise HTTPException(400, "the image did not arrive whole") from None
    return bytes(content)


def _megabytes() -> str:
    return f"{MOST_BYTES // 2**20} MB"


def _timed_response(answer: Answer, began: float) -> Response:
    response = JSONResponse(as_json(answer), headers={"X-Content-Type-Options": "nosniff"})
    milliseconds = 1000 * (time.perf_counter() - began)
    response.headers["Server-Timing"] = f"answer;dur={milliseconds:.2f}"
    return response


async def _tell(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _tell_failure(request: Request, error: Exception) -> Response:
    _log.error("an image could not be answered: %s: %s", type(error).__name__, error)
    return JSONResponse({"error": "the server failed on this image; its terminal says why"}, 500)


def _refuse_strangers(app: Callable[..., Any], host: str) -> Callable[..., Any]:
    """``app`` for this page alone.

    Another web site that a browser shows may send requests here, or give its own name this machine's
    address (DNS rebinding). Browsers tell both: by Origin, and by Host.
    """

    async def guarded(scope, receive, send):
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        headers = Request(scope).headers
        asked, origin = headers.get("host", ""), headers.get("origin")
        if not _is_own(_name(asked), host):
            refused = f"this page is not served at {asked[:100]!r}"
        elif origin not in (None, f"http://{asked}", f"https://{asked}"):
            refused = f"requests from {origin[:100]!r} are not answered"
        else:
            await app(scope, receive, send)
            return
        await JSONResponse({"error": refused}, 403)(scope, receive, send)

    return guarded


def _name(netloc: str) -> str:
    """Without port and brackets; empty where it is malformed."""
    parts = re.fullmatch(r"\[([0-9a-f:.]+)\](?::\d*)?|([\w.-]+)(?::\d*)?", netloc, re.IGNORECASE)
    return (parts[1] or parts[2]).lower() if parts else ""


def _is_own(name: str, host: str) -> bool:
    if name in (*LOOPBACK, host.lower()):
        return True
    # There the page is to be had by every address of the machine; a site's name is none.
    return host in EVERYWHERE and _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
