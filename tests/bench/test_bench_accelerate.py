"""The programs of the benchmark compute the same with this package's operations as with XLA's."""

import functools
import importlib.util
import json

import bench_accelerate as bench
import chex
import jax
import numpy as np
import pytest

from fidle_jax import kernels

BATCH = 4
SMALL = {
    "resnet": (functools.partial(bench.resnet, stages=((1, 4), (1, 8))), (8, 8, 3)),
    "bottlenecks": (
        functools.partial(bench.resnet, stages=((1, 4), (1, 8)), block=bench.BOTTLENECK, stem=7),
        (16, 16, 3),
    ),
    "vgg": (functools.partial(bench.vgg, blocks=(4, 8)), (8, 8, 3)),
    "unet": (functools.partial(bench.unet, widths=(2, 4, 6)), (8, 12, 1)),
    "dcgan": (functools.partial(bench.dcgan, features=(8, 6, 4)), (10,)),
    "mobilenet": (functools.partial(bench.mobilenet, blocks=((16, 2),)), (8, 8, 3)),
    "wavenet": (functools.partial(bench.wavenet, dilations=(1, 2), features=8), (32, 1)),
    "voxnet": (functools.partial(bench.voxnet, features=4), (13, 12, 12, 1)),
}
CHEAP = {"xla_backend_optimization_level": 0}


@pytest.mark.parametrize("name", SMALL)
def test_outputs_and_gradients_equal_those_with_the_convolutions_of_xla(name):
    function, image = SMALL[name]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH, *image)).astype("f")
    labels = rng.integers(0, bench.CLASSES, BATCH)
    network = bench.Network(function)
    parameters = jax.tree.map(
        lambda leaf: rng.normal(0, np.prod(leaf.shape[:-1]) ** -0.5, leaf.shape).astype("f"),
        jax.eval_shape(network.init, jax.random.key(0), x)["params"],
    )

    def step(network):
        return network.logits(parameters, x), jax.grad(network.loss)(parameters, x, labels)

    programs = {
        "xla": lambda: step(network),
        "accelerated": kernels.accelerate(lambda: step(network)),
        "drop_in": lambda: step(bench.Network(function, kernels.conv_general_dilated)),
    }
    results = {
        label: jax.jit(program, compiler_options=CHEAP)() for label, program in programs.items()
    }
    for label in ("accelerated", "drop_in"):
        chex.assert_trees_all_close(results[label], results["xla"], atol=2e-5, rtol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("name", bench.PROGRAMS)
def test_each_program_computes_the_same_when_it_is_accelerated(name, dtype, tolerance):
    if importlib.util.find_spec(bench.NEEDS.get(name, "jax")) is None:
        pytest.skip(f"needs {bench.NEEDS[name]}")

    def convert(leaf, dtype):
        return leaf.astype(dtype) if leaf.dtype in ("float32", "float64") else leaf

    def run(dtype, change):
        with jax.enable_x64(dtype == "float64"):
            function, arguments = bench.PROGRAMS[name]()
            arguments = jax.tree.map(lambda leaf: convert(leaf, dtype), arguments)
            results = jax.tree.leaves(jax.jit(change(function))(*arguments))
            return [np.asarray(leaf.astype(dtype), "d") for leaf in results], results[0].dtype

    reference, kind = run("float64", lambda function: function)
    actual, _ = run(dtype, kernels.accelerate)
    plain, _ = run(dtype, lambda function: function)
    # Some gradients are sums that cancel, for example of a bias before a batch norm.
    largest = max(np.abs(leaf).max() for leaf in reference)
    tolerance = 1e-2 if kind == "bfloat16" else tolerance
    for one, two, exact in zip(actual, plain, reference, strict=True):
        allowed = max(tolerance * largest, 2 * np.abs(two - exact).max())
        assert np.abs(one - exact).max() <= allowed


def test_a_program_is_measured_in_both_ways(run_main, tmp_path, capsys):
    output = tmp_path / "accelerate.json"
    flags = ("--only", "transposed_1d", "--rounds", 1, "--seconds", 0.1, "--output", output)
    assert run_main(bench, *flags) == 0
    (result,) = json.loads(output.read_text())["results"]
    assert {len(result[column]) for column in ("call", "loop", "compile")} == {2}
    assert "transposed_1d" in capsys.readouterr().out
