"""Images read from disk as steps need them make the same run as images in memory."""

import dataclasses
import functools
import threading

import chex
import numpy as np
import pytest

from fidle_jax.data import StoredSplit
from fidle_jax.data.dataset import WHOLE
from fidle_jax.errors import InputError
from fidle_jax.train import loop as loop_module
from fidle_jax.train import run as run_module
from fidle_jax.train.loop import Interrupted
from fidle_jax.train.signals import Stop
from tests.train.scripts import read, start, start_two

ALL = (
    "dnn:jit:3",  # model, strategy, parts of a batch
    *(f"cnn:{how}:{parts}" for how in ("jit", "pmap") for parts in (1, 3)),
)


def _of(outcome, what):
    """Arrays by name, of those whose names begin with ``what``."""
    return {name[len(what) :]: a for name, a in outcome.items() if name.startswith(what)}


def _compare(outcome):
    end = _of(outcome, "stream['end']")
    assert len(end) > 10
    # The same bits, though one way compiles a loop of steps and the other a step.
    chex.assert_trees_all_equal(end, _of(outcome, "memory['end']"))
    chex.assert_trees_all_equal(end, _of(outcome, "stream['again']"))
    assert not np.array_equal(end[".params['dense_2']['bias']"], 0)
    np.testing.assert_array_equal(outcome["stream['accuracy']"], outcome["memory['accuracy']"])
    # The mean over the examples is not summed in one order.
    np.testing.assert_allclose(outcome["stream['loss']"], outcome["memory['loss']"], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 3, 4])
def test_on_any_devices_by_any_strategy_parameters_are_the_bits_of_memory(tmp_path, devices):
    output = tmp_path / "outcomes.npz"
    assert start("streamed.py", output, *ALL, devices=devices).wait() == 0
    for outcome in read(output, ALL).values():
        _compare(outcome)


@pytest.mark.slow
def test_each_of_two_processes_reads_what_its_devices_compute_and_ends_with_the_same_bits(tmp_path):
    both = start_two("streamed.py", tmp_path, ALL, devices=2)
    for case in ALL:
        first, second = (each[case] for each in both)
        _compare(first)
        chex.assert_trees_all_equal(_of(first, "stream['end']"), _of(second, "stream['end']"))
        # Of 2 epochs of 100 examples, and the last 40 again; and one each where a batch is filled up,
        # or its shape is found.
        assert max(first["read"], second["read"]) < 160
        assert 240 <= first["read"] + second["read"] < 260


def _losses(run_dir):
    return (run_dir / "metrics.csv").read_text().splitlines()[-1].split(",")[:7]


def test_a_run_ends_the_same_and_says_how_it_loads(run, tmp_path, capsys):
    results = {}
    for loader in ("memory", "stream"):
        results[loader] = run(run_dir=tmp_path / loader, loader=loader, model="dnn")
        assert f"\nloader: {loader} (0.0 MB of images, " in capsys.readouterr().out
    assert results["stream"]["test_loss"] == results["memory"]["test_loss"]
    assert _losses(tmp_path / "stream") == _losses(tmp_path / "memory")


def test_a_run_may_go_on_by_the_other_loader_in_the_middle_of_an_epoch(run, tmp_path, monkeypatch):
    monkeypatch.setattr(loop_module, "CHUNK_SECONDS", 0)
    run = functools.partial(run, model="dnn")
    whole = run(run_dir=tmp_path / "whole", loader="memory")
    stop = Stop()
    stop.requested = True
    with pytest.raises(Interrupted):
        run(stop=stop, loader="stream")
    # Those that read end; so many may have a batch in hand that nobody wants any more.
    names = [thread.name for thread in threading.enumerate()]
    assert not any(name.startswith("grain-thread-prefetch") for name in names)
    with pytest.raises(Interrupted):
        run(stop=stop, loader="memory", resume=True)
    result = run(loader="stream", resume=True, profile=True)
    assert result["test_loss"] == whole["test_loss"]
    assert _losses(tmp_path / "run") == _losses(tmp_path / "whole")
    assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))


@pytest.mark.parametrize("fraction", [0.0, 0.1])
def test_what_is_found_damaged_in_the_middle_ends_the_run_with_its_line(
    run, squares, tmp_path, monkeypatch, fraction
):
    reads = []

    def open_(split, part=WHOLE):
        def read_images(rows):
            reads.append(len(rows))
            if len(reads) > 7:  # one for the shape, six batches, and then the next, or validation
                raise InputError("squares is damaged; prepare it again")
            return squares.read(split).images[rows]

        return StoredSplit(squares.read(split).labels, None, read_images)

    dataset = dataclasses.replace(squares, open=open_)
    monkeypatch.setattr(run_module, "load_dataset", lambda *_, **__: dataset)
    with pytest.raises(InputError) as caught:
        run(loader="stream", model="dnn", validation_fraction=fraction)
    assert str(caught.value) == "squares is damaged; prepare it again"
