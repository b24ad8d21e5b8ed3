"""Tests for the benchmark of training steps."""

import importlib
import json
import os
import subprocess
import sys
import time

import bench_training
import frameworks
import jax
import jax.numpy as jnp
import peers
import pytest

PARAMETERS = {"mnist": 42_358, "v1": 4_841_083, "v2": 3_265_131}


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_flax_network_has_as_many_parameters_as_ours(name):
    case = frameworks.make_case(name)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    image = jax.ShapeDtypeStruct((1, *case.image_shape), jnp.float32)
    variables = jax.eval_shape(frameworks.make_flax_network(case).init, keys, image)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_pytorch_network_has_as_many_parameters_as_ours(name):
    pytest.importorskip("torch")
    network = frameworks.make_torch_network(frameworks.make_case(name))
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_keras_network_has_as_many_parameters_as_ours(name):
    pytest.importorskip("tensorflow")  # Keras's default backend
    pytest.importorskip("keras")
    network = frameworks.make_keras_network(frameworks.make_case(name))
    assert network.count_params() == PARAMETERS[name]


def test_images_are_always_the_same_and_of_every_class():
    case = frameworks.make_case("v1")
    (images, labels), (again, labels_again) = case.images(), case.images()
    assert images.dtype == "uint8"
    assert images.shape[1:] == (24, 24, 1)
    assert set(labels) == set(range(43))
    assert (images == again).all()
    assert (labels == labels_again).all()


@pytest.mark.slow
def test_the_command_prints_a_table_and_writes_the_numbers(run_main, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    flags = ("--cases", "batches", "--batch-sizes", 2, "--rounds", 2, "--seconds", 0.01)
    assert run_main(bench_training, *flags, "--peers", "flax", "--output", tmp_path) == 0
    report = json.loads((tmp_path / "bench_training.json").read_text())
    (batch,) = report["batches"]
    assert (batch["batch_size"], batch["parameters"]) == (2, PARAMETERS["mnist"])
    ours, flax = batch["rows"]
    assert (ours["framework"], flax["framework"]) == ("fidle-jax", "Flax, XLA")
    assert len(flax["ms_per_step"]) == len(ours["ms_per_step"]) == 2
    assert flax["times_ours"] == pytest.approx(flax["median"] / ours["median"])
    output = capsys.readouterr().out
    assert f"{flax['median']:.2f}" in output
    assert f"fidle-jax: {batch['result']}" in output
    assert batch["result"].endswith("as the fastest competitor, Flax, XLA")


@pytest.mark.slow
def test_the_command_times_devices_by_jit_and_by_pmap(run_main, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    flags = ("--cases", "devices", "--devices", 2, "--rounds", 1, "--seconds", 0.01)
    assert run_main(bench_training, *flags, "--output", tmp_path) == 0
    rows = json.loads((tmp_path / "bench_training.json").read_text())["devices"]["rows"]
    titles = ["jit, 2 devices", "pmap, 2 devices"]
    assert [row["framework"] for row in rows] == titles
    output = capsys.readouterr().out
    assert titles[0] in output
    assert "competitor" not in output


@pytest.mark.slow
def test_the_command_times_augmentation(run_main, tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    flags = ("--cases", "augmentation", "--rounds", 1, "--seconds", 0.01)
    assert run_main(bench_training, *flags, "--output", tmp_path) == 0
    rows = json.loads((tmp_path / "bench_training.json").read_text())["augmentation"]["rows"]
    assert [row["framework"] for row in rows] == list(bench_training.AUGMENTATIONS)


def test_a_framework_that_is_not_installed_is_left_out_with_the_reason(monkeypatch):
    monkeypatch.setattr(
        bench_training.importlib.util,
        "find_spec",
        lambda name: None if name == "tensorflow" else name,
    )
    chosen, left_out = bench_training.find_installed(("keras", "torch", "flax"))
    assert chosen == [bench_training.PEERS["torch"], bench_training.PEERS["flax"]]
    assert left_out == {"Keras on TensorFlow": "tensorflow not installed"}


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """Return a module of fake frameworks that other processes can import."""
    (tmp_path / "fake_frameworks.py").write_text(
        """
import os, time
from frameworks import Trainer

def sleep(milliseconds):
    return Trainer(lambda calls: time.sleep(1e-3 * milliseconds * calls), 42)

def ours(case): return sleep(2)
def slower(case): return sleep(8)
def raises(case): raise ValueError("no compiler\\nmore")
def raises_later(case):
    calls = iter([0, 0])
    return Trainer(lambda count: next(calls), 42)
def ends(case): os._exit(3)
def larger(case): return Trainer(lambda calls: None, 43)
def environment(): return os.environ["XLA_FLAGS"], os.environ["KERAS_BACKEND"]
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "fake_frameworks", raising=False)
    return importlib.import_module("fake_frameworks")


def start_workers(fake, *names):
    return [peers.Worker(peers.Peer(name, getattr(fake, name))) for name in names]


def test_a_competitor_that_fails_is_left_out_with_one_line(fake):
    workers = start_workers(fake, "ours", "slower", "raises", "raises_later", "ends")
    case = frameworks.make_case("v1")
    result = peers.time_steps(case, workers, rounds=2, seconds=0.01)
    assert [row["framework"] for row in result["rows"]] == ["ours", "slower"]
    assert result["failed"] == {
        "raises": "raises: ValueError: no compiler",
        "raises_later": "raises_later: StopIteration: no message",
        "ends": "ends: the process ended; its last output is on stderr",
    }


@pytest.mark.parametrize("name", ["raises", "raises_later"])
def test_our_own_failure_ends_the_benchmark(name, fake):
    workers = start_workers(fake, name)
    with pytest.raises(peers.RunFailed, match=f"^{name}: "):
        peers.time_steps(frameworks.make_case("v1"), workers, 1, 0.01)


def test_networks_of_different_sizes_are_not_compared(fake):
    workers = start_workers(fake, "ours", "larger")
    with pytest.raises(RuntimeError, match="'ours': 42, 'larger': 43"):
        peers.time_steps(frameworks.make_case("v1"), workers, 1, 0.01)


def test_the_process_sets_the_environment_before_it_imports_the_framework(fake, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--first")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    (worker,) = start_workers(fake, "ours")
    assert worker.ask(fake.environment) == ("--first", "torch")
    environment = {"XLA_FLAGS": "--second", "KERAS_BACKEND": "jax"}
    worker = peers.Worker(peers.Peer("other", fake.ours, (), environment))
    assert worker.ask(fake.environment) == ("--first --second", "jax")


@pytest.mark.skipif(jax.__version_info__ < (0, 12), reason="older releases lack some flags")
def test_jax_accepts_the_flags_of_the_convolution_libraries():
    flags = f"{bench_training.ONLY_ONEDNN} {bench_training.YNNPACK}"
    done = subprocess.run(
        [sys.executable, "-c", "import jax; print(jax.numpy.ones(2).sum())"],
        capture_output=True,
        text=True,
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (0, "2.0\n"), done.stderr


def test_the_fastest_of_several_trainers_is_picked():
    trainers = [
        frameworks.Trainer(
            lambda calls, seconds=seconds: time.sleep(seconds * calls), 42, str(seconds)
        )
        for seconds in (0.03, 0.01, 0.05)
    ]
    assert frameworks.pick_fastest(trainers) is trainers[1]


def test_the_result_compares_with_the_fastest_competitor():
    rows = [
        {"framework": "fidle-jax", "median": 10.0, "times_ours": 1.0},
        {"framework": "PyTorch", "median": 25.0, "times_ours": 2.5},
        {"framework": "Keras on TensorFlow", "median": 17.1, "times_ours": 1.71},
    ]
    assert bench_training.compare(rows) == (
        "1.71 times as fast as the fastest competitor, Keras on TensorFlow"
    )
    assert bench_training.compare(rows[:1]) == "no competitor"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--rounds", 0), "--rounds is 0; it must be positive"),
        (("--batch-sizes", 4, 0), "--batch-sizes is 0; it must be positive"),
        (("--seconds", "nan"), "--seconds is nan; it must be positive"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(flags, message, run_main, capsys):
    assert run_main(bench_training, *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
