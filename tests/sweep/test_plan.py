import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidle_jax.errors import InputError
from fidle_jax.sweep.plan import Range, Sweep, load_defaults, make_sweep
from fidle_jax.train.config import Config
from tests.sweep.conftest import FILE

RATES = (0.1, 0.2, 0.3, 0.4)
ADAM_OR_SGD = {"optimizer": ("adam", "sgd")}


def plan(axes, config=Config(), **fields):  # noqa: B008
    return Sweep(Path("x"), FILE, config, axes, **fields)


def test_a_grid_contains_all_combinations_with_all_seeds():
    sweep = plan({"learning_rate": RATES, **ADAM_OR_SGD}, seeds=3)
    found = [
        tuple(map(t.config.settings().get, ("learning_rate", "optimizer", "seed")))
        for t in sweep.trials
    ]
    assert found == [(r, o, s) for r in RATES for o in ("adam", "sgd") for s in range(3)]


def test_each_variant_runs_with_each_setting_and_changes_several_flags():
    variants = {"whole": {}, "no warp": {"shift": 0.0, "rotation": 0.0}}
    trials = plan(ADAM_OR_SGD, Config().replace(shift=0.1), variants=variants).trials
    found = [
        (t.variant, *map(t.config.settings().get, ("optimizer", "shift", "rotation")))
        for t in trials
    ]
    assert found == [
        *(("whole", optimizer, 0.1, None) for optimizer in ("adam", "sgd")),
        *(("no warp", optimizer, 0.0, 0.0) for optimizer in ("adam", "sgd")),
    ]
    assert len({trial.name for trial in trials}) == 4
    assert trials[2].name.startswith("no_warp-adam-")
    found = plan(ADAM_OR_SGD, Config().replace(shift=0.1), variants=variants).description()
    assert found["variants"] == {trial.setting: trial.variant for trial in trials}
    assert (found["baseline"], found["columns"]) == ("whole", ["variant", "optimizer"])


def test_a_newer_version_can_continue_a_sweep():
    # These were the names before the flag blur was added.
    assert [each.setting for each in plan(ADAM_OR_SGD).trials] == ["adam-3d20a188", "sgd-028095a9"]
    assert "blur" not in plan(ADAM_OR_SGD).description()["defaults"]
    blurred = plan(ADAM_OR_SGD, Config().replace(blur=0.1))
    assert blurred.description()["defaults"]["blur"] == 0.1
    assert blurred.trials[0].setting != "adam-3d20a188"


@given(
    rates=st.lists(st.floats(1e-30, 10), min_size=1, max_size=4, unique=True),
    dropout=st.lists(
        st.lists(st.floats(0, 0.9), min_size=3, max_size=3).map(tuple), max_size=3, unique=True
    ),
    parallel=st.sampled_from([(), ("jit",), ("jit", "pmap")]),
    seeds=st.integers(1, 3),
)
def test_trials_have_unique_names_that_are_file_names(rates, dropout, parallel, seeds):
    axes = {"learning_rate": tuple(rates), "dropout": tuple(dropout), "parallel": parallel}
    trials = plan({k: v for k, v in axes.items() if v}, seeds=seeds).trials
    names = [trial.name for trial in trials]
    assert len(set(names)) == len(rates) * max(1, len(dropout)) * max(1, len(parallel)) * seeds
    assert all(len(name) < 120 and not set(name) & set("/ \\\0") for name in names)
    assert len({trial.setting for trial in trials}) == len(names) // seeds


@pytest.mark.parametrize("names", [("p:1", "p;1"), (80 * "\u5b57", 81 * "\u5b57")])
def test_variants_with_similar_or_long_names_have_their_own_short_file_names(names):
    trials = plan({}, variants={name: {} for name in names}).trials
    assert len({trial.name for trial in trials}) == 2
    assert all(len(trial.name.encode()) < 120 for trial in trials)


def test_names_do_not_depend_on_the_order_of_the_flags():
    axes = {**ADAM_OR_SGD, "learning_rate": RATES, "shift": (0.0, 0.1)}
    for how in ({}, {"search": "random", "samples": 9}):
        one, other = (
            [t.name for t in plan(each, **how).trials]
            for each in (axes, dict(reversed(axes.items())))
        )
        assert one == other


def test_names_depend_on_the_flags_of_every_run():
    one, other = (plan({"learning_rate": RATES}, fixed={"epochs": n}) for n in (1, 2))
    assert not {t.name for t in one.trials} & {t.name for t in other.trials}


@given(low=st.floats(1e-6, 1), factor=st.floats(1.01, 1e4), log=st.booleans())
def test_random_numbers_are_within_their_range(low, factor, log):
    axes = {"learning_rate": Range(low, low * factor, log), "batch_size": Range(8, 64)}
    sweep = plan(axes, search="random", samples=20)
    configs = [trial.config.optimisation for trial in sweep.trials]
    assert all(low * 0.999 <= c.learning_rate <= low * factor * 1.001 for c in configs)
    assert all(8 <= c.batch_size <= 64 and isinstance(c.batch_size, int) for c in configs)
    assert configs == [trial.config.optimisation for trial in sweep.trials]


def _random(axes, samples):
    return plan(axes, search="random", samples=samples).trials


def test_a_logarithmic_range_is_log_uniform():
    trials = _random({"learning_rate": Range(1e-4, 1.0, True)}, 400)
    assert 0.4 < sum(t.config.optimisation.learning_rate < 1e-2 for t in trials) / 400 < 0.6


def test_a_larger_random_search_contains_the_smaller_one():
    axes = {"learning_rate": Range(0.1, 1.0), **ADAM_OR_SGD}
    assert _random(axes, 9)[:4] == _random(axes, 4)


def test_a_setting_that_is_drawn_twice_runs_once():
    assert len(_random(ADAM_OR_SGD, 30)) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"axes": {"learning_rat": (1.0,)}}, "did you mean learning_rate"),
        ({"axes": {"seed": (1,)}}, "unknown axis of a sweep 'seed'"),
        ({"axes": {"dataset": ("mnist", "24x24-RBG")}}, "unknown dataset '24x24-RBG'"),
        ({"axes": {}}, "the sweep has no axes"),
        ({"axes": {"model": ("cnn", "v9")}}, "unknown model 'v9'"),
        ({"axes": {"model": ()}}, "the axis model has no values"),
        ({"axes": {"model": ("cnn", "cnn")}}, "the axis model has a value twice"),
        ({"axes": {"learning_rate": (-1.0,)}}, "--learning-rate is -1.0; "),
        ({"axes": {"learning_rate": Range(0.1, 1.0)}}, "is a range; list values or"),
        (
            {"axes": {"learning_rate": Range(1.0, 0.1)}, "search": "random"},
            "expected low < high, and low > 0",
        ),
        (
            {"axes": {"shift": Range(0, 0.1, True)}, "search": "random"},
            "expected low < high, and low > 0",
        ),
        (
            {"axes": {"epochs": Range(1, 10**400)}, "search": "random"},
            "--epochs is 10+; it must be at most 1e",
        ),
        (
            {"axes": {"shift": Range(-(10**400), 1)}, "search": "random"},
            "--shift is -inf; it must be between 0 and 1",
        ),
        (
            {"axes": {"dropout": Range(0.1, 0.2)}, "search": "random"},
            "dropout is a range; list its values, because each is several numbers",
        ),
        ({"axes": {"learning_rate": [10**400]}}, "--learning-rate is inf; it must be at most"),
        ({"search": "random", "samples": 0}, "--search random needs --samples"),
        ({"search": "best"}, "unknown value of --search 'best'"),
        ({"seeds": 0}, "--seeds is 0; expected 1 or more"),
        ({"variants": {"": {"epochs": 1}}}, "a variant has no name; give it one"),
        ({"variants": {"a": {"seed": 1}}}, "unknown flag of the variant 'a' 'seed'"),
        ({"variants": {"a": {"model": "v9"}}}, "unknown model 'v9'"),
        ({"variants": {"a": {"epoch": 1}}}, "did you mean epochs"),
        ({"variants": {"a": {"learning_rate": 1}}}, "'a' sets the axis learning_rate"),
        ({"axes": {"epochs": [1]}, "fixed": {"epochs": 3}}, "--epochs cannot .* it is an axis"),
        ({"fixed": {"seed": 3}}, "--seed cannot be given to every run: the sweep sets it"),
        ({"fixed": {"run_dir": "x"}}, "--run-dir cannot be given to every run: the sweep sets it"),
        ({"fixed": {"epoch": 1}}, "did you mean epochs"),
        ({"axes": {"epochs": [1.5]}}, "epochs is 1.5; it must be a whole number"),
    ],
    ids=str,
)
def test_an_error_in_a_plan_is_named(settings, message):
    usual = {"axes": {"learning_rate": RATES}, "fixed": {}, "samples": 3}
    with pytest.raises(InputError, match=message):
        make_sweep("x", FILE, **usual | settings)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import sys; sys.exit(0)", "it ends the program"),
        ("class Odd(BaseException): pass\nraise Odd('odd')", "odd"),
        ("1 / 0", "division by zero"),
    ],
)
def test_a_file_that_ends_badly_when_it_is_imported_is_no_experiment(tmp_path, text, reason):
    file = tmp_path / "bad.py"
    file.write_text(text)
    with pytest.raises(InputError, match=f"bad.py is not an experiment: {reason}; give"):
        load_defaults(file)


def test_a_plan_as_json_does_not_depend_on_where_data_is(tmp_path):
    sweep = plan({"learning_rate": RATES, "optimizer": ("adam",)})
    elsewhere = dataclasses.replace(
        sweep, defaults=Config().replace(archives=tmp_path, data_dir=tmp_path)
    )
    assert json.dumps(sweep.description()) == json.dumps(elsewhere.description())
    more = dataclasses.replace(sweep, seeds=2).description()
    assert json.dumps(sweep.description()) != json.dumps(more)
    assert (sweep.description()["runs"], more["runs"]) == (4, 8)


def test_the_same_sweep_in_other_types_is_the_same_plan():
    how = {"search": "random", "samples": 3}
    one = make_sweep(
        "x", FILE, {"shift": Range(0, 1), "weight_decay": [0, 0.1]}, {"width": 1}, **how
    )
    other = make_sweep(
        "x", FILE, {"weight_decay": (0.0, 0.1), "shift": Range(0.0, 1.0)}, {"width": 1.0}, **how
    )
    assert one == other
