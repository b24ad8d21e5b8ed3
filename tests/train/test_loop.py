"""Tests of the loop with fake steps: validation, best variables, files, checkpoints, stopping."""

import csv
import dataclasses

import jax
import jax.numpy as jnp
import pytest

from fidle_jax.train import loop as loop_module
from fidle_jax.train.checkpoints import Checkpoints
from fidle_jax.train.compiled_steps import CompiledSteps
from fidle_jax.train.config import ResolvedConfig
from fidle_jax.train.loop import Interrupted, Loop, NotFinite, Record
from fidle_jax.train.signals import Stop
from fidle_jax.train.step import Totals, TrainState

STEPS, EXAMPLES = 5, 20


def first_state():
    empty = {"params": {"w": jnp.zeros(2)}, "batch_stats": {}, "average": None, "opt_state": ()}
    return TrainState(**empty, step=jnp.int32(0), seed=jnp.uint32(0), totals=Totals.zeros())


def count_steps(state, order, start, stop):
    """Replace training: each step adds 1 to the weights and 4 examples to the totals."""
    steps = stop - start
    totals = state.totals
    totals = totals.replace(examples=totals.examples + 4 * steps, loss=totals.loss + 4 * steps)
    params = jax.tree.map(lambda leaf: leaf + steps, state.params)
    return state.replace(params=params, step=state.step + steps, totals=totals)


@pytest.fixture(autouse=True)
def chunks_of_one_step(monkeypatch):
    monkeypatch.setattr(loop_module, "CHUNK_SECONDS", 0)


@pytest.fixture
def make(tmp_path):
    """``make(**options)`` returns a loop that continues from the last checkpoint."""
    opened = []

    def make(train=count_steps, validate=None, epochs=4, stop=None, checkpoint_seconds=0.0):
        checkpoints = Checkpoints(tmp_path / "checkpoints")
        opened.append(checkpoints)
        compiled = CompiledSteps(
            lambda epoch, start: jnp.int32(epoch), train, validate, lambda step: 0.5, jax.device_put
        )
        config = ResolvedConfig().replace(
            run_dir=tmp_path,
            epochs=epochs,
            batch_size=EXAMPLES // STEPS,
            checkpoint_seconds=checkpoint_seconds,
            progress=False,
        )
        state, record = first_state(), Record()
        best = jax.device_get(state.variables())
        if restored := checkpoints.restore(state, best, Record):
            state, best, record = restored
        return Loop(config, EXAMPLES, compiled, state, best, record, checkpoints, stop or Stop())

    yield make
    for checkpoints in opened:
        checkpoints.close()


def rows(tmp_path):
    return list(csv.DictReader((tmp_path / "metrics.csv").open()))


def stopping_at(step):
    """Return a stop, and steps that request it once the run reaches ``step``."""
    stop = Stop()

    def train(state, *args):
        state = count_steps(state, *args)
        stop.requested = int(state.step) >= step
        return state

    return stop, train


def test_every_epoch_has_a_row_and_the_last_state_is_saved(make, tmp_path):
    loop = make(checkpoint_seconds=1e9)
    loop.run()
    assert loop.state.step == 4 * STEPS
    assert [row["epoch"] for row in rows(tmp_path)] == ["1", "2", "3", "4"]
    assert {row["train_loss"] for row in rows(tmp_path)} == {"1.0"}
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["20"]


def test_the_best_validation_accuracy_is_kept_and_the_lower_loss_breaks_ties(make):
    outcomes = iter([(0.9, 0.5, {}), (0.5, 0.8, {}), (0.4, 0.8, {}), (0.1, 0.7, {})])
    loop = make(validate=lambda variables: next(outcomes))
    loop.run()
    assert (loop.record.best_epoch, loop.record.best_accuracy) == (3, 0.8)
    assert loop.best["params"]["w"][0] == 3 * STEPS


def test_without_validation_the_last_epoch_is_the_best(make):
    loop = make()
    loop.run()
    assert (loop.record.best_epoch, loop.record.best_accuracy) == (4, None)
    assert loop.best["params"]["w"][0] == 4 * STEPS


def test_zero_epochs_keep_the_initial_variables(make, tmp_path):
    loop = make(epochs=0)
    loop.run()
    assert loop.best["params"]["w"][0] == 0
    assert rows(tmp_path) == []


@pytest.mark.parametrize("step", [1, STEPS - 1, STEPS, STEPS + 1, 3 * STEPS + 2])
def test_a_stopped_and_resumed_run_has_the_same_result(make, tmp_path, step):
    outcomes = {5: (0.9, 0.5, {}), 10: (0.5, 0.8, {}), 15: (0.4, 0.9, {}), 20: (0.1, 0.7, {})}

    def validate(variables):
        return outcomes[int(variables["params"]["w"][0])]

    stop, train = stopping_at(step)
    with pytest.raises(Interrupted):
        make(train, validate, stop=stop).run()
    loop = make(validate=validate)
    assert loop.state.step == step
    loop.run()
    assert loop.state.step == 4 * STEPS
    assert (loop.record.best_epoch, loop.best["params"]["w"][0]) == (3, 15)
    assert [row["epoch"] for row in rows(tmp_path)] == ["1", "2", "3", "4"]
    assert {row["train_loss"] for row in rows(tmp_path)} == {"1.0"}


def test_a_loss_that_is_not_finite_names_its_step_and_keeps_the_last_good_checkpoint(
    make, tmp_path
):
    def train(state, *args):
        state = count_steps(state, *args)
        bad = jnp.where(state.step >= 8, 8, state.totals.bad_step)
        return state.replace(totals=state.totals.replace(bad_step=bad))

    with pytest.raises(NotFinite, match="not finite at step 8"):
        make(train).run()
    assert make().state.step == 7


def test_a_validation_loss_that_is_not_finite_ends_the_run_before_saving(make, tmp_path):
    with pytest.raises(NotFinite, match="the validation loss is not finite at step 5"):
        make(validate=lambda variables: (float("nan"), 0.1, {}), checkpoint_seconds=1e9).run()
    assert not list((tmp_path / "checkpoints").iterdir())


def test_checkpoint_seconds_limit_the_number_of_checkpoints(make, tmp_path):
    loop = make(checkpoint_seconds=1e9)
    steps = []
    loop.checkpoints.save = lambda step, *_: steps.append(step)
    loop.run()
    assert steps == [4 * STEPS]


@pytest.mark.parametrize(("write_seconds", "saved"), [(1, [10, 20, 30]), (5, [10])])
def test_checkpoints_take_at_most_a_tenth_of_the_time(make, monkeypatch, write_seconds, saved):
    clock, written, done = [0.0], [], [0.0]

    def train(state, *args):
        clock[0] += 2  # seconds a step
        return count_steps(state, *args)

    def save(step, *_):
        written.append(step)
        done[0] = clock[0] + write_seconds

    loop = make(train=train, epochs=8, checkpoint_seconds=20)
    monkeypatch.setattr(loop_module.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(loop.checkpoints, "save", save)
    monkeypatch.setattr(loop.checkpoints, "is_saving", lambda: clock[0] < done[0])
    loop.run()
    assert sorted(set(written)) == [*saved, 8 * STEPS]


def test_profiling_writes_a_trace_and_does_not_change_the_result(make, tmp_path):
    loop = make()
    loop.config = loop.config.replace(profile=True)
    loop.run()
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    assert list((tmp_path / "profile").rglob("perfetto_trace.json.gz"))
    assert loop.state.step == 4 * STEPS
    assert len(rows(tmp_path)) == 4


def test_the_record_can_be_restored_from_json():
    record = Record(rows=[{"epoch": 1}], best_accuracy=0.5, best_loss=0.1, best_epoch=1)
    assert Record(**dataclasses.asdict(record)) == record
