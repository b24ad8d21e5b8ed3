"""A page that runs a network in the browser, with the numbers behind each value of its layers."""

import base64
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import colormaps

from fidle_jax.nn.graph import Node
from fidle_jax.nn.table import Row
from fidle_jax.report.confusion import select_rows
from fidle_jax.report.html import load_template
from fidle_jax.train.run_content import Evaluation

MOST_EXAMPLES = 10
SCRIPTS = (
    "engine",
    "pixels",
    "board",
    "explain",
    "explorer",
    "prepare",
    "digit",
    "signs",
    "network",
)


@dataclasses.dataclass(frozen=True)
class Network:
    """What the page needs to know about a network and its images."""

    kind: str  # "digit", "traffic sign" or "image"
    name: str  # of the model
    nodes: Sequence[Node]
    layers: Iterable[Row]
    image_shape: tuple[int, int, int]
    class_names: Sequence[str]
    resize: str  # "fit", "crop" or "stretch"
    treatment: str | None  # of traffic signs
    result: Mapping[str, Any]  # content of result.json


def pack_weights(nodes: Iterable[Node]) -> bytes:
    """Return all weights as little-endian float32. Those of a node are sorted by name, as in JSON."""
    arrays = (value for node in nodes for _, value in sorted(node.weights.items()))
    return b"".join(np.ascontiguousarray(each, "<f4").tobytes() for each in arrays)


def explorer_data(nodes: Iterable[Node], layers: Iterable[Row]) -> dict[str, Any]:
    """Return what the explorer of a network needs as JSON: nodes without weights, table, colours."""
    palette = np.rint(255 * colormaps["viridis"](np.arange(256))[:, :3]).astype(np.uint8)
    return {
        "nodes": [
            dataclasses.asdict(dataclasses.replace(node, weights={}))
            | {"weights": {name: value.shape for name, value in sorted(node.weights.items())}}
            for node in nodes
        ],
        "layers": {
            row.name: {"parameters": row.parameters, "formula": row.formula} for row in layers
        },
        "palette": encode(palette),
    }


def render_network(network: Network, examples: Evaluation, *, with_weights: bool = True) -> str:
    """Return the page as HTML that needs no other files.

    The page shows the ``examples`` and compares its probabilities with theirs. Without the weights, it loads
    the bytes of `pack_weights` from the address "weights".
    """
    about = explorer_data(network.nodes, network.layers) | {
        "kind": network.kind,
        "imageShape": network.image_shape,
        "classNames": list(network.class_names),
        "resize": network.resize,
        "treatment": network.treatment,
        "examples": [
            {"pixels": encode(image), "label": int(label), "probabilities": row.tolist()}
            for image, label, row in zip(
                examples.images, examples.labels, examples.probabilities, strict=True
            )
        ],
    }
    weights = encode(pack_weights(network.nodes)) if with_weights else ""
    return load_template("network.html.j2").render(
        about=about,
        network=network.name,
        result=network.result,
        weights=weights,
        scripts=read_scripts(*SCRIPTS),
    )


def choose_examples(test: Evaluation) -> Evaluation:
    """Return the first test image of each class, of ten classes if there are more."""
    _, first = np.unique(test.labels, return_index=True)
    rows = first[np.linspace(0, len(first) - 1, min(len(first), MOST_EXAMPLES)).astype(int)]
    return select_rows(test, rows)


def read_scripts(*names: str) -> Markup:
    """Return the JavaScript files of this package as one text."""
    folder = files("fidle_jax.report")
    return Markup("\n".join((folder / f"{name}.js").read_text("utf-8") for name in names))


def encode(data: bytes | np.ndarray) -> str:
    """Return bytes, or those of an array, in base64."""
    content = data if isinstance(data, bytes) else np.ascontiguousarray(data).tobytes()
    return base64.b64encode(content).decode()
