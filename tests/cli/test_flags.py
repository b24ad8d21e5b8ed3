"""The flags of an experiment, from words to a config and back."""

import sys
from pathlib import Path

import pytest

from fidle_jax.errors import InputError
from fidle_jax.train.config import Config

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))

from fidle_jax.cli.flags import Flags, check_flags

DEFAULTS = Config(model="cnn")
BY_HAND = {"distributed": True, "coordinator": "host:1234", "processes": 2, "process_index": 0}


def test_the_config_of_flags_has_nothing_of_where_it_runs():
    assert Flags(epochs=3, **BY_HAND).config() == Config(epochs=3)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"distributed": False}, "give --distributed too"),
        ({"coordinator": None}, "give --coordinator too"),
        ({"processes": None, "process_index": None}, "give --processes and --process-index too"),
        ({"process_index": 2}, "--process-index is 2; expected 0 to 1"),
        ({"coordinator": "host"}, "--coordinator is host; expected HOST:PORT"),
        ({"coordinator": "host:99999"}, "expected HOST:PORT"),
        ({"processes": 0}, "--processes is 0; expected 1 or more"),
        ({"process_index": -1}, "--process-index is -1; expected 0 or more"),
        ({"connect_seconds": float("nan")}, "--connect-seconds is nan"),
        ({"launch": "slrm"}, "did you mean slurm"),
        ({"launch": "slurm"}, "leave --distributed out"),
        ({"minutes": 0}, "--minutes is 0; expected 1 or more"),
        ({"nodes": 2}, "--nodes is for a job; give --launch local or slurm"),
        ({"slurm": ("partition=gpu", "account")}, "--slurm account: expected NAME=VALUE"),
        ({"epochs": -1}, "--epochs is -1"),
    ],
)
def test_flags_that_make_no_sense_are_named(flags, named):
    with pytest.raises(InputError, match=named):
        check_flags(Flags(**(BY_HAND | flags)))


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"launch": "local", "nodes": 2}, "--launch local has one machine"),
        ({"launch": "local", "slurm": ("partition=gpu",)}, "no --slurm"),
        ({"launch": "local", "tasks_per_node": 2, "gpus_per_node": 4}, "expected as many"),
        ({"launch": "slurm", "nodes": 2, "gpus_per_node": 4}, "expected as many"),
        ({"launch": "slurm", "minutes": 3}, "--minutes is 3; expected 5 or more"),
    ],
)
def test_jobs_that_make_no_sense_are_named(flags, named):
    with pytest.raises(InputError, match=named):
        check_flags(Flags(**flags))


def test_flags_that_make_sense_are_taken():
    for flags in (Flags(), Flags(**BY_HAND), Flags(distributed=True), Flags(launch="local")):
        check_flags(flags)
