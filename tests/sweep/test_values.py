"""Values of flags have the types that a config has them in, however they were given."""

from pathlib import Path

import pytest

from fidle_jax.errors import InputError
from fidle_jax.sweep import Range, make_plan
from fidle_jax.sweep.values import typed
from tests.sweep.conftest import FILE


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("weight_decay", 0, 0.0),
        ("batch_size", 8, 8),
        ("dropout", [0, 0.5], (0.0, 0.5)),
        ("dropout", 0, (0.0,)),
        ("model", "cnn", "cnn"),
        ("archives", "/x", Path("/x")),
        ("learning_rate", None, None),
    ],
)
def test_a_value_has_the_type_of_its_flag(name, value, expected):
    found = typed(name, value)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("learning_rate", "fast", "learning-rate=fast: expected a number"),
        ("batch_size", 8.5, "batch-size=8.5: expected a whole number"),
        ("batch_size", True, "batch-size=True: expected a whole number"),
        ("model", 3, "model=3: expected text"),
        ("dropout", ["x"], "dropout=x: expected a number"),
    ],
)
def test_a_value_of_another_kind_is_named(name, value, message):
    with pytest.raises(InputError, match=message):
        typed(name, value)


def test_the_same_sweep_in_other_types_is_the_same_plan():
    how = {"search": "random", "samples": 3}
    one = make_plan(FILE, {"shift": Range(0, 1), "weight_decay": [0, 0.1]}, {"width": 1}, **how)
    other = make_plan(
        FILE, {"weight_decay": (0.0, 0.1), "shift": Range(0.0, 1.0)}, {"width": 1.0}, **how
    )
    assert one == other


@pytest.mark.parametrize(
    ("axes", "fixed", "message"),
    [
        ({"epochs": [1]}, {"epochs": 3}, "--epochs is given to every run, but an axis"),
        ({"epochs": [1]}, {"seed": 3}, "--seed is given to every run, but set by the sweep"),
        ({"epochs": [1]}, {"run_dir": "x"}, "--run-dir is given to every run, but set by"),
        ({"epochs": [1]}, {"epoch": 1}, "did you mean epochs"),
        ({"epoch": [1]}, {}, "did you mean epochs"),
        ({"epochs": [1.5]}, {}, "epochs=1.5: expected a whole number"),
    ],
)
def test_flags_that_are_not_for_every_run_are_named(axes, fixed, message):
    with pytest.raises(InputError, match=message):
        make_plan(FILE, axes, fixed)
