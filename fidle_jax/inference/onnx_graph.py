"""A network as an ONNX graph, layer by layer, under the layers' own names."""

import jax
import numpy as np
import onnx
import onnxruntime
from flax import linen as nn
from onnx import TensorProto, helper

import fidle_jax
from fidle_jax.errors import InputError
from fidle_jax.inference.agreement import Predict
from fidle_jax.inference.load import Trained
from fidle_jax.inference.metadata import metadata
from fidle_jax.inference.onnx_nodes import Graph
from fidle_jax.nn import BatchNorm, Compact, Conv, Dense, Dropout, Flatten, MaxPool
from fidle_jax.nn.layers import CONTRAST_EPSILON, CONTRAST_WINDOW

# Those of ONNX 1.12 (2022), which all later software reads.
OPSET, IR_VERSION = 17, 8


def to_onnx(trained: Trained) -> bytes:
    """The network from ``images``, uint8, to ``probabilities``; the batch may have any size.

    The file carries what `fidle_jax.inference.metadata.metadata` gives.

    Raises:
        InputError: the network is not made of this project's layers, one after the other, nor compact.
    """
    graph = Graph(trained.variables)
    x = graph.add("Cast", ["images"], "images_float", to=TensorProto.FLOAT)
    x = graph.add("Div", [x, graph.constant("white", 255.0)], "scaled")
    x = graph.add("Transpose", [x], "channels_first", perm=(0, 3, 1, 2))
    if isinstance(trained.model, Compact):
        logits = _add_compact(graph, x, trained.model)
    else:
        logits = _add_chain(graph, x, _chain(trained))
    graph.add("Softmax", [logits], "probabilities", axis=1)
    model = _model(graph, trained)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def from_onnx(data: bytes) -> Predict:
    """The function that `to_onnx` wrote, by onnxruntime on the CPU."""
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run(None, {"images": images})[0])


def _chain(trained: Trained) -> list[nn.Module]:
    """The layers in their order, each of which takes what the one before it gives."""
    layers, last = [], None

    def record(call, args, kwargs, context):
        nonlocal last
        output = call(*args, **kwargs)
        if context.module.path and context.method_name == "__call__":
            _check_follows(args[0] is last, context.module)
            layers.append(context.module)
            last = output
        return output

    def logits(images):
        nonlocal last
        last = images
        with nn.intercept_methods(record):
            output = trained.model.clone(fuse=False).apply(trained.variables, images)
        _check_follows(output is last, trained.model)
        return output

    jax.eval_shape(logits, jax.ShapeDtypeStruct((1, *trained.image_shape), np.float32))
    return layers


def _check_follows(follows: bool, module: nn.Module) -> None:
    if not follows:
        raise InputError(
            f"{module.name or type(module).__name__} does not follow the layer before it directly; only "
            "chains of layers, and compact, go into ONNX; take --format stablehlo"
        )


def _add_chain(graph: Graph, x: str, layers: list[nn.Module]) -> str:
    for layer in layers:
        x = _add_layer(graph, x, layer)
    return x


def _add_layer(graph: Graph, x: str, layer: nn.Module) -> str:
    match layer:
        case Conv(name=str(name), padding=padding, plain=plain):
            return graph.conv(x, name, padding, plain)
        case MaxPool(name=str(name), window=window):
            return graph.max_pool(x, name, window)
        case BatchNorm(name=str(name), epsilon=epsilon):
            return graph.batch_norm(x, name, epsilon)
        case Flatten(name=str(name)):
            return graph.flatten(x, name)
        case Dense(name=str(name), activation=None):
            return graph.dense(x, name)
        case Dense(name=str(name), activation=jax.nn.relu):
            return graph.relu(graph.dense(x, name), name)
        case Dropout():
            return x
    raise InputError(
        f"{layer.name} ({type(layer).__name__}) is no layer that goes into ONNX; take --format stablehlo"
    )


def _add_compact(graph: Graph, x: str, model: Compact) -> str:
    """As `Compact` itself: convolutions, pooled, normalized, added to what skips them, and rectified."""
    number = 0

    def normalized(x, residual=None):
        nonlocal number
        number += 1
        name = f"norm_{number}"
        x = graph.batch_norm(x, name, BatchNorm.epsilon)
        return graph.relu(
            x if residual is None else graph.add("Add", [x, residual], f"{name}/sum"), name
        )

    x = _add_contrast(graph, x)
    for i, block in enumerate(model.blocks, start=1):
        first = graph.conv(x, f"conv_{i}_1", "same", plain=True)
        x = normalized(graph.max_pool(first, f"pool_{i}", MaxPool.window))
        for j in range(2, len(block) + 1):
            name = f"conv_{i}_{j}"
            inputs, outputs = graph.array(name, "kernel").shape[2:]
            y = graph.conv(x, name, "same", plain=True)
            x = normalized(y, x if inputs == outputs else None)
    x = normalized(graph.dense(graph.flatten(x, "flatten"), "dense_1"))
    return graph.dense(x, "dense_2")


def _add_contrast(graph: Graph, x: str) -> str:
    """The image by `normalize_contrast`, halved, and its grey copy, as `Compact` sees them."""
    window, epsilon = CONTRAST_WINDOW, CONTRAST_EPSILON
    half, two = graph.constant("half", 0.5), graph.constant("two", 2.0)

    def local_mean(x, name):
        grey = graph.add("ReduceMean", [x], f"{name}/grey", axes=(1,))
        sides, pads = (window, window), (window // 2,) * 4
        # Without padding in its count: the mean over what of the window lies within the image.
        return graph.add("AveragePool", [grey], name, kernel_shape=sides, pads=pads)

    centred = graph.add("Sub", [x, local_mean(x, "contrast/mean")], "contrast/centred")
    squares = graph.add("Mul", [centred, centred], "contrast/squares")
    noise = graph.constant("contrast/noise", epsilon**2)
    variance = graph.add("Add", [local_mean(squares, "contrast/variance"), noise], "contrast/sum")
    deviation = graph.add("Sqrt", [variance], "contrast/deviation")
    contrast = graph.add("Div", [centred, deviation], "contrast")
    light = graph.add("Sub", [graph.add("ReduceMean", [x], "grey", axes=(1,)), half], "light")
    return graph.add(
        "Concat", [graph.add("Div", [contrast, two], "colours"), light], "seen", axis=1
    )


def _model(graph: Graph, trained: Trained) -> onnx.ModelProto:
    images = ("images", TensorProto.UINT8, ["batch", *trained.image_shape])
    outputs = ("probabilities", TensorProto.FLOAT, ["batch", len(trained.class_names)])
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            trained.config.model.name,
            [helper.make_tensor_value_info(*images)],
            [helper.make_tensor_value_info(*outputs)],
            graph.weights,
        ),
        producer_name="fidle-jax",
        producer_version=fidle_jax.__version__,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    helper.set_model_props(model, metadata(trained))
    return model
