"""Export a trained network to ONNX, layer by layer, with the names of the layers."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import onnx
import onnxruntime
from flax import linen as nn
from flax.traverse_util import flatten_dict
from onnx import TensorProto, helper, numpy_helper

import fidle_jax
from fidle_jax.errors import InputError
from fidle_jax.inference.export import Predict, metadata
from fidle_jax.inference.load import Run
from fidle_jax.nn import BatchNorm, Compact, Conv, Dense, Dropout, Flatten, MaxPool
from fidle_jax.nn.layers import CONTRAST_EPSILON, CONTRAST_WINDOW
from fidle_jax.nn.table import trace_layers

# If the total is odd, ONNX and XLA pad more at the end.
PADDING = {"same": "SAME_UPPER", "valid": "VALID"}
# The versions of ONNX 1.12 (2022), which all later software reads.
OPSET, IR_VERSION = 17, 8


def to_onnx(trained: Run) -> bytes:
    """Serialise the network from ``images`` (uint8) to ``probabilities``, for any batch size.

    The graph does not resize images, because ONNX rounds differently than Pillow, and because decoding and
    EXIF rotation need the file. The example program does it.

    Raises:
        InputError: The network is neither `Compact` nor a sequence of this project's layers.
    """
    graph = Graph(trained.variables)
    x = graph.add("Cast", ["images"], "images_float", to=TensorProto.FLOAT)
    x = graph.add("Div", [x, graph.constant("white", 255.0)], "scaled")
    x = graph.add("Transpose", [x], "channels_first", perm=(0, 3, 1, 2))
    if isinstance(trained.model, Compact):
        logits = _add_compact(graph, x, trained.model)
    else:
        logits = x
        for layer in _sequence(trained):
            logits = graph.add_layer(logits, layer)
    graph.add("Softmax", [logits], "probabilities", axis=1)

    describe, classes = helper.make_tensor_value_info, len(trained.class_names)
    images = describe("images", TensorProto.UINT8, ["batch", *trained.image_shape])
    outputs = describe("probabilities", TensorProto.FLOAT, ["batch", classes])
    name = trained.config.model.name
    model = helper.make_model(
        helper.make_graph(graph.nodes, name, [images], [outputs], graph.weights),
        producer_name="fidle-jax",
        producer_version=fidle_jax.__version__,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    helper.set_model_props(model, metadata(trained))
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def from_onnx(data: bytes) -> Predict:
    """Return the function that `to_onnx` serialised, computed by onnxruntime on the CPU."""
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run(None, {"images": images})[0])


class Graph:
    """Nodes and weights of an ONNX graph. Channels come before height and width.

    Each method returns the name of its output. The output of a layer has the name of the layer.
    """

    def __init__(self, variables: Mapping[str, Any]):
        self.nodes, self.weights = [], []
        self.arrays = {
            name: np.asarray(leaf) for name, leaf in flatten_dict(variables, sep="/").items()
        }

    def add(self, kind: str, inputs: list[str], name: str, **attributes) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, value) -> str:
        array = np.ascontiguousarray(value, np.float32)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def param(self, layer: str, name: str, collection: str = "params") -> str:
        return self.constant(f"{layer}/{name}", self.arrays[f"{collection}/{layer}/{name}"])

    def add_layer(self, x: str, layer: nn.Module) -> str:
        match layer:
            case Conv(name=str(name), padding=("same" | "valid") as padding):
                kernel = self.arrays[f"params/{name}/kernel"]
                inputs = [x, self.constant(f"{name}/kernel", kernel.transpose(3, 2, 0, 1))]
                if not layer.plain:
                    inputs.append(self.param(name, "bias"))
                sides, pad = kernel.shape[:2], PADDING[padding]
                x = self.add("Conv", inputs, name, kernel_shape=sides, auto_pad=pad)
                return x if layer.plain else self.relu(x)
            case MaxPool(name=str(name), window=window):
                sides = (window, window)
                return self.add("MaxPool", [x], name, kernel_shape=sides, strides=sides)
            case BatchNorm(name=str(name)):
                inputs = [x, self.param(name, "scale"), self.param(name, "bias")]
                inputs += [self.param(name, each, "batch_stats") for each in ("mean", "var")]
                return self.add("BatchNormalization", inputs, name, epsilon=layer.epsilon)
            case Flatten(name=str(name)):
                # The rows of the next kernel are ordered with the channels last.
                x = self.add("Transpose", [x], f"{name}/channels_last", perm=(0, 2, 3, 1))
                return self.add("Flatten", [x], name, axis=1)
            case Dense(name=str(name), activation=None | jax.nn.relu):
                inputs = [x, self.param(name, "kernel"), self.param(name, "bias")]
                x = self.add("Gemm", inputs, name)
                return x if layer.activation is None else self.relu(x)
            case Dropout():
                return x
        raise InputError(
            f"{layer.name} ({type(layer).__name__}) has no ONNX export; use --format stablehlo"
        )

    def relu(self, x: str) -> str:
        return self.add("Relu", [x], f"{x}/relu")


def _sequence(trained: Run) -> list[nn.Module]:
    """Return the layers in order. Each one must receive exactly the output of the one before it."""
    calls: list[tuple[nn.Module, Any, Any]] = []  # module, input and output
    trace_layers(trained.model, trained.image_shape, lambda *call: calls.append(call))
    *layers, (model, last, logits) = calls
    for module, value, output in (*layers, (model, logits, None)):
        if value is not last:
            raise InputError(
                f"the input of {module.name or type(module).__name__} is not the output of the "
                "previous layer; ONNX export supports only sequential models and the model compact; "
                "use --format stablehlo"
            )
        last = output
    return [module for module, _, _ in layers]


def _add_compact(graph: Graph, x: str, model: Compact) -> str:
    """Add the layers of `Compact`, with its skip connections and contrast normalisation."""
    norms = 0

    def norm_relu(x, residual=None):
        nonlocal norms
        norms += 1
        x = graph.add_layer(x, BatchNorm(name=f"norm_{norms}"))
        return graph.relu(x if residual is None else graph.add("Add", [x, residual], f"{x}/sum"))

    def conv(x, i, j):
        layer = Conv(model.blocks[i - 1][j - 1], padding="same", plain=True, name=f"conv_{i}_{j}")
        return graph.add_layer(x, layer)

    x = _add_contrast(graph, x)
    for i, block in enumerate(model.blocks, start=1):
        x = norm_relu(graph.add_layer(conv(x, i, 1), MaxPool(name=f"pool_{i}")))
        for j in range(2, len(block) + 1):
            inputs, outputs = graph.arrays[f"params/conv_{i}_{j}/kernel"].shape[2:]
            x = norm_relu(conv(x, i, j), x if inputs == outputs else None)
    x = graph.add_layer(x, Flatten(name="flatten"))
    x = norm_relu(graph.add_layer(x, Dense(model.hidden, name="dense_1")))
    return graph.add_layer(x, Dense(model.classes, name="dense_2"))


def _add_contrast(graph: Graph, x: str) -> str:
    """Add `normalize_contrast`, halved, and the grey image, which are the input of `Compact`."""
    half, two = graph.constant("half", 0.5), graph.constant("two", 2.0)

    def local_mean(x, name):
        grey = graph.add("ReduceMean", [x], f"{name}/grey", axes=(1,))
        sides = CONTRAST_WINDOW, CONTRAST_WINDOW
        # By default, the padding does not count.
        return graph.add("AveragePool", [grey], name, kernel_shape=sides, auto_pad="SAME_UPPER")

    centred = graph.add("Sub", [x, local_mean(x, "contrast/mean")], "contrast/centred")
    squares = graph.add("Mul", [centred, centred], "contrast/squares")
    noise = graph.constant("contrast/noise", CONTRAST_EPSILON**2)
    variance = graph.add("Add", [local_mean(squares, "contrast/variance"), noise], "contrast/sum")
    deviation = graph.add("Sqrt", [variance], "contrast/deviation")
    contrast = graph.add("Div", [centred, deviation], "contrast")
    light = graph.add("Sub", [graph.add("ReduceMean", [x], "grey", axes=(1,)), half], "light")
    colours = graph.add("Div", [contrast, two], "colours")
    return graph.add("Concat", [colours, light], "input", axis=1)
