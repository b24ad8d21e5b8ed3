"""Tests of the compiled functions of a run, with images in memory and streamed from disk."""

import dataclasses
import threading

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fidle_jax.data import Split, StoredSplit
from fidle_jax.data.batches import epoch_order
from fidle_jax.errors import InputError
from fidle_jax.nn import DNN
from fidle_jax.train import compiled_steps as module
from fidle_jax.train import loop as loop_module
from fidle_jax.train import run as run_module
from fidle_jax.train.compiled_steps import choose_loader, compile_steps
from fidle_jax.train.config import ResolvedConfig
from fidle_jax.train.evaluation import evaluate
from fidle_jax.train.loop import Interrupted
from fidle_jax.train.parallel import make_mesh
from fidle_jax.train.signals import Stop
from fidle_jax.train.step import Task, init_state, train_chunk
from tests.train.scripts import read, start, start_two

SHAPE = (12, 12, 1)
TASK = Task(DNN(classes=3), optax.sgd(0.1))
CONFIG = ResolvedConfig().replace(batch_size=4, seed=3)
SQUARES_BYTES = 90 * 12 * 12  # of the training images of the fixture


def make_split(examples):
    rng = np.random.default_rng(examples)
    images = rng.integers(0, 256, (examples, *SHAPE), dtype=np.uint8)
    return Split(images, rng.integers(0, 3, examples, dtype=np.int32))


def compile_for(validation):
    state = init_state(TASK.model, SHAPE, TASK.optimizer, CONFIG.optimisation.seed)
    schedule = optax.constant_schedule(0.1)
    data = make_split(10), validation
    return state, compile_steps(TASK, schedule, make_mesh(1), state, *data, CONFIG)


def test_the_compiled_steps_shuffle_by_seed_and_epoch_and_train_as_train_chunk():
    state, compiled = compile_for(make_split(0))
    order = compiled.batches(2, 0)
    chex.assert_trees_all_equal(order, epoch_order(3, 2, 10, 4))
    train = make_split(10)
    copy = jax.tree.map(jnp.copy, state)
    data = jnp.asarray(train.images), jnp.asarray(train.labels)
    expected = train_chunk(TASK, state, *data, order, 0, 3)
    chex.assert_trees_all_close(compiled.train(copy, order, 0, 3), expected, rtol=1e-4, atol=1e-5)
    assert compiled.learning_rate(7) == 0.1
    assert compiled.validate is None


def test_validation_covers_every_example():
    state, compiled = compile_for(make_split(7))
    data = jnp.asarray(make_split(7).images), jnp.asarray(make_split(7).labels)
    loss, correct = evaluate(TASK.model, state.variables(), *data)
    *found, _ = compiled.validate(state.variables())
    np.testing.assert_allclose(found, (loss, correct / 7), rtol=1e-5)


@pytest.fixture
def choose(squares, monkeypatch):
    def choose(loader, free, **changes):
        monkeypatch.setattr(module, "free_memory_bytes", lambda devices: free)
        return choose_loader(loader, dataclasses.replace(squares, **changes), make_mesh(1))

    return choose


@pytest.mark.parametrize(
    ("loader", "free", "streamed"),
    [
        ("auto", 2 * SQUARES_BYTES, False),
        ("auto", 2 * SQUARES_BYTES - 1, True),
        ("memory", 1, False),
        ("stream", 100 * SQUARES_BYTES, True),
    ],
)
def test_auto_keeps_images_in_memory_if_they_fill_at_most_half_of_it(
    choose, loader, free, streamed
):
    found, text = choose(loader, free)
    assert found == streamed
    assert text.startswith("stream (" if streamed else "memory (")


def test_the_choice_is_described_with_both_sizes(choose):
    assert choose("auto", 10**9)[1] == "memory (0.0 MB of images, 1,000 MB of free memory)"


ALL = (
    "dnn:jit:3",  # model, strategy, micro-batches
    *(f"cnn:{how}:{parts}" for how in ("jit", "pmap") for parts in (1, 3)),
)


def _of(outcome, what):
    """Return the arrays whose names begin with ``what``, without that prefix."""
    return {name[len(what) :]: a for name, a in outcome.items() if name.startswith(what)}


def _compare(outcome):
    end = _of(outcome, "stream['end']")
    assert len(end) > 10
    # The same bits, although one loader compiles a loop of steps and the other a single step.
    chex.assert_trees_all_equal(end, _of(outcome, "memory['end']"))
    chex.assert_trees_all_equal(end, _of(outcome, "stream['again']"))
    assert not np.array_equal(end[".params['dense_2']['bias']"], 0)
    np.testing.assert_array_equal(outcome["stream['accuracy']"], outcome["memory['accuracy']"])
    # The order of the sum over examples differs.
    np.testing.assert_allclose(outcome["stream['loss']"], outcome["memory['loss']"], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 3, 4])
def test_streaming_gives_the_bits_of_memory_on_any_devices_with_any_strategy(tmp_path, devices):
    output = tmp_path / "outcomes.npz"
    assert start("streamed.py", output, *ALL, devices=devices).wait() == 0
    for outcome in read(output, ALL).values():
        _compare(outcome)


@pytest.mark.slow
def test_each_of_two_processes_reads_only_what_its_devices_compute(tmp_path):
    both = start_two("streamed.py", tmp_path, ALL, devices=2)
    for case in ALL:
        first, second = (each[case] for each in both)
        _compare(first)
        chex.assert_trees_all_equal(_of(first, "stream['end']"), _of(second, "stream['end']"))
        # 2 epochs of 100 examples, the last 40 again, and one example for padding and for shapes.
        assert max(first["read"], second["read"]) < 160
        assert 240 <= first["read"] + second["read"] < 260


def _losses(run_dir):
    return (run_dir / "metrics.csv").read_text().splitlines()[-1].split(",")[:7]


def test_both_loaders_have_the_same_result_and_are_announced(run, tmp_path, capsys):
    results = {}
    for loader in ("memory", "stream"):
        results[loader] = run(run_dir=tmp_path / loader, loader=loader)
        assert f"\nloader: {loader} (0.0 MB of images, " in capsys.readouterr().out
    assert results["stream"]["test_loss"] == results["memory"]["test_loss"]
    assert _losses(tmp_path / "stream") == _losses(tmp_path / "memory")


def test_a_run_can_be_resumed_with_the_other_loader_within_an_epoch(run, tmp_path, monkeypatch):
    monkeypatch.setattr(loop_module, "CHUNK_SECONDS", 0)
    whole = run(run_dir=tmp_path / "whole", loader="memory")
    stop = Stop()
    stop.requested = True
    with pytest.raises(Interrupted):
        run(stop=stop, loader="stream")
    # The threads that read ahead have ended.
    names = [thread.name for thread in threading.enumerate()]
    assert not any(name.startswith("grain-thread-prefetch") for name in names)
    with pytest.raises(Interrupted):
        run(stop=stop, loader="memory", resume=True)
    result = run(loader="stream", resume=True, profile=True)
    assert result["test_loss"] == whole["test_loss"]
    assert _losses(tmp_path / "run") == _losses(tmp_path / "whole")
    assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))


@pytest.mark.parametrize("fraction", [0.0, 0.1])
def test_damage_found_during_a_run_ends_it_with_the_message(
    run, squares, tmp_path, monkeypatch, fraction
):
    reads = []

    def open_(split):
        def read_images(rows):
            reads.append(len(rows))
            if len(reads) > 7:  # one for the shape, six batches, then the next one or validation
                raise InputError("squares is damaged; prepare it again")
            return squares.read(split).images[rows]

        return StoredSplit(squares.read(split).labels, None, read_images)

    dataset = dataclasses.replace(squares, open=open_)
    monkeypatch.setattr(run_module, "load_dataset", lambda *_, **__: dataset)
    with pytest.raises(InputError) as caught:
        run(loader="stream", validation_fraction=fraction)
    assert str(caught.value) == "squares is damaged; prepare it again"
