import dataclasses
from pathlib import Path

import pytest

from fidle_jax.sweep import folder
from fidle_jax.sweep.experiment import load_experiment
from fidle_jax.sweep.plan import Plan, to_json

FILE = Path(__file__).with_name("made_up_experiment.py")


@pytest.fixture
def made_up():
    """The experiment that trains nothing."""
    return load_experiment(FILE)


@pytest.fixture
def begin(tmp_path, made_up):
    """``begin(axes, **fields of the plan)``: a plan, and the directory of its sweep, which is begun."""

    def begin(axes, epochs=2, **settings):
        plan = Plan(dataclasses.replace(made_up.defaults, epochs=epochs), axes, **settings)
        sweep_dir = tmp_path / "sweep"
        folder.begin(sweep_dir, to_json(plan) | {"experiment": FILE.name})
        return plan, sweep_dir

    return begin
