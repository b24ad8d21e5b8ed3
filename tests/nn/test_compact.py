"""The compact network: fused as unfused, batch norms over whole batches, residual where it can be."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fidle_jax.nn import Compact, layer_table, make_model

KEY = jax.random.key(3)
IMAGES = jnp.asarray(np.random.default_rng(0).uniform(size=(6, 16, 16, 3)), jnp.float32)
SMALL = Compact(classes=5, blocks=((4,), (6, 6)), hidden=8, dropout=(0.0, 0.0))
# Each program runs once or twice: compiling without optimization takes half the time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@functools.cache
def _variables():
    return jit(SMALL.init)(KEY, IMAGES)


@functools.partial(jit, static_argnames="fuse")
def _train(variables, x, index, fuse=True):
    model = SMALL.clone(fuse=fuse)
    return model.apply(variables, x, train=True, example_index=index, mutable=["batch_stats"])


def test_fused_and_unfused_have_one_set_of_weights_and_the_same_logits_and_statistics():
    fused, unfused = (_train(_variables(), IMAGES, jnp.arange(6), fuse) for fuse in (True, False))
    chex.assert_shape(fused[0], (6, 5))
    chex.assert_trees_all_close(fused, unfused, atol=1e-4, rtol=1e-4)


def test_what_fills_a_batch_up_changes_nothing():
    padded = jnp.concatenate([IMAGES, jnp.ones((2, 16, 16, 3))])
    index = jnp.array([0, 1, 2, 3, 4, 5, -1, -1])
    logits, changed = _train(_variables(), padded, index)
    alone, expected = _train(_variables(), IMAGES, jnp.arange(6))
    chex.assert_trees_all_close((logits[:6], changed), (alone, expected), atol=1e-4, rtol=1e-4)


def test_a_convolution_that_keeps_the_channels_is_residual():
    variables = _variables()
    silent = jax.tree.map(jnp.copy, variables)
    for name in ("scale", "bias"):
        silent["params"]["norm_3"][name] *= 0
    look = jit(functools.partial(SMALL.apply, capture_intermediates=True))
    _, layers = look(silent, IMAGES)
    outputs = layers["intermediates"]
    before = jax.nn.relu(outputs["norm_2"]["__call__"][0])
    chex.assert_trees_all_close(outputs["flatten"]["__call__"][0], before.reshape(6, -1), atol=1e-6)


@pytest.mark.parametrize("shape", [(24, 24, 1), (32, 32, 3), (48, 48, 3)])
def test_it_takes_traffic_signs_of_every_size(shape):
    rows = layer_table(make_model("compact", 43, shape), shape)
    assert rows[-1].output_shape == (None, 43)
    assert rows[0].formula.startswith(f"32·{shape[-1] + 1}·5·5 = ")


def test_a_width_multiplies_kernels_and_neurons_and_leaves_the_classes():
    rows = layer_table(make_model("compact", 43, (16, 16, 3), width=0.5), (16, 16, 3))
    features = {row.layer.split(" ")[0]: row.output_shape[-1] for row in rows}
    assert [features[f"conv_{name}"] for name in ("1_1", "2_1", "2_2", "3_1")] == [16, 32, 48, 64]
    assert (features["dense_1"], features["dense_2"]) == (128, 43)
