"""Weights in a safetensors file are the network's, to the bit, under names that any program can read."""

import json

import chex
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.inference.random_networks import random_network

pytest.importorskip("safetensors")

from fidle_jax.inference.weights import from_safetensors, to_safetensors


@pytest.mark.parametrize("name", ["cnn", "dnn", "v3", "compact"])
def test_what_is_read_is_what_was_written_to_the_bit(name):
    trained = random_network(name)
    chex.assert_trees_all_equal(from_safetensors(to_safetensors(trained)), trained.variables)


def _read_by_hand(data: bytes) -> tuple[dict, bytes]:
    """The format itself: the header's length in 8 bytes, the header as JSON, the arrays' bytes."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def test_arrays_have_the_layers_names_with_slashes_and_lie_there_as_they_are():
    trained = random_network("v3")
    header, body = _read_by_hand(to_safetensors(trained))
    arrays = flatten_dict(trained.variables, sep="/")
    assert set(header) == {"__metadata__", *arrays}
    assert "params/conv_1/kernel" in header
    assert "batch_stats/norm_4/var" in header
    for name, array in arrays.items():
        start, end = header[name]["data_offsets"]
        found = np.frombuffer(body[start:end], "<f4").reshape(header[name]["shape"])
        np.testing.assert_array_equal(found, array)


def test_the_metadata_names_the_model_its_classes_and_its_images():
    header, _ = _read_by_hand(to_safetensors(random_network("compact", width=0.3)))
    facts = header["__metadata__"]
    assert facts["model"] == "compact"
    assert json.loads(facts["classes"]) == [f"class {number}" for number in range(7)]
    assert json.loads(facts["image_shape"]) == [19, 16, 3]
