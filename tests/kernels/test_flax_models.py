"""Networks of Flax's own layers compute the same with this package's convolutions in XLA's place."""

import functools

import chex
import jax
import numpy as np
import pytest

from experiments._flax_models import (
    MnistCnn,
    MobileNet,
    NnxMnistCnn,
    ResNet,
    VoxNet,
    WaveNet,
    linen_problem,
    nnx_problem,
)
from fidle_jax import kernels

BATCH = 4
SMALL = {
    "mnist_cnn": linen_problem(MnistCnn, (8, 9, 1), BATCH),
    "mnist_cnn_nnx": nnx_problem(NnxMnistCnn, (8, 9, 1), BATCH),
    "resnet": linen_problem(functools.partial(ResNet, (1, 1), 4), (8, 8, 3), BATCH),
    "mobilenet": linen_problem(functools.partial(MobileNet, ((16, 2),)), (8, 8, 3), BATCH),
    "wavenet_1d": linen_problem(functools.partial(WaveNet, (1, 2), 8), (32, 1), BATCH),
    "voxnet_3d": linen_problem(functools.partial(VoxNet, 4), (13, 12, 12, 1), BATCH),
}
CONVOLUTIONS = {
    "xla": jax.lax.conv_general_dilated,
    "auto": kernels.conv_general_dilated,
    "im2col": functools.partial(kernels.conv_general_dilated, method="im2col"),
}


@pytest.mark.parametrize("name", SMALL)
def test_outputs_and_gradients_are_those_with_the_convolutions_of_xla(name):
    problem = SMALL[name]
    networks = {label: problem.network(conv) for label, conv in CONVOLUTIONS.items()}
    rng = np.random.default_rng(0)
    parameters = jax.tree.map(
        lambda leaf: rng.normal(0, np.prod(leaf.shape[:-1]) ** -0.5, leaf.shape).astype("f"),
        jax.eval_shape(networks["xla"].init, jax.random.key(0)),
    )
    x = rng.normal(size=(BATCH, *problem.image)).astype("f")
    labels = rng.integers(0, 10, BATCH)

    def run(network):
        return network.logits(parameters, x), jax.grad(network.loss)(parameters, x, labels)

    cheap = {"xla_backend_optimization_level": 0}
    results = {
        label: jax.jit(run, static_argnums=0, compiler_options=cheap)(network)
        for label, network in networks.items()
    }
    chex.assert_trees_all_close(results["auto"], results["xla"], atol=1e-5, rtol=1e-5)
    chex.assert_trees_all_close(results["im2col"], results["xla"], atol=1e-5, rtol=1e-5)
