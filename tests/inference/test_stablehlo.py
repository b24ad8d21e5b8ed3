"""A network in StableHLO answers as it does here, whatever the batch, and is there for accelerators too."""

import re

import numpy as np
import pytest
from jax import export

from fidle_jax.inference.stablehlo import from_stablehlo, to_stablehlo
from tests.inference.random_networks import random_images, random_network


@pytest.mark.parametrize("name", ["cnn", "dnn", "compact"])
def test_networks_give_the_same_probabilities_in_batches_of_any_size(name):
    trained = random_network(name, width=0.25 if name == "compact" else 1.0)
    images = random_images(trained.image_shape, 5)
    expected = np.asarray(trained.predict(images))
    assert np.ptp(expected, axis=0).max() > 1e-2  # else anything would be the same
    predict = from_stablehlo(to_stablehlo(trained))
    np.testing.assert_allclose(predict(images), expected, atol=2e-6)
    np.testing.assert_allclose(predict(images[:2]), expected[:2], atol=2e-6)


@pytest.fixture(scope="module")
def exported():
    return export.deserialize(bytearray(to_stablehlo(random_network("cnn"))))


def test_one_file_is_for_cpus_gpus_and_tpus(exported):
    assert exported.platforms == ("cpu", "cuda", "tpu")


def test_it_takes_uint8_images_and_has_the_weights_within(exported):
    (images,) = exported.in_avals
    assert images.dtype == np.uint8
    assert images.shape[1:] == (15, 18, 1)
    (probabilities,) = exported.out_avals
    assert probabilities.dtype == np.float32
    assert probabilities.shape[0] == images.shape[0]
    assert probabilities.shape[1:] == (7,)


def test_convolutions_are_xlas_own_at_full_precision(exported):
    # Each stands there once for each platform.
    lines = {re.sub(" loc.*", "", line) for line in exported.mlir_module().splitlines()}
    convolutions = [line for line in lines if ".convolution(" in line]
    products = [line for line in lines if ".dot_general " in line]
    assert (len(convolutions), len(products)) == (2, 2)  # products are of the dense layers alone
    assert all(line.count("HIGHEST") == 2 for line in (*convolutions, *products))
