"""The page to draw on: it asks a server of this project what the network says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib import colormaps

from fidle_jax.report.html import page_template


@dataclass(frozen=True)
class Page:
    """What the page has to know.

    Attributes:
        shown: what people show it; a digit may be drawn, else image files alone are taken.
        network: its name.
        dataset: what it was trained on.
        test_accuracy: a share.
        parameters: how many.
        image_shape: of what the network is given: height, width, channels.
        class_names: in the order of the probabilities.
        layers: of each that is shown, its name and its activations' shape: (height, width, channels) or
            (neurons,).
        most_maps: of a layer, that are shown.
        most_bytes: of a file.
        types: of files that are taken: their MIME type, and what people call them.
        command: what starts the server.
    """

    shown: Literal["digit", "traffic sign", "image"]
    network: str
    dataset: str
    test_accuracy: float
    parameters: int
    image_shape: tuple[int, int, int]
    class_names: Sequence[str]
    layers: Sequence[tuple[str, tuple[int, ...]]]
    most_maps: int
    most_bytes: int
    types: Mapping[str, str]
    command: str


def render_demo(page: Page) -> str:
    """The page, in one file; it loads nothing, and asks only the server that it came from."""
    height, width, channels = page.image_shape
    draws = page.shown == "digit"
    return page_template("demo.html.j2").render(
        page=page,
        draws=draws,
        size=f"{height}×{width} pixels{', grey' if channels == 1 else ', in colour'}",
        layers=[_shown_layer(name, shape, page.most_maps) for name, shape in page.layers],
        # What the script reads.
        about={
            "draws": draws,
            "imageShape": page.image_shape,
            "classNames": page.class_names,
            "mostBytes": page.most_bytes,
            "types": list(page.types),
            "typeNames": list(page.types.values()),
            "command": page.command,
            "palette": colormaps["viridis"](range(256), bytes=True)[:, :3].ravel().tolist(),
        },
    )


def _shown_layer(name: str, shape: tuple[int, ...], most_maps: int) -> dict[str, object]:
    """Its heading, and the pictures it needs: so many, of that width and height."""
    if len(shape) == 1:
        rows, columns = _grid(shape[0])
        text = f"{shape[0]:,} neurons"
        return {
            "name": name,
            "text": text,
            "count": 1,
            "width": columns,
            "height": rows,
            "flat": True,
        }
    height, width, channels = shape
    shown = min(channels, most_maps)
    text = f"{channels} map{'s' * (channels > 1)} of {height}×{width}"
    if shown < channels:
        text += f", the first {shown}"
    return {
        "name": name,
        "text": text,
        "count": shown,
        "width": width,
        "height": height,
        "flat": False,
    }


def _grid(neurons: int) -> tuple[int, int]:
    """Rows and columns of a picture with a cell for each neuron: a band, rather than a block."""
    columns = -(-neurons // 2) if neurons <= 150 else 128
    return -(-neurons // columns), columns
