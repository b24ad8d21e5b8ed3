"""Models have the layers, parameters and limits of the course, fused or not."""

import functools
from typing import get_args

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fidle_jax import kernels
from fidle_jax.errors import InputError
from fidle_jax.nn import CNN, DNN, MODELS, Compact, ModelName, layer_table, make_model

KEY = jax.random.key(3)
# Every function runs once or twice, so compile it without optimization.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
IMAGES = jnp.asarray(np.random.default_rng(0).uniform(size=(6, 28, 28, 1)), jnp.float32)
SIGNS = jnp.asarray(np.random.default_rng(0).uniform(size=(6, 16, 16, 3)), jnp.float32)
SMALL = Compact(classes=5, blocks=((4,), (6, 6)), hidden=8, dropout=(0.0, 0.0))


def test_every_model_has_a_name_that_the_command_line_knows():
    assert set(get_args(ModelName)) == set(MODELS)


@functools.cache
def _variables(name="cnn"):
    return jit(make_model(name, 10, (28, 28, 1)).init)(KEY, IMAGES)


def _train_model(variables, x, index, key=KEY, name="cnn"):
    rates = (0.2, 0.2, 0.5)[: len(MODELS[name].dropout)]
    model = MODELS[name].clone(dropout=rates)
    return model.apply(variables, x, train=True, example_index=index, rngs={"dropout": key})


_train_logits = jit(_train_model, static_argnames="name")


def _logits_and_gradients(variables, x):
    logits, pullback = jax.vjp(lambda variables: CNN().apply(variables, x), variables)
    return logits, pullback(logits)


def test_the_accelerated_cnn_has_the_same_logits_and_gradients():
    x = IMAGES.at[:, :, :6].set(0)  # the blank margin of a digit
    fast, plain = (
        jit(function)(_variables(), x)
        for function in (kernels.accelerate(_logits_and_gradients), _logits_and_gradients)
    )
    chex.assert_shape(fast[0], (6, 10))
    chex.assert_trees_all_close(fast, plain, atol=1e-4, rtol=1e-4)


def test_each_convolution_with_pooling_of_the_cnn_is_fused_in_training():
    def loss(variables, x, index):
        return jnp.square(_train_model(variables, x, index)).mean()

    step = kernels.accelerate(jax.value_and_grad(loss))
    text = str(jax.make_jaxpr(step)(_variables(), IMAGES, jnp.arange(6)))
    assert text.count("= fidle_conv_max[") == 2
    for name in ("conv_general_dilated", "reduce_window", "select_and_scatter_add"):
        assert name not in text


def test_the_accelerated_cnn_drops_the_same_values_in_training():
    arguments = _variables(), IMAGES, jnp.arange(6)
    fast = jit(kernels.accelerate(_train_model))(*arguments)
    chex.assert_trees_all_close(fast, _train_logits(*arguments), atol=1e-4)


@pytest.mark.parametrize("name", ["cnn", "dnn"])
def test_the_logits_of_an_example_in_training_do_not_depend_on_its_index_in_the_batch(name):
    index, order = jnp.arange(6), np.array([4, 2, 0, 5, 1, 3])
    whole = _train_logits(_variables(name), IMAGES, index, name=name)
    permuted = _train_logits(_variables(name), IMAGES[order], index[order], name=name)
    chex.assert_trees_all_close(permuted, whole[order], atol=1e-5)
    other_masks = _train_logits(_variables(name), IMAGES[order], index, name=name)
    assert not np.allclose(other_masks, whole[order], atol=1e-3)


def test_dropout_depends_on_the_key_in_training_and_is_inactive_otherwise():
    index = jnp.arange(6)
    one, other = (
        _train_logits(_variables(), IMAGES, index, jax.random.key(seed)) for seed in (0, 1)
    )
    assert not np.allclose(one, other, atol=1e-3)
    logits = jit(CNN().apply)(_variables(), IMAGES)  # without a key
    bare = jit(functools.partial(CNN(dropout=(0.0, 0.0, 0.0)).apply, train=True))
    chex.assert_trees_all_close(bare(_variables(), IMAGES), logits, atol=1e-5)


def test_the_dnn_of_the_course_has_no_dropout():
    trained = DNN().apply(_variables("dnn"), IMAGES, train=True)  # without a key
    chex.assert_trees_all_close(trained, DNN().apply(_variables("dnn"), IMAGES), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "image_shape", "parameters"),
    [
        # 96·(1·9+1) + 192·(96·9+1) + 1500·(192·4·4+1) + 43·(1500+1)
        ("v1", (24, 24, 1), 960 + 166_080 + 4_609_500 + 64_543),
        # 64·(3·9+1) + 64·(64·9+1) + 128·(64·9+1) + 128·(128·9+1) + 256·(128·9+1) + 256·(256·9+1)
        # + 512·(256·4·4+1) + 43·(512+1)
        (
            "v2",
            (48, 48, 3),
            1_792 + 36_928 + 73_856 + 147_584 + 295_168 + 590_080 + 2_097_664 + 22_059,
        ),
        # 32·(1·25+1) + 64·(32·25+1) + 128·(64·25+1) + 512·(128·6·6+1) + 43·(512+1), and 2·c of each batch
        # norm. Keras also counts the running means and variances.
        (
            "v3",
            (24, 24, 1),
            832 + 51_264 + 204_928 + 2_359_808 + 22_059 + 4 * (32 + 64 + 128 + 512),
        ),
    ],
)
def test_the_networks_for_traffic_signs_have_the_parameters_of_the_course(
    name, image_shape, parameters
):
    model = make_model(name, 43, image_shape)
    x = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    logits, variables = jax.eval_shape(model.init_with_output, KEY, x)
    assert logits.shape == (2, 43)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == parameters


@pytest.mark.parametrize("name", ["cnn", "dnn"])
def test_an_empty_batch_has_no_logits(name):
    model = make_model(name, 10, (28, 28, 1))
    logits = jax.eval_shape(model.apply, _variables(name), IMAGES[:0])
    assert logits.shape == (0, 10)


@pytest.mark.parametrize("name", ["cnn", "dnn"])
@pytest.mark.parametrize("image_shape", [(10, 10, 1), (11, 17, 3), (48, 48, 3)])
def test_models_accept_other_image_sizes_channels_and_numbers_of_classes(name, image_shape):
    model = make_model(name, 43, image_shape)
    x = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    logits, _ = jax.eval_shape(model.init_with_output, KEY, x)
    assert logits.shape == (2, 43)


def test_given_dropout_rates_replace_those_of_the_model():
    assert make_model("cnn", 10, (28, 28, 1)).dropout == (0.2, 0.2, 0.5)
    assert make_model("cnn", 10, (28, 28, 1), [0, 0.1, 0.3]).dropout == (0, 0.1, 0.3)
    assert make_model("dnn", 10, (28, 28, 1), (0.1, 0.2)).dropout == (0.1, 0.2)


def test_only_compact_has_a_width():
    with pytest.raises(InputError, match="--width is 2; it must be 1 with --model v1"):
        make_model("v1", 43, (24, 24, 1), width=2.0)


def test_an_unknown_model_is_named_with_the_closest():
    with pytest.raises(InputError, match="unknown model 'cmn'; did you mean cnn"):
        make_model("cmn", 10, (28, 28, 1))


@pytest.mark.parametrize(
    ("name", "height", "width"),
    [("cnn", 9, 28), ("cnn", 28, 9), ("cnn", 1, 1), ("v1", 9, 24), ("v2", 48, 21)],
)
def test_images_too_small_for_the_poolings_are_named_and_fit_the_dnn(name, height, width):
    message = f"images of {height}x{width} are too small for the model '{name}'.*--model dnn"
    with pytest.raises(InputError, match=message):
        make_model(name, 10, (height, width, 1))
    assert make_model("dnn", 10, (height, width, 1)) == DNN(10)


@pytest.mark.parametrize("name", ["cnn", "v1", "v2", "v3"])
def test_the_smallest_image_is_the_smallest_that_fits(name):
    side = MODELS[name].smallest_image()
    shapes = [jax.ShapeDtypeStruct((1, s, s, 1), jnp.float32) for s in (side, side - 1)]
    model = make_model(name, 10, (side, side, 1))
    init = functools.partial(jax.eval_shape, model.init_with_output, KEY)
    assert init(shapes[0])[0].shape == (1, 10)
    with pytest.raises(ValueError, match="too small"):
        init(shapes[1])


@pytest.mark.parametrize(
    "rates", [(), (0.1,), (0.1, 0.1, 0.1, 0.1), (0.2, 0.2, 1.0), (-0.1, 0, 0), (float("nan"), 0, 0)]
)
def test_dropout_rates_of_the_wrong_number_or_size_are_named(rates):
    with pytest.raises(InputError, match="does not fit the model 'cnn'; expected 3 rates") as error:
        make_model("cnn", 10, (28, 28, 1), rates)
    assert "\n" not in str(error.value)


@functools.cache
def _small_variables():
    return jit(SMALL.init)(KEY, SIGNS)


def _apply_small(variables, x, index):
    return SMALL.apply(variables, x, train=True, example_index=index, mutable=["batch_stats"])


_train_small = jit(_apply_small)


def test_the_accelerated_compact_has_the_same_logits_and_statistics():
    arguments = _small_variables(), SIGNS, jnp.arange(6)
    fast, plain = jit(kernels.accelerate(_apply_small))(*arguments), _train_small(*arguments)
    chex.assert_shape(fast[0], (6, 5))
    chex.assert_trees_all_close(fast, plain, atol=1e-4, rtol=1e-4)


def test_padding_does_not_change_the_logits_and_statistics_of_compact():
    padded = jnp.concatenate([SIGNS, jnp.ones((2, 16, 16, 3))])
    index = jnp.array([0, 1, 2, 3, 4, 5, -1, -1])
    logits, changed = _train_small(_small_variables(), padded, index)
    alone, expected = _train_small(_small_variables(), SIGNS, jnp.arange(6))
    chex.assert_trees_all_close((logits[:6], changed), (alone, expected), atol=1e-4, rtol=1e-4)


def test_a_convolution_of_compact_that_keeps_the_channels_is_residual():
    variables = _small_variables()
    silent = jax.tree.map(jnp.copy, variables)
    for name in ("scale", "bias"):
        silent["params"]["norm_3"][name] *= 0
    look = jit(functools.partial(SMALL.apply, capture_intermediates=True))
    _, layers = look(silent, SIGNS)
    outputs = layers["intermediates"]
    before = jax.nn.relu(outputs["norm_2"]["__call__"][0])
    chex.assert_trees_all_close(outputs["flatten"]["__call__"][0], before.reshape(6, -1), atol=1e-6)


@pytest.mark.parametrize("shape", [(24, 24, 1), (32, 32, 3), (48, 48, 3)])
def test_compact_accepts_traffic_signs_of_every_size(shape):
    rows = layer_table(make_model("compact", 43, shape), shape)
    assert rows[-1].output_shape == (None, 43)
    assert rows[0].formula.startswith(f"32·{shape[-1] + 1}·5·5 = ")


def test_the_width_of_compact_multiplies_channels_and_neurons_but_not_classes():
    rows = layer_table(make_model("compact", 43, (16, 16, 3), width=0.5), (16, 16, 3))
    features = {row.name: row.output_shape[-1] for row in rows}
    assert [features[f"conv_{name}"] for name in ("1_1", "2_1", "2_2", "3_1")] == [16, 32, 48, 64]
    assert (features["dense_1"], features["dense_2"]) == (128, 43)


def test_the_narrowest_network_has_one_channel():
    rows = layer_table(make_model("tiny", 10, (28, 28, 1), width=0.05), (28, 28, 1))
    assert {row.name: row.output_shape[-1] for row in rows}["conv_1_1"] == 1


@pytest.mark.parametrize(("name", "parameters"), [("small", 46_114), ("tiny", 9_222)])
def test_small_networks_for_digits_receive_the_image_itself(name, parameters):
    rows = layer_table(make_model(name, 10, (28, 28, 1)), (28, 28, 1))
    assert sum(row.parameters for row in rows) == parameters
    assert "·1·5·5 = " in rows[0].formula


def test_compact_small_has_at_most_half_a_million_parameters_for_traffic_signs():
    shape = (32, 32, 3)
    rows = layer_table(make_model("compact_small", 43, shape), shape)
    assert sum(row.parameters for row in rows) == 469_931
