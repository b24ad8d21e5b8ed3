"""What is seen in a network is what its layers have computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fidle_jax import kernels
from fidle_jax.nn import MODELS
from fidle_jax.nn.inside import Cells, cells_of, enlarge, last_maps, look_inside, plain

SHAPES = {"cnn": (28, 28, 1), "dnn": (28, 28, 1)}
SIGNS = (24, 24, 3)


def made(name):
    """A model, variables that were never trained, and an image."""
    rng = np.random.default_rng(0)
    image = rng.uniform(size=SHAPES.get(name, SIGNS)).astype(np.float32)
    model = plain(MODELS[name])
    shapes = jax.eval_shape(model.init, jax.random.key(0), image[None])
    # Above zero, as variances are.
    fill = lambda leaf: rng.uniform(0.01, 0.1, leaf.shape).astype(np.float32)  # noqa: E731
    return model, jax.tree.map(fill, shapes), image


def test_maps_are_what_the_layers_of_the_network_compute_one_after_the_other():
    model, variables, image = made("cnn")
    params = variables["params"]
    expected, x = {}, image[None]
    for number in (1, 2):
        conv = params[f"conv_{number}"]
        x = jax.nn.relu(
            kernels.conv(x, conv["kernel"], padding="valid", method="xla") + conv["bias"]
        )
        expected[f"conv_{number}"] = x
        expected[f"pool_{number}"] = x = kernels.max_pool(x, 2)
    expected["flatten"] = x = x.reshape(1, -1)
    expected["dense_1"] = x = jax.nn.relu(
        x @ params["dense_1"]["kernel"] + params["dense_1"]["bias"]
    )
    expected["dense_2"] = x @ params["dense_2"]["kernel"] + params["dense_2"]["bias"]

    maps = look_inside(model, variables, image).maps
    np.testing.assert_array_equal(maps["00 input"], image)
    assert list(maps)[1:] == [f"{n:02d} {name}" for n, name in enumerate(expected, start=1)]
    for found, name in zip(list(maps.values())[1:], expected, strict=True):
        np.testing.assert_allclose(found, expected[name][0], rtol=1e-5)


@pytest.mark.parametrize("name", ["dnn", "v2", "v3", "compact"])
def test_of_each_kind_of_model_there_are_all_kernels_and_at_the_end_the_logits(name):
    model, variables, image = made(name)
    inside = look_inside(MODELS[name], variables, image)
    params = variables["params"]
    assert set(inside.kernels) == {layer for layer in params if layer.startswith("conv")}
    for layer, kernel in inside.kernels.items():
        np.testing.assert_array_equal(kernel, params[layer]["kernel"])
    logits = model.apply(variables, jnp.asarray(image)[None])[0]
    np.testing.assert_allclose(list(inside.maps.values())[-1], logits, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("cnn", "conv_2"),
        ("dnn", None),
        ("v1", "conv_2"),
        ("v2", "conv_6"),
        ("v3", "conv_3"),
        # Its convolutions have no bias.
        ("compact", "norm_5"),
    ],
)
def test_the_last_maps_are_those_of_the_last_convolution(name, layer):
    model, variables, image = made(name)
    assert last_maps(model, variables, image.shape) == layer


@pytest.mark.parametrize(
    ("name", "layer", "place"),
    [("cnn", "conv_2", 5), ("v3", "conv_3", 5)],
)
def test_a_cell_lies_in_the_middle_of_the_pixels_that_it_sees(name, layer, place):
    model, variables, image = made(name)
    height = len(image)
    rows = np.zeros((height, *image.shape), np.float32)
    rows[range(height), range(height)] = 1
    # With weights above zero, and no bias, only what is lit in its window lights a cell.
    variables = jax.tree.map_with_path(
        lambda path, leaf: leaf * (path[-1].key not in ("bias", "mean")), variables
    )
    _, seen = model.apply(variables, jnp.asarray(rows), capture_intermediates=True)
    cells = seen["intermediates"][layer]["__call__"][0][:, place]
    window = np.flatnonzero(np.max(cells, axis=(1, 2)) > 0)
    assert window[0] > 0 or window[-1] < height - 1
    cells_of_layer = cells_of(model, image.shape, layer)
    assert (window[0] + window[-1]) / 2 == cells_of_layer.first + place * cells_of_layer.step


def test_a_map_is_enlarged_to_its_own_values_at_the_cells():
    maps = np.random.default_rng(0).uniform(size=(3, 4)).astype(np.float32)
    enlarged = enlarge(maps, Cells(2.0, 3.0), (12, 14, 1))
    np.testing.assert_allclose(enlarged[2:9:3, 2:12:3], maps, atol=1e-6)
    np.testing.assert_allclose(enlarged[:3, :3], maps[0, 0], atol=1e-6)
    np.testing.assert_allclose(enlarged[3, 2], (2 * maps[0, 0] + maps[1, 0]) / 3, atol=1e-6)
