"""Intermediates equal what the layers compute, and grids lie where the layers look."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fidle_jax import kernels
from fidle_jax.nn import MODELS
from fidle_jax.nn.intermediates import (
    Grid,
    compute_intermediates,
    last_feature_maps,
    resize_map,
)

SHAPES = {"cnn": (28, 28, 1), "dnn": (28, 28, 1)}
SIGNS = (24, 24, 3)


@functools.cache
def untrained(name):
    """Return a model, random variables and a random image."""
    rng = np.random.default_rng(0)
    image = rng.uniform(size=SHAPES.get(name, SIGNS)).astype(np.float32)
    model = MODELS[name]
    shapes = jax.eval_shape(model.init, jax.random.key(0), image[None])
    # Positive, like variances.
    fill = lambda leaf: rng.uniform(0.01, 0.1, leaf.shape).astype(np.float32)  # noqa: E731
    return model, jax.tree.map(fill, shapes), image


def test_maps_equal_the_outputs_of_the_layers_in_sequence():
    model, variables, image = untrained("cnn")
    params = variables["params"]
    expected, x = {}, image[None]
    for number in (1, 2):
        conv = params[f"conv_{number}"]
        x = kernels.conv(x, conv["kernel"], padding="valid", method="xla")
        expected[f"conv_{number}"] = x = jax.nn.relu(x + conv["bias"])
        expected[f"pool_{number}"] = x = kernels.max_pool(x, 2)
    expected["flatten"] = x = x.reshape(1, -1)
    x = x @ params["dense_1"]["kernel"] + params["dense_1"]["bias"]
    expected["dense_1"] = x = jax.nn.relu(x)
    expected["dense_2"] = x @ params["dense_2"]["kernel"] + params["dense_2"]["bias"]

    maps = compute_intermediates(model, variables, image).maps
    np.testing.assert_array_equal(maps["00 input"], image)
    assert list(maps)[1:] == [f"{n:02d} {name}" for n, name in enumerate(expected, start=1)]
    for found, name in zip(list(maps.values())[1:], expected, strict=True):
        np.testing.assert_allclose(found, expected[name][0], rtol=1e-5)


@pytest.mark.parametrize("name", ["dnn", "v2", "v3", "compact"])
def test_every_model_has_all_its_kernels_and_the_logits_at_the_end(name):
    model, variables, image = untrained(name)
    found = compute_intermediates(MODELS[name], variables, image)
    params = variables["params"]
    assert set(found.kernels) == {layer for layer in params if layer.startswith("conv")}
    for layer, kernel in found.kernels.items():
        np.testing.assert_array_equal(kernel, params[layer]["kernel"])
    logits = model.apply(variables, jnp.asarray(image)[None])[0]
    np.testing.assert_allclose(list(found.maps.values())[-1], logits, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("cnn", "conv_2"),
        ("dnn", None),
        ("v1", "conv_2"),
        ("v2", "conv_6"),
        ("v3", "conv_3"),
        ("compact", "norm_5"),  # its convolutions have no bias
    ],
)
def test_the_last_feature_maps_are_those_of_the_last_convolution(name, layer):
    model, _, image = untrained(name)
    found = last_feature_maps(model, image.shape)
    assert (found and found[0]) == layer


@pytest.mark.parametrize(("name", "layer", "index"), [("cnn", "conv_2", 5), ("v3", "conv_3", 5)])
def test_a_cell_lies_in_the_centre_of_its_receptive_field(name, layer, index):
    model, variables, image = untrained(name)
    height = len(image)
    rows = np.zeros((height, *image.shape), np.float32)
    rows[range(height), range(height)] = 1
    # With positive weights and no bias, a cell is positive only if its receptive field is.
    variables = jax.tree.map_with_path(
        lambda path, leaf: leaf * (path[-1].key not in ("bias", "mean")), variables
    )
    _, seen = model.apply(variables, jnp.asarray(rows), capture_intermediates=True)
    cells = seen["intermediates"][layer]["__call__"][0][:, index]
    field = np.flatnonzero(np.max(cells, axis=(1, 2)) > 0)
    assert field[0] > 0 or field[-1] < height - 1
    _, grid = last_feature_maps(model, image.shape)
    assert (field[0] + field[-1]) / 2 == grid.first + index * grid.step


def test_a_resized_map_equals_the_map_at_its_cells():
    values = np.random.default_rng(0).uniform(size=(3, 4)).astype(np.float32)
    resized = resize_map(values, Grid(2.0, 3.0), (12, 14, 1))
    np.testing.assert_allclose(resized[2:9:3, 2:12:3], values, atol=1e-6)
    np.testing.assert_allclose(resized[:3, :3], values[0, 0], atol=1e-6)
    np.testing.assert_allclose(resized[3, 2], (2 * values[0, 0] + values[1, 0]) / 3, atol=1e-6)
