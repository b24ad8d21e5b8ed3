from pathlib import Path

import pytest

from fidle_jax.sweep import results
from fidle_jax.sweep.plan import Plan, load_experiment

FILE = Path(__file__).with_name("made_up_experiment.py")


@pytest.fixture(scope="session")
def made_up():
    """The experiment that trains nothing."""
    return load_experiment(FILE)


@pytest.fixture
def begin(tmp_path, made_up):
    """``begin(axes, **fields)`` returns a plan and the directory of its sweep, which has begun."""

    def begin(axes, epochs=2, **fields):
        plan = Plan(made_up.defaults.replace(epochs=epochs), axes, **fields)
        sweep_dir = tmp_path / "sweep"
        results.begin(sweep_dir, plan.to_json() | {"experiment": FILE.name})
        return plan, sweep_dir

    return begin
