"""Tests for the benchmark of training steps."""

import json
import os
import subprocess
import sys
import time
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
    from peers.torch_network import make_network

    network = make_network(bench.make_case(name))
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_keras_makes_a_network_of_as_many_parameters(name, bench):
    pytest.importorskip("tensorflow")  # Keras's default backend
    keras = pytest.importorskip("keras")
    from peers.keras_network import make_layers

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
    assert f"fidle-jax: {batch['result']}" in done.stdout
    assert batch["result"].endswith("as the fastest competitor, Flax, XLA")
    figure = (tmp_path / "bench" / "bench_training.png").read_bytes()
    assert figure.startswith(b"\x89PNG")


def test_a_framework_that_is_not_installed_is_left_out_with_the_reason(bench, monkeypatch):
    monkeypatch.setattr(
        bench.importlib.util, "find_spec", lambda name: None if name == "tensorflow" else name
    )
    names, left_out = bench.find_installed(("keras", "torch", "flax"))
    assert names == ["ours", "torch", "flax"]
    assert left_out == {"Keras on TensorFlow": "tensorflow not installed"}


@pytest.fixture
def framework(bench, monkeypatch, tmp_path):
    """Return a function that makes a framework from the source of its module."""
    from peers.worker import Framework

    (tmp_path / "frameworks").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "frameworks")

    def make(name, prepare, **how):
        source = "import os, time\nfrom peers.case import Trainer\ndef prepare(case):\n"
        (tmp_path / "frameworks" / f"{name}.py").write_text(f"{source}    {prepare}\n")
        return Framework(name, name, **how)

    return make


SLEEP = "return Trainer(lambda steps: time.sleep({} * steps), 42, '', '')"


def test_a_competitor_that_fails_is_left_out_with_one_line(bench, framework):
    from peers.turns import time_steps
    from peers.worker import Worker

    frameworks = [
        framework("ours", SLEEP.format(0.001)),
        framework("slower", SLEEP.format(0.004)),
        framework("raises", r"raise ValueError('no compiler\nmore')"),
        framework("raises_later", "return Trainer(lambda steps: 1 / 0, 42, '', '')"),
        framework("ends", "os._exit(3)"),
        framework("ends_later", "calls = iter([0, 0]); " + SLEEP.format("next(calls)")),
    ]
    workers = [Worker(each) for each in frameworks]
    result = time_steps(bench.make_case("v1"), workers, rounds=2, seconds=0.01)
    assert [row["framework"] for row in result["rows"]] == ["ours", "slower"]
    assert result["failed"] == {
        "raises": "raises: prepare failed: ValueError: no compiler",
        "raises_later": "raises_later: train failed: ZeroDivisionError: division by zero",
        "ends": "ends: prepare failed: the process ended; its last output is on stderr",
        "ends_later": "ends_later: train failed: StopIteration: no message",
    }


def test_our_own_failure_ends_the_benchmark(bench, framework):
    from peers.turns import time_steps
    from peers.worker import Worker, WorkerFailed

    workers = [Worker(framework("broken", "raise ValueError('broken')"))]
    with pytest.raises(WorkerFailed, match="broken: prepare failed: ValueError: broken"):
        time_steps(bench.make_case("v1"), workers, rounds=1, seconds=0.01)


def test_the_process_sets_the_environment_before_it_imports_the_framework(
    bench, framework, monkeypatch
):
    from peers.worker import Worker

    monkeypatch.setenv("XLA_FLAGS", "--first")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    read = "return os.environ['XLA_FLAGS'], os.environ['KERAS_BACKEND']"
    worker = Worker(framework("plain", read))
    assert worker.prepare(None) == ("--first", "torch")
    worker = Worker(framework("configured", read, xla_flags="--second", backend="jax"))
    assert worker.prepare(None) == ("--first --second", "jax")


@pytest.mark.skipif(jax.__version_info__ < (0, 12), reason="older releases lack some flags")
@pytest.mark.parametrize("flags", ["ONEDNN", "ONLY_ONEDNN", "YNNPACK"])
def test_jax_accepts_the_flags_of_the_convolution_libraries(flags, bench):
    done = subprocess.run(
        [sys.executable, "-c", "import jax; print(jax.numpy.ones(2).sum())"],
        capture_output=True,
        text=True,
        env=os.environ | {"XLA_FLAGS": getattr(bench, flags), "JAX_PLATFORMS": "cpu"},
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (0, "2.0\n"), done.stderr


def test_the_fastest_of_several_ways_to_train_is_picked(bench):
    from peers.case import Trainer
    from peers.fastest import pick_fastest

    def trainer(seconds, at_once):
        return Trainer(lambda steps: time.sleep(seconds * steps), 42, "", "", at_once)

    trainers = [trainer(0.003, 1), trainer(0.001, 8), trainer(0.005, 2)]
    assert pick_fastest(trainers) is trainers[1]


def test_the_result_compares_with_the_fastest_competitor(bench):
    rows = [
        {"framework": "fidle-jax", "median": 10.0, "times_ours": 1.0},
        {"framework": "PyTorch", "median": 25.0, "times_ours": 2.5},
        {"framework": "Keras on TensorFlow", "median": 17.1, "times_ours": 1.71},
    ]
    assert bench.summarize(rows) == (
        "1.71 times as fast as the fastest competitor, Keras on TensorFlow"
    )
    assert bench.summarize(rows[:1]) == "no competitor"


def test_every_peer_that_can_be_named_is_a_framework(bench):
    assert {"ours", *bench.Config().peers} == set(bench.FRAMEWORKS)


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
