"""The time of a sweep is estimated by its own runs, else by what its networks compute."""

import dataclasses

import pytest

from fidle_jax.sweep.estimate import SECONDS_BESIDE, estimate, estimate_later, work_of
from fidle_jax.sweep.machine import Machine, measure_machine
from fidle_jax.sweep.plan import Plan, Range, first_trials
from fidle_jax.train.config import Config
from tests.sweep.test_folder import finish

MACHINE = Machine(rate=1e11, copy=1e-9)


def test_the_work_of_the_course_s_network_is_that_of_its_layers():
    found = work_of(Config(data="sample", epochs=2, validation_fraction=0.0))
    assert found.examples == 2 * 4000
    # positions times parameters of each layer; multiplications and additions; three passes
    assert found.operations == 6 * (26 * 26 * 80 + 11 * 11 * 1168 + 40100 + 1010)
    assert found.outputs == sum(
        (2 * 0, 26 * 26 * 8, 2 * 13 * 13 * 8, 11 * 11 * 16, 2 * 5 * 5 * 16, 400, 2 * 100, 10)
    )


def test_less_data_and_fewer_epochs_are_less_work():
    whole = work_of(Config(dataset="24x24-L", model="v1", epochs=16))
    assert whole.examples == pytest.approx(16 * 39_209 * (0.9 + 0.1 / 3))
    tenth = work_of(Config(dataset="24x24-L", model="v1", epochs=8, scale=0.1))
    assert tenth.examples == pytest.approx(whole.examples / 20)
    on_test = work_of(Config(dataset="24x24-L", model="v1", epochs=16, hold_out="test"))
    assert on_test.examples == pytest.approx(16 * (39_209 + 12_630 / 3))


def test_of_a_data_set_of_unknown_size_nothing_is_claimed():
    assert work_of(Config(dataset="tfds:fashion_mnist")) is None


def test_what_has_run_tells_how_long_the_rest_takes(begin):
    plan, sweep_dir = begin({"model": ("cnn", "dnn")}, seeds=2)
    plan = dataclasses.replace(plan, defaults=dataclasses.replace(plan.defaults, data="sample"))
    trials = first_trials(plan)
    before = estimate(sweep_dir, trials, lambda: MACHINE)
    guess = before[trials[0].name] - SECONDS_BESIDE
    finish(sweep_dir, trials[0].name, train_seconds=3 * guess)
    after = estimate(sweep_dir, trials, lambda: MACHINE)
    assert after[trials[1].name] == pytest.approx(SECONDS_BESIDE + 3 * guess)
    other = before[trials[2].name] - SECONDS_BESIDE
    assert after[trials[2].name] == pytest.approx(SECONDS_BESIDE + 3 * other)


def test_the_machine_is_measured_only_where_that_tells_more(begin):
    def never():
        raise AssertionError

    plan, sweep_dir = begin({"learning_rate": (0.1,)}, seeds=2)
    unknown = dataclasses.replace(plan.defaults, dataset="tfds:fashion_mnist")
    trials = first_trials(dataclasses.replace(plan, defaults=unknown))
    assert set(estimate(sweep_dir, trials, never).values()) == {None}
    trials = first_trials(plan)
    finish(sweep_dir, trials[0].name, train_seconds=3.0)
    assert set(estimate(sweep_dir, trials, never).values()) == {SECONDS_BESIDE + 3}


def test_each_rung_of_a_halving_trains_about_as_long_as_the_first():
    plan = Plan(Config(), {"learning_rate": Range(0.1, 1.0)}, search="halving", samples=9)
    # nine runs for an epoch, three for three, one for nine
    first = [SECONDS_BESIDE + 1.0] * 9
    last = SECONDS_BESIDE + 9
    assert estimate_later(plan, first, 1) == pytest.approx(3 * (SECONDS_BESIDE + 3) + last)
    assert estimate_later(plan, first, 3) == pytest.approx(last)
    assert estimate_later(plan, first, 9) == 0


def test_a_run_without_epochs_and_a_machine_that_is_not_known_are_no_errors(begin):
    plan, sweep_dir = begin({"epochs": (0, 1)}, epochs=None)
    plan = dataclasses.replace(plan, defaults=dataclasses.replace(plan.defaults, data="sample"))
    trials = first_trials(plan)
    finish(sweep_dir, trials[0].name, train_seconds=0.0)
    assert estimate(sweep_dir, trials, lambda: MACHINE)[trials[0].name] == SECONDS_BESIDE
    assert estimate(sweep_dir, trials, lambda: None)[trials[1].name] is None


def test_the_machine_multiplies_and_copies():
    machine = measure_machine()
    assert machine.rate > 1e8
    assert 0 < machine.copy < 1e-6
