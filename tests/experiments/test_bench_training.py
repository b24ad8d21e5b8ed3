"""The benchmark of training steps: everyone trains the same network, and the command says what it found."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
PARAMETERS = {"mnist": 42_358, "v1": 4_841_083, "v2": 3_265_131}


def call(*flags, **environment):
    return subprocess.run(
        [sys.executable, EXPERIMENTS / "bench_training.py", *map(str, flags)],
        capture_output=True,
        text=True,
        env=os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"} | environment,
        timeout=300,
    )


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENTS)
    import bench_training

    return bench_training


@pytest.mark.parametrize("name", PARAMETERS)
def test_flaxs_own_layers_make_a_network_of_as_many_parameters(name, bench):
    from peers.flax_xla import Network

    case = bench.make_case(name)
    image = jax.ShapeDtypeStruct((1, *case.image_shape), jnp.float32)
    init = jax.eval_shape(lambda x: Network(case).init(jax.random.key(0), x, train=False), image)
    assert sum(leaf.size for leaf in jax.tree.leaves(init)) == PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_pytorch_makes_a_network_of_as_many_parameters(name, bench):
    pytest.importorskip("torch")
    from peers.torch_eager import make_network

    network = make_network(bench.make_case(name))
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_keras_makes_a_network_of_as_many_parameters(name, bench):
    pytest.importorskip("tensorflow")
    keras = pytest.importorskip("keras")
    from peers.keras_tf import make_layers

    assert keras.Sequential(make_layers(bench.make_case(name))).count_params() == PARAMETERS[name]


def test_images_are_the_same_for_everyone_and_of_every_class(bench):
    from peers.case import made_up_images

    case = bench.make_case("v1")
    (images, labels), (again, labels_again) = made_up_images(case), made_up_images(case)
    assert images.dtype == "uint8"
    assert images.shape[1:] == (24, 24, 1)
    assert set(labels) == set(range(43))
    assert (images == again).all()
    assert (labels == labels_again).all()


@pytest.mark.slow
def test_the_command_prints_a_table_and_leaves_the_numbers_and_a_figure(tmp_path):
    flags = ("--cases", "batches", "--batch-sizes", 2, "--rounds", 2, "--seconds", 0.01)
    done = call(*flags, "--peers", "flax", "--output", tmp_path / "bench")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "bench" / "bench_training.json").read_text())
    (batch,) = report["batches"]
    assert (batch["batch_size"], batch["parameters"]) == (2, PARAMETERS["mnist"])
    ours, flax = batch["rows"]
    assert (ours["framework"], flax["framework"]) == ("fidle-jax", "Flax, XLA")
    assert len(flax["ms_per_step"]) == len(ours["ms_per_step"]) == 2
    assert flax["times_ours"] == pytest.approx(flax["median"] / ours["median"])
    assert f"{flax['median']:.2f}" in done.stdout
    figure = (tmp_path / "bench" / "bench_training.png").read_bytes()
    assert figure.startswith(b"\x89PNG")


def test_a_framework_that_is_not_installed_is_left_out_with_the_reason(bench, monkeypatch):
    monkeypatch.setattr(
        bench.importlib.util, "find_spec", lambda name: None if name == "tensorflow" else name
    )
    names, left_out = bench.find_installed(("keras", "torch", "flax"))
    assert names == ["ours", "torch", "flax"]
    assert left_out == {"Keras, TensorFlow": "tensorflow not installed"}


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--rounds", 0), "--rounds 0; expected 1 or more"),
        (("--batch-sizes", 4, 0), "--batch-sizes 0; expected 1 or more"),
        (("--seconds", "nan"), "--seconds nan; expected more than 0"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(flags, named):
    done = call(*flags)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert named in done.stderr
