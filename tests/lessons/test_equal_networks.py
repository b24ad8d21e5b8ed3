"""The two networks of dense_vs_cnn, and what they are trained on."""

import numpy as np
import pytest

from fidle_jax.data import Split
from fidle_jax.lessons import equal_networks
from fidle_jax.lessons.equal_networks import NETWORKS, accuracies_by_shift, learn, training_sizes
from fidle_jax.nn import layer_table


def test_the_networks_have_as_many_parameters_to_a_few_in_a_thousand():
    dense, convolutional = (
        sum(row.parameters for row in layer_table(NETWORKS[name], (28, 28, 1)))
        for name in ("DNN", "CNN")
    )
    assert convolutional == 42_358
    assert abs(dense - convolutional) / convolutional < 0.002


@pytest.mark.parametrize(
    ("examples", "sizes"),
    [(4000, [100, 300, 1000, 4000]), (60_000, [100, 300, 1000, 3000, 10_000, 30_000, 60_000])],
)
def test_sizes_go_up_to_all(examples, sizes):
    assert training_sizes(examples) == sizes


@pytest.fixture(scope="module")
def bars():
    """Images of two classes, one bright on the left and one on the right."""
    rng = np.random.default_rng(0)
    labels = np.arange(300, dtype=np.int32) % 2
    images = rng.integers(0, 60, (300, 6, 6, 1), dtype=np.uint8)
    images[labels == 0, :, :3] += 120
    images[labels == 1, :, 3:] += 120
    return Split(images, labels)


def test_a_network_learns_from_a_part_of_the_examples_alone(bars, monkeypatch):
    met = []

    def fit(task, train, **settings):
        met.append((train, settings))
        return equal_networks_fit(task, train, **settings)

    equal_networks_fit = equal_networks.fit
    monkeypatch.setattr(equal_networks, "fit", fit)
    variables = learn("DNN", bars, 20, steps=60, seed=1)
    (images, labels), settings = met[0]
    # Ten of each class, repeated until there are as many as in all.
    assert len(np.unique(images.reshape(300, -1), axis=0)) == 20
    np.testing.assert_array_equal(np.bincount(labels), [150, 150])
    assert settings["epochs"] * -(-300 // settings["batch_size"]) >= 60
    moved = accuracies_by_shift("DNN", variables, [[bars], [bars, bars]])
    np.testing.assert_array_equal(moved, [1, 1])
