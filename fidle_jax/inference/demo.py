"""Serve a web page that classifies drawings and photographs and shows the feature maps of the network."""

import asyncio
import base64
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from matplotlib import colormaps
from starlette.applications import Starlette
from starlette.datastructures import URL
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from fidle_jax.data.augment import scale
from fidle_jax.errors import InputError
from fidle_jax.inference.load import Run
from fidle_jax.inference.preprocess import image_kind, read_input
from fidle_jax.nn.layers import Conv, Dense, MaxPool
from fidle_jax.report.html import load_template

_log = logging.getLogger("fidle_jax")

MAX_MAPS = 16  # feature maps shown of each layer
SHOWN_LAYERS = (Conv, MaxPool, Dense)

MAX_BYTES = 8 * 2**20  # of an image; photographs of phones have 2 to 6 MB
MAX_SECONDS = 20  # for an upload
MAX_UPLOADS, MAX_UPLOADS_OF_CLIENT = 64, 8  # at the same time
MIN_RATE, PATIENCE = 1024, 2  # an upload may have fewer bytes per second only in its first seconds
HEADER_SECONDS = 5  # for the header of a request
TYPES = {
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/webp": "WebP",
    "image/gif": "GIF",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
    "image/x-portable-pixmap": "PPM",
}

# The page is self-contained. It may load nothing else and send data only to this server.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

Layers = list[tuple[str, tuple[int, ...]]]


class HeaderTimeout(H11Protocol):
    """HTTP protocol that closes a connection if a header is not complete after `HEADER_SECONDS`."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Accept a connection."""
        super().connection_made(transport)
        self._wait_for_header()

    def data_received(self, data: bytes) -> None:
        """Receive a part of a request."""
        super().data_received(data)
        self._wait_for_header()

    def _wait_for_header(self) -> None:
        if self._timer is None and self._lacks_header():
            self._timer = self.loop.call_later(HEADER_SECONDS, self._close_if_late)

    def _close_if_late(self) -> None:
        self._timer = None
        if self._lacks_header() and not self.transport.is_closing():
            self.transport.close()

    def _lacks_header(self) -> bool:
        return self.cycle is None or self.cycle.response_complete


def make_app(
    trained: Run, command: str, host: str = "127.0.0.1", address: str = "127.0.0.1"
) -> Starlette:
    """Compile the network and return the web application, which is served at ``host`` (``address``).

    ``GET /`` returns the page. ``POST /answer`` expects an image file with its Content-Type and returns
    the JSON of `compile_answer`, or ``{"error": message}`` with a status from 400 on. Requests for other
    host names, or from other web sites, are refused. If the server does not respond, the page shows
    ``command``, which starts it.
    """
    layers, answer = compile_answer(trained)
    page = render_page(trained, layers, command)
    one_at_a_time, uploads = asyncio.Lock(), Counter[str]()

    async def show(request: Request) -> Response:
        return HTMLResponse(page, headers=HEADERS)

    async def respond(request: Request) -> Response:
        began = time.perf_counter()
        origin = request.headers.get("origin")
        if origin is not None and not _is_of_host(origin, request.headers["host"]):
            raise HTTPException(403, f"requests from {origin[:100]!r} are refused")
        client = request.client.host if request.client else ""
        if uploads[client] >= MAX_UPLOADS_OF_CLIENT or uploads.total() >= MAX_UPLOADS:
            raise HTTPException(503, "too many uploads at the same time; try again")
        uploads[client] += 1
        try:
            content = await _read_body(request)
        finally:
            uploads[client] -= 1
            if not uploads[client]:
                del uploads[client]
        try:
            async with one_at_a_time:
                found = await asyncio.to_thread(answer, content)
        except InputError as error:
            raise HTTPException(400, str(error)) from error
        response = JSONResponse(found, headers={"X-Content-Type-Options": "nosniff"})
        milliseconds = 1000 * (time.perf_counter() - began)
        response.headers["Server-Timing"] = f"answer;dur={milliseconds:.2f}"
        return response

    # Without this check, another web site could point its own name at this machine (DNS rebinding).
    trusted = {"allowed_hosts": allowed_hosts(host, address), "www_redirect": False}
    return Starlette(
        routes=[Route("/", show), Route("/answer", respond, methods=["POST"])],
        middleware=[Middleware(TrustedHostMiddleware, **trusted)],
        exception_handlers={HTTPException: _report_http_error, Exception: _report_failure},
    )


def allowed_hosts(host: str, address: str) -> list[str]:
    """Return the host names that requests may have if the page is served at ``host`` (``address``)."""
    given = [f"[{name}]" if ":" in name else name for name in (host, address)]
    names = ["localhost", "127.0.0.1", "[::1]", *given]
    if {host, address} & {"0.0.0.0", "::"}:
        # Any IPv4 address: browsers never look up a name whose last part is a number.
        names += [f"*.{number}" for number in range(256)]
    return names


def _is_of_host(origin: str, host: str) -> bool:
    try:
        return URL(origin).netloc == host
    except ValueError:  # it is no URL
        return False


async def _read_body(request: Request) -> bytes:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind not in TYPES:
        expected = ", ".join(TYPES.values())
        raise HTTPException(415, f"expected an image ({expected}), not {kind[:60] or 'no type'}")
    content, began = bytearray(), asyncio.get_running_loop().time()
    try:
        # Close the stream here. Otherwise, its generator can outlive the event loop.
        async with (
            asyncio.timeout(min(MAX_SECONDS, PATIENCE)) as timeout,
            contextlib.aclosing(request.stream()) as chunks,
        ):
            async for chunk in chunks:
                content += chunk
                seconds = max(PATIENCE, len(content) / MIN_RATE)
                timeout.reschedule(began + min(MAX_SECONDS, seconds))
                if len(content) > MAX_BYTES:
                    limit = f"{MAX_BYTES // 2**20} MB"
                    raise HTTPException(413, f"the image is larger than {limit}; scale it down")
    except TimeoutError:
        raise HTTPException(
            408,
            f"the image did not arrive within {MAX_SECONDS} s, at {MIN_RATE:,} bytes per second or more; "
            "try again",
        ) from None
    except ClientDisconnect:
        raise HTTPException(400, "the upload was aborted") from None
    return bytes(content)


async def _report_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _report_failure(request: Request, error: Exception) -> Response:
    _log.error("could not classify an image: %s: %s", type(error).__name__, error)
    return JSONResponse({"error": "the server failed on this image; see its terminal"}, 500)


def compile_answer(trained: Run) -> tuple[Layers, Callable[[bytes], dict[str, Any]]]:
    """Compile the network for single images.

    Returns:
        Names and output shapes of the layers shown: all convolution, pooling and dense layers except the
        last. And a function from the bytes of an image file to JSON: ``probabilities``; ``seen``, the
        input of the network; ``maps``, for each layer its first `MAX_MAPS` feature maps or all neurons,
        scaled from 0 (smallest) to 255 (largest). Pixels are uint8 in base64. The function raises
        InputError if the bytes are not a usable image.
    """
    model, layers = trained.model, []

    def is_shown(module, method):
        return isinstance(module, SHOWN_LAYERS) and method == "__call__"

    def forward(variables, images):
        logits, state = model.apply(variables, scale(images), capture_intermediates=is_shown)
        found: dict[str, Any] = dict(state["intermediates"])
        outputs = [each["__call__"][0][0] for each in found.values()]
        layers.extend(zip(found, (output.shape for output in outputs), strict=True))
        return jax.nn.softmax(logits[0]), list(map(_to_pixels, outputs[:-1]))

    image = jax.ShapeDtypeStruct((1, *trained.image_shape), jnp.uint8)
    compiled = jax.jit(forward).lower(trained.variables, image).compile()

    def answer(content: bytes) -> dict[str, Any]:
        seen = read_input(content, trained)
        probabilities, maps = jax.device_get(compiled(trained.variables, seen[None]))
        return {
            "probabilities": probabilities.tolist(),
            "seen": _encode(seen),
            "maps": list(map(_encode, maps)),
        }

    return layers[:-1], answer


def _to_pixels(x: Float[Array, "..."]) -> UInt8[Array, "..."]:
    if x.ndim == 3:
        x = jnp.moveaxis(x[..., :MAX_MAPS], -1, 0)
    spread = jnp.maximum(x.max() - x.min(), jnp.finfo(x.dtype).tiny)
    return jnp.round(255 * ((x - x.min()) / spread)).astype(jnp.uint8)


def _encode(pixels: UInt8[np.ndarray, "..."]) -> str:
    return base64.b64encode(np.ascontiguousarray(pixels)).decode("ascii")


def render_page(trained: Run, layers: Layers, command: str) -> str:
    """Return the page as a single HTML file."""
    height, width, channels = trained.image_shape
    kind = image_kind(trained.config.data.dataset)
    return load_template("demo.html.j2").render(
        kind=kind,
        network=trained.config.model.name,
        result=trained.result,
        image_shape=trained.image_shape,
        classes=len(trained.class_names),
        types=TYPES,
        size=f"{height}×{width} pixels, {'grey' if channels == 1 else 'colour'}",
        layers=[_layer_canvases(name, *shape) for name, shape in layers],
        # For the script of the page.
        about={
            "draws": kind == "digit",
            "imageShape": trained.image_shape,
            "classNames": trained.class_names,
            "maxBytes": MAX_BYTES,
            "types": list(TYPES),
            "typeNames": list(TYPES.values()),
            "command": command,
            "palette": colormaps["viridis"](range(256), bytes=True)[:, :3].ravel().tolist(),
        },
    )


def _layer_canvases(name: str, *shape: int) -> dict[str, Any]:
    """Return the heading of a layer, and the number and size of its canvases."""
    if flat := len(shape) == 1:
        (neurons,) = shape
        width = -(-neurons // 2) if neurons <= 150 else 128
        text, count, height = f"{neurons:,} neurons", 1, -(-neurons // width)
    else:
        height, width, channels = shape
        text, count = f"{channels} map{'s' * (channels > 1)} of {height}×{width}", channels
        if channels > MAX_MAPS:
            text, count = f"{text}, the first {MAX_MAPS}", MAX_MAPS
    size = {"count": count, "width": width, "height": height}
    return {"name": name, "text": text, "flat": flat, **size}
