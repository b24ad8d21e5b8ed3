import dataclasses
from pathlib import Path

import pytest

from fidle_jax.sweep import results
from fidle_jax.sweep.plan import Sweep, load_defaults

FILE = Path(__file__).with_name("made_up_experiment.py")


@pytest.fixture(scope="session")
def made_up():
    """A sweep of the experiment that trains nothing, without axes."""
    return Sweep(Path("none"), FILE, load_defaults(FILE), {}, {"epochs": 2})


@pytest.fixture
def begin(tmp_path, made_up):
    """``begin(axes, **fields)`` returns a sweep that has begun."""

    def begin(axes, **fields):
        sweep = dataclasses.replace(made_up, folder=tmp_path / "sweep", axes=axes, **fields)
        results.begin(sweep.folder, sweep.description())
        return sweep

    return begin
