"""The layers of a trained network as plain data, for programs that compute it without JAX."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict
from jaxtyping import PyTree

from fidle_jax.errors import InputError
from fidle_jax.nn.layers import (
    CONTRAST_EPSILON,
    CONTRAST_WINDOW,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
)
from fidle_jax.nn.models import Compact
from fidle_jax.nn.table import trace_layers

INPUT = "image"  # name of the images, with values from 0 to 1


@dataclasses.dataclass(frozen=True)
class Node:
    """A layer. It computes an output from the output of ``input``, channels last.

    Kinds and their options:

    - contrast: the input of `Compact`: `normalize_contrast`, halved, and the grey image minus 0.5
    - conv: ``padding`` "same" or "valid"; weights kernel (height, width, in, out) and perhaps bias
    - max_pool: ``window``, which is also the stride
    - batch_norm: ``epsilon``; weights scale, bias, mean, var
    - flatten
    - dense: weights kernel (in, out), bias

    If ``residual`` is a name, the output of that layer is added. If ``relu``, the result is rectified.
    """

    kind: Literal["contrast", "conv", "max_pool", "batch_norm", "flatten", "dense"]
    name: str
    input: str
    weights: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    residual: str | None = None
    relu: bool = False


def trace_graph(
    model: nn.Module, variables: PyTree, image_shape: tuple[int, int, int]
) -> list[Node]:
    """Return the layers of a network in order, without dropout. The last one computes the logits.

    Raises:
        InputError: The network is neither `Compact` nor a sequence of this project's layers.
    """
    arrays: dict[str, Any] = dict(flatten_dict(jax.tree.map(np.asarray, variables), sep="/"))
    if isinstance(model, Compact):
        return _compact(model, arrays)
    nodes, last = [], INPUT
    for layer in _sequence(model, image_shape):
        if not isinstance(layer, Dropout):
            nodes.append(_node(layer, last, arrays))
            last = nodes[-1].name
    return nodes


def _node(layer: nn.Module, last: str, arrays: Mapping[str, np.ndarray]) -> Node:
    weights = {
        path.rpartition("/")[2]: value
        for path, value in arrays.items()
        if path.partition("/")[2].rpartition("/")[0] == layer.name
    }
    match layer:
        case Conv(name=str(name), padding=("same" | "valid") as padding):
            return Node("conv", name, last, weights, {"padding": padding}, relu=not layer.plain)
        case MaxPool(name=str(name), window=window):
            return Node("max_pool", name, last, options={"window": window})
        case BatchNorm(name=str(name), epsilon=epsilon):
            return Node("batch_norm", name, last, weights, {"epsilon": epsilon})
        case Flatten(name=str(name)):
            return Node("flatten", name, last)
        case Dense(name=str(name), activation=None | jax.nn.relu):
            return Node("dense", name, last, weights, relu=layer.activation is not None)
    raise InputError(
        f"{layer.name} ({type(layer).__name__}) has no ONNX or HTML export; use --format stablehlo"
    )


def _sequence(model: nn.Module, image_shape: tuple[int, int, int]) -> list[nn.Module]:
    """Return the layers in order. Each one must receive exactly the output of the one before it."""
    calls: list[tuple[nn.Module, Any, Any]] = []  # module, input and output
    trace_layers(model, image_shape, lambda *call: calls.append(call))
    *layers, (model, last, logits) = calls
    for module, value, output in (*layers, (model, logits, None)):
        if value is not last:
            raise InputError(
                f"the input of {module.name or type(module).__name__} is not the output of the "
                "previous layer; ONNX and HTML export support only sequential models and the model "
                "compact; use --format stablehlo"
            )
        last = output
    return [module for module, _, _ in layers]


def _compact(model: Compact, arrays: Mapping[str, np.ndarray]) -> list[Node]:
    """Return the layers of `Compact`, with its skip connections and contrast normalisation."""
    nodes, norms = [], 0
    if model.contrast:
        options = {"window": CONTRAST_WINDOW, "epsilon": CONTRAST_EPSILON}
        nodes.append(Node("contrast", "input", INPUT, options=options))

    def last() -> str:
        return nodes[-1].name if nodes else INPUT

    def add(layer: nn.Module, residual: str | None = None) -> None:
        relu = isinstance(layer, BatchNorm)
        node = _node(layer, last(), arrays)
        nodes.append(dataclasses.replace(node, residual=residual, relu=relu))

    def norm(residual: str | None = None) -> None:
        nonlocal norms
        norms += 1
        add(BatchNorm(name=f"norm_{norms}"), residual)

    for i, block in enumerate(model.blocks, start=1):
        for j, features in enumerate(block, start=1):
            name, before = f"conv_{i}_{j}", last()
            add(Conv(features, padding="same", plain=True, name=name))
            if j == 1:
                add(MaxPool(name=f"pool_{i}"))
            inputs, outputs = arrays[f"params/{name}/kernel"].shape[2:]
            norm(before if j > 1 and inputs == outputs else None)
    add(Flatten(name="flatten"))
    add(Dense(model.hidden, name="dense_1"))
    norm()
    add(Dense(model.classes, name="dense_2"))
    return nodes
