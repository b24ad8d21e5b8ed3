"""Export a trained network to ONNX, layer by layer, with the names of the layers."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import fidle_jax
from fidle_jax.inference.export import Predict, metadata
from fidle_jax.inference.load import Run
from fidle_jax.nn.graph import INPUT, Node, trace_graph

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
    nodes = trace_graph(trained.model, trained.variables, trained.image_shape)
    graph = Graph()
    x = graph.add("Cast", ["images"], "images_float", to=TensorProto.FLOAT)
    x = graph.add("Div", [x, graph.constant("white", 255.0)], "scaled")
    graph.add("Transpose", [x], INPUT, perm=(0, 3, 1, 2))
    outputs_of = {INPUT: INPUT}
    for node in nodes:
        x = graph.add_layer(outputs_of[node.input], node)
        if node.residual is not None:
            x = graph.add("Add", [x, outputs_of[node.residual]], f"{x}/sum")
        outputs_of[node.name] = graph.add("Relu", [x], f"{x}/relu") if node.relu else x
    graph.add("Softmax", [outputs_of[nodes[-1].name]], "probabilities", axis=1)

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

    def __init__(self):
        self.nodes, self.weights = [], []

    def add(self, kind: str, inputs: list[str], name: str, **attributes) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, value) -> str:
        array = np.ascontiguousarray(value, np.float32)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def add_layer(self, x: str, node: Node) -> str:
        name, weights, options = node.name, dict(node.weights), node.options
        if node.kind == "conv":
            weights["kernel"] = weights["kernel"].transpose(3, 2, 0, 1)
        order = (
            ("scale", "bias", "mean", "var") if node.kind == "batch_norm" else ("kernel", "bias")
        )
        inputs = [x, *(self.constant(f"{name}/{k}", weights[k]) for k in order if k in weights)]
        match node.kind:
            case "contrast":
                return self.add_contrast(x, node)
            case "conv":
                sides, pad = weights["kernel"].shape[2:], PADDING[options["padding"]]
                return self.add("Conv", inputs, name, kernel_shape=sides, auto_pad=pad)
            case "max_pool":
                sides = (options["window"], options["window"])
                return self.add("MaxPool", inputs, name, kernel_shape=sides, strides=sides)
            case "batch_norm":
                return self.add("BatchNormalization", inputs, name, epsilon=options["epsilon"])
            case "flatten":
                # The rows of the next kernel are ordered with the channels last.
                x = self.add("Transpose", [x], f"{name}/channels_last", perm=(0, 2, 3, 1))
                return self.add("Flatten", [x], name, axis=1)
            case "dense":
                return self.add("Gemm", inputs, name)

    def add_contrast(self, x: str, node: Node) -> str:
        """Add the contrast normalisation, halved, and the grey image, which are the input of `Compact`."""
        half, two = self.constant("half", 0.5), self.constant("two", 2.0)
        sides = (node.options["window"], node.options["window"])

        def local_mean(x, name):
            grey = self.add("ReduceMean", [x], f"{name}/grey", axes=(1,))
            # By default, the padding does not count.
            return self.add("AveragePool", [grey], name, kernel_shape=sides, auto_pad="SAME_UPPER")

        centred = self.add("Sub", [x, local_mean(x, "contrast/mean")], "contrast/centred")
        squares = self.add("Mul", [centred, centred], "contrast/squares")
        noise = self.constant("contrast/noise", node.options["epsilon"] ** 2)
        variance = self.add(
            "Add", [local_mean(squares, "contrast/variance"), noise], "contrast/sum"
        )
        deviation = self.add("Sqrt", [variance], "contrast/deviation")
        contrast = self.add("Div", [centred, deviation], "contrast")
        light = self.add("Sub", [self.add("ReduceMean", [x], "grey", axes=(1,)), half], "light")
        colours = self.add("Div", [contrast, two], "colours")
        return self.add("Concat", [colours, light], node.name, axis=1)
