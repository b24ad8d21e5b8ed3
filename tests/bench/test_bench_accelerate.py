"""Networks of Flax's own layers compute the same with this package's convolutions as with XLA's."""

import functools

import bench_flax_models as bench
import chex
import jax
import numpy as np
import pytest

from fidle_jax import kernels

BATCH = 4
BOTTLENECK = ((1, 1), (3, 1), (1, 4))
SMALL = {
    "mnist_cnn": (bench.mnist_cnn, (8, 9, 1)),
    "resnet": (functools.partial(bench.resnet, stages=((1, 4), (1, 8))), (8, 8, 3)),
    "bottlenecks": (
        functools.partial(bench.resnet, stages=((1, 4), (1, 8)), block=BOTTLENECK, stem=7),
        (16, 16, 3),
    ),
    "mobilenet": (functools.partial(bench.mobilenet, blocks=((16, 2),)), (8, 8, 3)),
    "wavenet_1d": (functools.partial(bench.wavenet, dilations=(1, 2), features=8), (32, 1)),
    "voxnet_3d": (functools.partial(bench.voxnet, features=4), (13, 12, 12, 1)),
}
CONVOLUTIONS = {
    "xla": jax.lax.conv_general_dilated,
    "auto": kernels.conv_general_dilated,
    "im2col": functools.partial(kernels.conv_general_dilated, method="im2col"),
}


def test_each_network_of_the_benchmark_is_tested():
    assert SMALL.keys() == bench.PROBLEMS.keys() | {"bottlenecks"}


@pytest.mark.parametrize("name", SMALL)
def test_outputs_and_gradients_equal_those_with_the_convolutions_of_xla(name):
    function, image = SMALL[name]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH, *image)).astype("f")
    labels = rng.integers(0, 10, BATCH)
    network = bench.Network(function, CONVOLUTIONS["xla"])
    parameters = jax.tree.map(
        lambda leaf: rng.normal(0, np.prod(leaf.shape[:-1]) ** -0.5, leaf.shape).astype("f"),
        jax.eval_shape(network.init, jax.random.key(0), x)["params"],
    )

    def run(conv):
        network = bench.Network(function, conv)
        return network.logits(parameters, x), jax.grad(network.loss)(parameters, x, labels)

    cheap = {"xla_backend_optimization_level": 0}
    results = {
        label: jax.jit(run, static_argnums=0, compiler_options=cheap)(conv)
        for label, conv in CONVOLUTIONS.items()
    }
    chex.assert_trees_all_close(results["auto"], results["xla"], atol=1e-5, rtol=1e-5)
    chex.assert_trees_all_close(results["im2col"], results["xla"], atol=1e-5, rtol=1e-5)
