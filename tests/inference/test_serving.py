"""What the page is answered."""

import base64
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fidle_jax.errors import InputError
from fidle_jax.inference.load import Trained, load
from fidle_jax.inference.prepare import prepare
from fidle_jax.inference.serving import answered_layers, as_json, compile_answer
from fidle_jax.nn import make_model
from fidle_jax.nn.intermediates import compute_intermediates
from fidle_jax.train.config import ResolvedConfig
from tests.inference.drawn_digits import drawing


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def trained(trained_run):
    return load(trained_run)


@pytest.fixture(scope="module")
def answer(trained):
    return compile_answer(trained)


def untrained(name, dataset, image_shape, width=1.0) -> Trained:
    """A network whose weights are all one number, in the place of one that a run left."""
    model = make_model(name, 43, image_shape, width=width)
    image = jnp.zeros((1, *image_shape))
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)
    variables = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.01, leaf.dtype), shapes)
    config = ResolvedConfig().replace(dataset=dataset, model=name)
    return Trained(None, variables, model, image_shape, tuple(map(str, range(43))), config, {})


@pytest.mark.parametrize("digit", range(10))
def test_the_probabilities_are_those_that_the_network_predicts(trained, answer, digit):
    found = answer(png(drawing(digit)))
    expected = trained.predict(prepare(drawing(digit), trained)[None])[0]
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-4, atol=1e-6)


def test_what_is_seen_is_what_the_network_is_given(trained, answer):
    found = answer(png(drawing(3)))
    assert found.seen.shape == trained.image_shape
    np.testing.assert_array_equal(found.seen, prepare(drawing(3), trained))


def test_every_layer_is_shown_in_its_order_but_the_last(trained):
    assert answered_layers(trained) == [
        ("conv_1", (26, 26, 8)),
        ("pool_1", (13, 13, 8)),
        ("conv_2", (11, 11, 16)),
        ("pool_2", (5, 5, 16)),
        ("dense_1", (100,)),
    ]


def test_maps_are_the_layers_activations_from_the_least_to_the_greatest(trained, answer):
    found = answer(png(drawing(5)))
    inside = compute_intermediates(
        trained.model, trained.variables, found.seen / np.float32(255)
    ).maps
    activations = {key.split(" ")[1]: values for key, values in inside.items()}
    for (name, _), pixels in zip(answered_layers(trained), found.maps, strict=True):
        values = activations[name]
        values = values.transpose(2, 0, 1) if values.ndim == 3 else values
        expected = 255 * (values - values.min()) / np.ptp(values)
        # Rounded: what lies half-way may go to either side.
        np.testing.assert_allclose(pixels, expected, atol=0.51, err_msg=name)
        assert (pixels.min(), pixels.max()) == (0, 255)


@pytest.mark.parametrize(
    ("signs", "convolutions"),
    [
        (untrained("v1", "24x24-L", (24, 24, 1)), 2),
        (untrained("v3", "24x24-L", (24, 24, 1)), 3),
        (untrained("compact", "32x32-RGB", (32, 32, 3), width=0.25), 5),
        (untrained("dnn", "24x24-L", (24, 24, 1)), 0),
    ],
    ids=["v1", "v3", "compact", "dnn"],
)
def test_every_kind_of_network_is_answered_for(signs, convolutions):
    noise = np.random.default_rng(0).integers(0, 256, (60, 50, 3), np.uint8)
    found = compile_answer(signs)(png(Image.fromarray(noise)))
    layers = answered_layers(signs)
    assert sum(layer.name.startswith("conv") for layer in layers) == convolutions
    assert found.probabilities.shape == (43,)
    assert found.probabilities.sum() == pytest.approx(1, abs=1e-5)
    for layer, pixels in zip(layers, found.maps, strict=True):
        height_width, channels = layer.shape[:-1], layer.shape[-1]
        shown = (min(channels, 16), *height_width) if height_width else (channels,)
        assert (pixels.shape, pixels.dtype) == (shown, np.uint8)


def test_a_layer_of_one_value_is_dark(trained):
    silent = trained._replace(variables=jax.tree.map(jnp.zeros_like, trained.variables))
    found = compile_answer(silent)(png(drawing(1)))
    np.testing.assert_array_equal(found.probabilities, np.full(10, 0.1, np.float32))
    assert all(not pixels.any() for pixels in found.maps)


def test_json_has_the_same_bytes(answer):
    found = answer(png(drawing(8)))
    sent = as_json(found)
    assert sent["probabilities"] == found.probabilities.tolist()
    for text, pixels in zip([sent["seen"], *sent["maps"]], [found.seen, *found.maps], strict=True):
        assert base64.b64decode(text) == pixels.tobytes()


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 1500), tail=st.binary(max_size=60))
def test_damaged_bytes_are_told_in_a_line_or_answered(answer, cut, tail):
    message, total = "", 1
    try:
        total = answer(png(drawing(6))[:cut] + tail).probabilities.sum()
    except InputError as error:
        message = str(error)
    assert "\n" not in message
    assert total == pytest.approx(1, abs=1e-5)


def test_an_empty_sheet_is_no_digit(answer):
    with pytest.raises(InputError, match="no digit"):
        answer(png(Image.new("L", (280, 280))))
