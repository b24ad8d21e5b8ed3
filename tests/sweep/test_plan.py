"""A sweep's trials: every combination, or some; each under a name of its own, the same for ever."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidle_jax.errors import InputError
from fidle_jax.sweep.plan import (
    Plan,
    Range,
    all_trials,
    check_plan,
    first_trials,
    later_rungs,
    to_json,
)
from fidle_jax.train.config import Config

RATES = (0.1, 0.2, 0.3, 0.4)


def test_a_grid_is_every_combination_with_every_seed():
    plan = Plan(Config(), {"learning_rate": RATES, "optimizer": ("adam", "sgd")}, seeds=3)
    found = [
        (t.config.learning_rate, t.config.optimizer, t.config.seed) for t in first_trials(plan)
    ]
    assert found == [(r, o, s) for r in RATES for o in ("adam", "sgd") for s in range(3)]


@given(
    rates=st.lists(st.floats(0, 10), min_size=1, max_size=4, unique=True),
    dropout=st.lists(
        st.lists(st.floats(0, 0.9), min_size=3, max_size=3).map(tuple), max_size=3, unique=True
    ),
    parallel=st.sampled_from([(), ("jit",), ("jit", "pmap")]),
    seeds=st.integers(1, 3),
)
def test_trials_have_names_of_their_own_that_are_file_names(rates, dropout, parallel, seeds):
    axes = {"learning_rate": tuple(rates), "dropout": tuple(dropout), "parallel": parallel}
    trials = first_trials(Plan(Config(), {k: v for k, v in axes.items() if v}, seeds=seeds))
    names = [trial.name for trial in trials]
    assert len(set(names)) == len(rates) * max(1, len(dropout)) * max(1, len(parallel)) * seeds
    assert all(len(name) < 120 and not set(name) & set("/ \\\0") for name in names)
    assert len({trial.setting for trial in trials}) == len(names) // seeds


def test_names_do_not_change_when_the_flags_are_given_in_another_order():
    axes = {"optimizer": ("adam", "sgd"), "learning_rate": RATES, "shift": (0.0, 0.1)}
    for how in ({}, {"search": "random", "samples": 9}):
        one, other = (
            [t.name for t in first_trials(Plan(Config(), each, **how))]
            for each in (axes, dict(reversed(axes.items())))
        )
        assert one == other


def test_names_tell_what_every_run_has():
    one, other = (Plan(Config(epochs=n), {"learning_rate": RATES}) for n in (1, 2))
    names = {t.name for t in first_trials(one)} & {t.name for t in first_trials(other)}
    assert not names


@given(low=st.floats(1e-6, 1), factor=st.floats(1.01, 1e4), log=st.booleans())
def test_drawn_numbers_are_within_their_range(low, factor, log):
    axes = {"learning_rate": Range(low, low * factor, log), "batch_size": Range(8, 64)}
    plan = Plan(Config(), axes, search="random", samples=20)
    configs = [trial.config for trial in first_trials(plan)]
    assert all(low * 0.999 <= c.learning_rate <= low * factor * 1.001 for c in configs)
    assert all(8 <= c.batch_size <= 64 and isinstance(c.batch_size, int) for c in configs)
    assert configs == [trial.config for trial in first_trials(plan)]


def test_a_range_by_logarithm_is_drawn_evenly_by_logarithm():
    plan = Plan(Config(), {"learning_rate": Range(1e-4, 1.0, True)}, search="random", samples=400)
    below = [t.config.learning_rate < 1e-2 for t in first_trials(plan)]
    assert 0.4 < sum(below) / len(below) < 0.6


def test_more_samples_begin_with_those_of_fewer():
    def names(samples):
        axes = {"learning_rate": Range(0.1, 1.0), "optimizer": ("adam", "sgd")}
        return [
            t.name for t in first_trials(Plan(Config(), axes, search="random", samples=samples))
        ]

    assert names(9)[:4] == names(4)


def test_a_setting_that_is_drawn_twice_runs_once():
    plan = Plan(Config(), {"optimizer": ("adam", "sgd")}, search="random", samples=30)
    assert len(first_trials(plan)) == 2


def _halving(samples=9, seeds=1):
    axes = {"learning_rate": Range(0.1, 1.0)}
    return Plan(Config(), axes, seeds=seeds, search="halving", samples=samples, first_epochs=2)


def test_halving_has_the_best_third_go_on_for_three_times_as_long():
    plan = _halving(seeds=2)
    rate = {t.name: t.config.learning_rate for t in first_trials(plan)}
    known = all_trials(plan, lambda name: -rate[name] if name in rate else None)
    best = sorted(set(rate.values()))[:3]
    second = known[len(rate) :]
    assert sorted({t.config.learning_rate for t in second}) == best
    assert [(t.config.epochs, t.config.seed) for t in second] == [(6, 0), (6, 1)] * 3
    rate |= {t.name: t.config.learning_rate for t in second}
    third = all_trials(plan, lambda name: -rate[name] if name in rate else None)[len(rate) :]
    assert {(t.config.epochs, t.config.learning_rate) for t in third} == {(18, best[0])}


def test_halving_waits_for_all_of_a_rung():
    plan = _halving()
    first = first_trials(plan)
    assert all_trials(plan, lambda name: None if name == first[3].name else 1.0) == first


@pytest.mark.parametrize("samples", [1, 2, 3, 8, 9, 28])
def test_halving_ends_with_one_setting_and_its_rungs_are_known_before(samples):
    plan = _halving(samples, seeds=2)
    known = all_trials(plan, lambda name: 1.0)
    epochs = sorted({t.config.epochs for t in known})
    runs = [sum(t.config.epochs == each for t in known) for each in epochs]
    assert runs[-1] == 2
    assert [(n, e) for n, e in zip(runs, epochs, strict=True)][1:] == later_rungs(plan)
    assert to_json(plan)["runs"] == len(known)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"axes": {"learning_rat": (1.0,)}}, "did you mean learning_rate"),
        ({"axes": {"seed": (1,)}}, "unknown axis of a sweep 'seed'"),
        ({"axes": {"dataset": ("mnist", "24x24-RBG")}}, "unknown dataset '24x24-RBG'"),
        ({"axes": {}}, "the sweep has no axes"),
        ({"defaults": Config(epochs=3), "search": "halving"}, "leave that flag out"),
        ({"defaults": Config(validation_fraction=0.0), "search": "halving"}, "by validation"),
        ({"axes": {"model": ("cnn", "v9")}}, "unknown model 'v9'"),
        ({"axes": {"model": ()}}, "the axis model has no values"),
        ({"axes": {"model": ("cnn", "cnn")}}, "the axis model has a value twice"),
        ({"axes": {"learning_rate": (-1.0,)}}, "--learning-rate is -1.0; expected"),
        ({"axes": {"learning_rate": Range(0.1, 1.0)}}, "is a range; list its values, or"),
        ({"axes": {"learning_rate": Range(1.0, 0.1)}, "search": "random"}, "a lower and a higher"),
        ({"axes": {"shift": Range(0, 0.1, True)}, "search": "random"}, "a lower and a higher"),
        ({"search": "random", "samples": 0}, "--search random needs --samples"),
        ({"search": "best"}, "unknown value of --search 'best'"),
        ({"seeds": 0}, "--seeds is 0; expected 1 or more"),
        ({"axes": {"epochs": (1, 2)}, "search": "halving"}, "leave that flag out"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused_by_name(settings, message):
    usual = {"defaults": Config(), "axes": {"learning_rate": RATES}, "samples": 3}
    with pytest.raises(InputError, match=message):
        check_plan(Plan(**usual | settings))


def test_a_plan_as_json_does_not_tell_where_data_lies(tmp_path):
    plan = Plan(Config(), {"learning_rate": RATES, "optimizer": ("adam",)})
    elsewhere = dataclasses.replace(plan, defaults=Config(archives=tmp_path, data_dir=tmp_path))
    assert json.dumps(to_json(plan)) == json.dumps(to_json(elsewhere))
    assert json.dumps(to_json(plan)) != json.dumps(to_json(dataclasses.replace(plan, seeds=2)))
