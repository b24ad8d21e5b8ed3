import dataclasses

import pytest

from fidle_jax.sweep.estimate import SECONDS_BESIDE, Machine, estimate, measure_machine, work_of
from fidle_jax.train.config import Config
from tests.sweep.test_results import finish

MACHINE = Machine(rate=1e11, copy=1e-9)


def test_the_work_of_the_course_s_network_is_that_of_its_layers():
    found = work_of(Config().replace(data="sample", epochs=2, validation_fraction=0.0))
    assert found.examples == 2 * 4000
    # positions times parameters of each layer; multiplications and additions; three passes
    assert found.operations == 6 * (26 * 26 * 80 + 11 * 11 * 1168 + 40100 + 1010)
    assert found.outputs == sum(
        (26 * 26 * 8, 2 * 13 * 13 * 8, 11 * 11 * 16, 2 * 5 * 5 * 16, 400, 2 * 100, 10)
    )


def test_less_data_and_fewer_epochs_are_less_work():
    whole = work_of(Config().replace(dataset="24x24-L", model="v1", epochs=16))
    assert whole.examples == pytest.approx(16 * 39_209 * (0.9 + 0.1 / 3))
    tenth = work_of(Config().replace(dataset="24x24-L", model="v1", epochs=8, scale=0.1))
    assert tenth.examples == pytest.approx(whole.examples / 20)
    on_test = work_of(Config().replace(dataset="24x24-L", model="v1", epochs=16, hold_out="test"))
    assert on_test.examples == pytest.approx(16 * (39_209 + 12_630 / 3))


def test_the_work_on_a_data_set_of_unknown_size_is_unknown():
    assert work_of(Config().replace(dataset="tfds:fashion_mnist")) is None


def on_sample(sweep):
    return dataclasses.replace(sweep, fixed=sweep.fixed | {"data": "sample"})


def test_finished_runs_correct_the_estimate_of_the_others(begin):
    sweep = begin({"model": ("cnn", "dnn")}, seeds=2)
    trials = on_sample(sweep).trials()
    before = estimate(sweep.folder, trials, lambda: MACHINE)
    guess = before[trials[0].name] - SECONDS_BESIDE
    finish(sweep.folder, trials[0].name, train_seconds=3 * guess)
    after = estimate(sweep.folder, trials, lambda: MACHINE)
    assert after[trials[1].name] == pytest.approx(SECONDS_BESIDE + 3 * guess)
    other = before[trials[2].name] - SECONDS_BESIDE
    assert after[trials[2].name] == pytest.approx(SECONDS_BESIDE + 3 * other)


def test_the_machine_is_measured_only_if_necessary(begin):
    def never():
        raise AssertionError

    sweep = begin({"learning_rate": (0.1,)}, seeds=2)
    unknown = dataclasses.replace(sweep, fixed={"dataset": "tfds:fashion_mnist"})
    trials = unknown.trials()
    assert set(estimate(sweep.folder, trials, never).values()) == {None}
    trials = sweep.trials()
    finish(sweep.folder, trials[0].name, train_seconds=3.0)
    assert set(estimate(sweep.folder, trials, never).values()) == {SECONDS_BESIDE + 3}


def test_a_run_without_epochs_and_an_unknown_machine_are_no_errors(begin):
    sweep = begin({"epochs": (0, 1)}, fixed={})
    trials = on_sample(sweep).trials()
    finish(sweep.folder, trials[0].name, train_seconds=0.0)
    assert estimate(sweep.folder, trials, lambda: MACHINE)[trials[0].name] == SECONDS_BESIDE
    assert estimate(sweep.folder, trials, lambda: None)[trials[1].name] is None


def test_the_machine_multiplies_and_copies():
    machine = measure_machine()
    assert machine.rate > 1e8
    assert 0 < machine.copy < 1e-6
