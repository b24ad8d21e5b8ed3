"""A network exported to ONNX gives the same probabilities under onnxruntime."""

import json

import flax.linen as nn
import jax
import numpy as np
import pytest

from fidle_jax.errors import InputError
from fidle_jax.nn import DNN, Conv, Dense, Flatten
from fidle_jax.train.config import ResolvedConfig
from tests.inference.random_networks import as_trained, random_images, random_network

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from fidle_jax.inference.onnx_export import from_onnx, to_onnx  # noqa: E402

NETWORKS = ("cnn", "dnn", "v1", "v2", "v3", "compact", "tiny")


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_gives_the_same_probabilities(name):
    trained = random_network(name)
    images = random_images(trained.image_shape, 5)
    expected = np.asarray(trained.predict(images))
    assert np.ptp(expected, axis=0).max() > 1e-2  # otherwise, any network would pass
    np.testing.assert_allclose(from_onnx(to_onnx(trained))(images), expected, atol=2e-6)


def test_any_batch_size_is_accepted():
    trained = random_network("cnn")
    predict = from_onnx(to_onnx(trained))
    images = random_images(trained.image_shape, 9)
    one_by_one = np.concatenate([predict(images[i : i + 1]) for i in range(9)])
    np.testing.assert_allclose(predict(images), one_by_one, atol=1e-6)


def test_a_compact_network_of_another_width_gives_the_same_probabilities():
    trained = random_network("compact", width=0.3)
    images = random_images(trained.image_shape, 2)
    found = from_onnx(to_onnx(trained))(images)
    np.testing.assert_allclose(found, trained.predict(images), atol=2e-6)


def test_the_file_describes_its_input_its_output_and_its_classes():
    trained = random_network("v3")
    model = onnx.load_from_string(to_onnx(trained))
    (images,), (probabilities,) = model.graph.input, model.graph.output
    assert (images.name, probabilities.name) == ("images", "probabilities")
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    dims = [each.dim_param or each.dim_value for each in images.type.tensor_type.shape.dim]
    assert dims == ["batch", *trained.image_shape]
    facts = {each.key: each.value for each in model.metadata_props}
    assert facts["model"] == "v3"
    assert json.loads(facts["classes"]) == list(trained.class_names)
    assert json.loads(facts["image_shape"]) == list(trained.image_shape)


def test_layers_keep_their_names_and_dropout_is_removed():
    graph = onnx.load_from_string(to_onnx(random_network("v3"))).graph
    kinds = {node.name: node.op_type for node in graph.node}
    assert kinds["conv_2"] == "Conv"
    assert kinds["norm_2"] == "BatchNormalization"
    assert kinds["pool_2"] == "MaxPool"
    assert kinds["dense_2"] == "Gemm"
    assert not any("dropout" in name for name in kinds)


def test_the_graph_is_of_an_opset_that_older_runtimes_read():
    model = onnx.load_from_string(to_onnx(random_network("dnn")))
    assert [each.version for each in model.opset_import] == [17]
    assert model.ir_version == 8


class _Even(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
        x = Conv(3, kernel_size=(2, 4), padding="same", name="conv_1")(x)
        return Dense(7, name="dense_1")(Flatten(name="flatten")(x))


def test_even_kernel_sizes_are_padded_in_the_same_way():
    trained = as_trained(_Even(), (5, 6, 1), ResolvedConfig())
    images = random_images((5, 6, 1), 4)
    found = from_onnx(to_onnx(trained))(images)
    np.testing.assert_allclose(found, trained.predict(images), atol=2e-6)


class _Residual(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
        x = Flatten(name="flatten")(x)
        x = x + Dense(x.shape[-1], name="dense_1")(x)
        return Dense(7, name="dense_2")(x)


class _Rectified(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
        return jax.nn.relu(Dense(7, name="dense_1")(Flatten(name="flatten")(x)))


class _Foreign(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
        return nn.Dense(7, name="dense_1")(Flatten(name="flatten")(x))


class _Shifted(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
        x = Conv(3, padding=((1, 1), (0, 2)), name="conv_1")(x)
        return Dense(7, name="dense_1")(Flatten(name="flatten")(x))


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (_Residual(), "dense_2"),
        (_Rectified(), "_Rectified"),
        (_Foreign(), "dense_1"),
        (_Shifted(), "conv_1"),
        (DNN(classes=7, activation=jax.nn.sigmoid), "dense_1"),
    ],
)
def test_a_network_that_is_no_sequence_of_known_layers_is_an_error(model, named):
    with pytest.raises(InputError, match=named) as caught:
        to_onnx(as_trained(model, (5, 6, 1), ResolvedConfig()))
    assert "\n" not in str(caught.value)
