"""The nodes of an ONNX graph: one method for each layer that this project's networks have."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict
from onnx import helper, numpy_helper

from fidle_jax.errors import InputError


class Graph:
    """Nodes and weights as they come; images within have their channels before height and width.

    Every method adds a layer and gives the name of its output, which is that of the layer.
    """

    def __init__(self, variables: Mapping[str, Any]):
        self.nodes, self.weights = [], []
        self._arrays = {
            name: np.asarray(leaf) for name, leaf in flatten_dict(variables, sep="/").items()
        }

    def add(self, kind: str, inputs: list[str], name: str, **attributes) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, value) -> str:
        array = np.ascontiguousarray(value, np.float32)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def array(self, layer: str, name: str, collection: str = "params") -> np.ndarray:
        return self._arrays[f"{collection}/{layer}/{name}"]

    def conv(
        self, x: str, name: str, padding: str | Sequence[tuple[int, int]], plain: bool = False
    ) -> str:
        kernel = self.array(name, "kernel")
        attributes = {"kernel_shape": kernel.shape[:2], "pads": _pads(name, kernel, padding)}
        weights = [self.constant(f"{name}/kernel", kernel.transpose(3, 2, 0, 1))]
        if plain:
            return self.add("Conv", [x, *weights], name, **attributes)
        weights.append(self.constant(f"{name}/bias", self.array(name, "bias")))
        return self.relu(self.add("Conv", [x, *weights], name, **attributes), name)

    def relu(self, x: str, name: str) -> str:
        return self.add("Relu", [x], f"{name}/relu")

    def max_pool(self, x: str, name: str, window: int) -> str:
        sides = (window, window)
        return self.add("MaxPool", [x], name, kernel_shape=sides, strides=sides)

    def batch_norm(self, x: str, name: str, epsilon: float) -> str:
        learned = [
            self.constant(f"{name}/{part}", self.array(name, part)) for part in ("scale", "bias")
        ]
        running = [
            self.constant(f"{name}/{part}", self.array(name, part, "batch_stats"))
            for part in ("mean", "var")
        ]
        return self.add("BatchNormalization", [x, *learned, *running], name, epsilon=epsilon)

    def flatten(self, x: str, name: str) -> str:
        # The kernel of the next layer has its rows in the order of channels last.
        x = self.add("Transpose", [x], f"{name}/channels_last", perm=(0, 2, 3, 1))
        return self.add("Flatten", [x], name, axis=1)

    def dense(self, x: str, name: str) -> str:
        weights = [
            self.constant(f"{name}/{part}", self.array(name, part)) for part in ("kernel", "bias")
        ]
        return self.add("Gemm", [x, *weights], name)


def _pads(
    name: str, kernel: np.ndarray, padding: str | Sequence[tuple[int, int]]
) -> tuple[int, ...]:
    """What is added above, at the left, below, at the right."""
    if padding not in ("valid", "same"):
        raise InputError(
            f"{name} is padded by {padding!r}; only valid and same go into ONNX; take --format stablehlo"
        )
    missing = [side - 1 if padding == "same" else 0 for side in kernel.shape[:2]]
    before = [each // 2 for each in missing]
    return *before, *(each - first for each, first in zip(missing, before, strict=True))
