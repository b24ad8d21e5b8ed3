"""Many images at once have the probabilities that each has alone."""

import numpy as np
import pytest

from fidle_jax.inference.classify import classify, likeliest
from fidle_jax.inference.load import load


@pytest.fixture(scope="module")
def trained(trained_run):
    return load(trained_run)


@pytest.mark.parametrize("number", [1, 5, 256, 257, 600])
def test_probabilities_are_those_of_the_test_whatever_the_number(trained_run, trained, number):
    with np.load(trained_run / "evaluation.npz") as evaluation:
        images, expected = evaluation["images"][:number], evaluation["probabilities"][:number]
    np.testing.assert_allclose(classify(trained, images), expected, atol=1e-6)


def test_the_likeliest_come_first_and_of_equals_the_first():
    probabilities = np.array([[0.1, 0.2, 0.7], [0.4, 0.2, 0.4]])
    labels, shares = likeliest(probabilities, 2)
    np.testing.assert_array_equal(labels, [[2, 1], [0, 2]])
    np.testing.assert_array_equal(shares, [[0.7, 0.2], [0.4, 0.4]])
