"""Layers equal their definitions and ignore the padding of a batch."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from fidle_jax.nn import BatchNorm, Conv, Dense, Dropout, Flatten, MaxPool
from fidle_jax.nn.layers import normalize_contrast

# Every function runs once, so compile it without optimization.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
KEY = jax.random.key(0)
IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 9, 8, 3)), jnp.float32)
PHOTOS = np.random.default_rng(0).uniform(size=(3, 12, 10, 3)).astype(np.float32)


def test_max_pool_returns_the_largest_value_of_each_square():
    pooled = MaxPool(2).apply({}, IMAGES)
    chex.assert_shape(pooled, (2, 4, 4, 3))
    squares = IMAGES[:, :8].reshape(2, 4, 2, 4, 2, 3)
    chex.assert_trees_all_equal(pooled, squares.max(axis=(2, 4)))


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_conv_equals_that_of_flax_with_relu(padding):
    active, variables = jit(Conv(4, padding=padding).init_with_output)(KEY, IMAGES)
    theirs = nn.Conv(4, (3, 3), padding=padding.upper())
    expected = jax.nn.relu(jit(theirs.apply)(variables, IMAGES))
    chex.assert_trees_all_close(active, expected, atol=1e-5)


def test_conv_accepts_images_of_a_narrower_type_than_its_weights():
    narrow = IMAGES.astype(jnp.bfloat16)
    output, variables = jax.eval_shape(Conv(4).init_with_output, KEY, narrow)
    assert {leaf.dtype for leaf in jax.tree.leaves((output, variables))} == {jnp.dtype("float32")}


def test_dense_is_a_product_a_bias_and_an_activation():
    x = IMAGES.reshape(2, -1)
    variables = jit(Dense(5).init)(KEY, x)
    params = variables["params"]
    params["bias"] = jnp.arange(5.0) - 2
    expected = np.asarray(x) @ np.asarray(params["kernel"]) + np.arange(5.0) - 2
    np.testing.assert_allclose(Dense(5).apply(variables, x), expected, atol=1e-4)
    active = Dense(5, jax.nn.relu).apply(variables, x)
    np.testing.assert_allclose(active, np.maximum(expected, 0), atol=1e-4)


@pytest.mark.parametrize(
    ("layer", "x", "limit"),
    [
        (Conv(16), jnp.ones((1, 5, 5, 8)), np.sqrt(6 / (9 * (8 + 16)))),
        (Dense(100), jnp.ones((1, 400)), np.sqrt(6 / (400 + 100))),
    ],
    ids=["conv", "dense"],
)
def test_weights_start_glorot_uniform_and_biases_zero_as_in_keras(layer, x, limit):
    params = jit(layer.init)(KEY, x)["params"]
    np.testing.assert_array_equal(params["bias"], 0)
    assert 0.98 * limit < jnp.abs(params["kernel"]).max() <= limit
    assert abs(params["kernel"].std() / (limit / np.sqrt(3)) - 1) < 0.05


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 7), (1, 3, 3, 1), (0, 3, 4, 5)])
def test_flatten_returns_one_row_per_example_even_for_an_empty_batch(shape):
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    flat = Flatten().apply({}, jnp.asarray(x))
    chex.assert_shape(flat, (shape[0], int(np.prod(shape[1:]))))
    np.testing.assert_array_equal(flat.ravel(), x.ravel())


def test_dropout_is_active_only_in_training():
    x, rngs = jnp.ones((4, 100)), {"dropout": KEY}
    assert Dropout(0.5).apply({}, x, train=False) is x
    assert Dropout(0.0).apply({}, x, train=True) is x
    assert (Dropout(0.5).apply({}, x, train=True, rngs=rngs) == 0).any()


def test_dropout_without_an_example_index_uses_the_index_in_the_batch():
    x, rngs = jnp.ones((4, 100)), {"dropout": KEY}
    given = Dropout(0.5).apply({}, x, train=True, rngs=rngs, example_index=jnp.arange(4))
    np.testing.assert_array_equal(Dropout(0.5).apply({}, x, train=True, rngs=rngs), given)


def test_two_dropout_layers_have_independent_masks():
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x):
            return [Dropout(0.5, name=name)(x, train=True) for name in ("one", "other")]

    one, other = Two().apply({}, jnp.ones((50, 200)), rngs={"dropout": KEY})
    agreement = ((one == 0) == (other == 0)).mean()
    assert abs(agreement - 0.5) < 4.5 * 0.5 / np.sqrt(one.size)


def test_batch_norm_equals_that_of_flax_without_padding():
    ours, theirs = BatchNorm(), nn.BatchNorm()
    variables = jit(ours.init, static_argnames="train")(KEY, IMAGES, train=True)
    for train in (True, False):
        y, changed = ours.apply(variables, IMAGES, train=train, mutable=["batch_stats"])
        expected, they_changed = theirs.apply(
            variables, IMAGES, use_running_average=not train, mutable=["batch_stats"]
        )
        chex.assert_trees_all_close(y, expected, atol=1e-5)
        chex.assert_trees_all_close(changed, they_changed, atol=1e-6)


def test_batch_norm_ignores_padding():
    norm = BatchNorm()
    variables = norm.init(KEY, IMAGES, train=True)
    filled = jnp.concatenate([IMAGES, 100 + IMAGES[:1]])
    alone, expected = norm.apply(variables, IMAGES, train=True, mutable=["batch_stats"])
    y, changed = norm.apply(
        variables,
        filled,
        train=True,
        example_index=jnp.array([0, 1, -1]),
        mutable=["batch_stats"],
    )
    chex.assert_trees_all_close((y[:2], changed), (alone, expected), atol=1e-5)
    nothing = {"train": True, "example_index": jnp.full(3, -1), "mutable": ["batch_stats"]}
    y, changed = norm.apply(variables, filled, **nothing)
    assert jnp.isfinite(y).all()
    chex.assert_trees_all_equal(changed["batch_stats"], variables["batch_stats"])


def _expected_contrast(image, window, epsilon):
    """Normalize one image pixel by pixel."""

    def mean(x, i, j):
        half = window // 2
        return x[max(i - half, 0) : i + half + 1, max(j - half, 0) : j + half + 1].mean()

    height, width, _ = image.shape
    pixels = [(i, j) for i in range(height) for j in range(width)]
    centred, result = np.empty_like(image), np.empty_like(image)
    for i, j in pixels:
        centred[i, j] = image[i, j] - mean(image, i, j)
    for i, j in pixels:
        result[i, j] = centred[i, j] / np.sqrt(mean(centred**2, i, j) + epsilon**2)
    return result


@pytest.mark.parametrize("window", [3, 5, 9, 31])
def test_contrast_is_normalized_by_the_window_within_the_image(window):
    y = normalize_contrast(jnp.asarray(PHOTOS), window, 0.1)
    for image, normalized in zip(PHOTOS, y, strict=True):
        np.testing.assert_allclose(normalized, _expected_contrast(image, window, 0.1), atol=1e-5)


def test_normalized_contrast_does_not_depend_on_the_light():
    y = normalize_contrast(jnp.asarray(PHOTOS), 5, 0.0)
    dim = normalize_contrast(jnp.asarray(0.3 * PHOTOS + 0.2), 5, 0.0)
    np.testing.assert_allclose(dim, y, atol=1e-3)


def test_less_contrast_than_noise_stays_small():
    y = normalize_contrast(jnp.asarray(0.5 + 1e-4 * PHOTOS), 5, 0.03)
    assert jnp.abs(y).max() < 0.01


def test_the_normalized_contrast_of_a_constant_image_is_zero():
    np.testing.assert_allclose(normalize_contrast(jnp.full((1, 8, 8, 1), 0.7)), 0, atol=1e-4)
