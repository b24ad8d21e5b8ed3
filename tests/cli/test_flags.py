"""The flags of an experiment, from words to a config and back."""

from pathlib import Path

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidle_jax.cli.flags import Cluster, Flags, check_flags
from fidle_jax.cli.parse import parse_flags
from fidle_jax.cli.train import _parse
from fidle_jax.errors import InputError
from fidle_jax.train.command_line import changed_settings, command_line
from fidle_jax.train.config import Config

BY_HAND = {"distributed": True, "coordinator": "host:1234", "processes": 2, "process_index": 0}
JOB = {"launch": "local"}


@hypothesis.settings(max_examples=15)  # each parses the whole command line
@given(
    settings=st.fixed_dictionaries(
        {},
        optional={
            "epochs": st.integers(0, 1000),
            "learning_rate": st.floats(1e-9, 1e9),
            "dropout": st.tuples(st.floats(0, 1), st.floats(0, 1)),
            "data": st.sampled_from(["auto", "full"]),
            "model": st.sampled_from(["cnn", "dnn"]),
            "augmentation": st.sampled_from(["course", "none"]),
            "devices": st.integers(1, 8),
            "parallel": st.sampled_from(["jit", "pmap"]),
            "profile": st.booleans(),
            "progress": st.booleans(),
            "run_dir": st.just(Path("/runs/a folder")),
        },
    )
)
def test_the_command_line_of_a_config_is_parsed_to_that_config(settings):
    defaults = Config().replace(model="dnn")
    config = defaults.replace(**settings)
    assert parse_flags("", defaults, command_line(changed_settings(config, defaults))) == config


def test_the_config_of_flags_contains_nothing_about_processes():
    flags = Flags(cluster=Cluster(**BY_HAND)).replace(epochs=3)
    assert flags.config() == Config().replace(epochs=3)


@pytest.mark.parametrize(
    ("cluster", "named"),
    [
        (BY_HAND | {"distributed": False}, "give --distributed too"),
        (BY_HAND | {"coordinator": None}, "give --coordinator too"),
        (
            BY_HAND | {"processes": None, "process_index": None},
            "give --processes and --process-index too",
        ),
        (BY_HAND | {"process_index": 2}, "--process-index is 2; it must be at most 1"),
        (BY_HAND | {"coordinator": "host"}, "--coordinator is host; it must be HOST:PORT"),
        (BY_HAND | {"coordinator": "host:\N{SUPERSCRIPT TWO}"}, "it must be HOST:PORT"),
        (BY_HAND | {"coordinator": f"host:{5000 * '1'}"}, "it must be HOST:PORT"),
        (BY_HAND | {"coordinator": "host:99999"}, "it must be HOST:PORT"),
        (BY_HAND | {"processes": 0}, "--processes is 0; it must be at least 1"),
        (BY_HAND | {"process_index": -1}, "--process-index is -1; it must be at least 0"),
        ({"connect_seconds": float("nan")}, "--connect-seconds is nan"),
        ({"launch": "slurm", "distributed": True}, "leave --distributed out"),
        ({"minutes": 0}, "--minutes is 0; it must be at least 1"),
        ({"nodes": 2}, "--nodes has no effect; add --launch local or slurm"),
        ({"slurm": ("partition=gpu", "account")}, "--slurm has account; it must be NAME=VALUE"),
        (JOB | {"nodes": 2}, "--launch local uses one machine"),
        (JOB | {"slurm": ("partition=gpu",)}, "leave --nodes and --slurm out"),
        (
            JOB | {"tasks_per_node": 2, "gpus_per_node": 4},
            "--gpus-per-node is 4; it must be 0 or equal",
        ),
        ({"launch": "slurm", "nodes": 2, "gpus_per_node": 4}, "0 or equal to --tasks-per-node"),
        ({"launch": "slurm", "minutes": 3}, "--minutes is 3; it must be at least 5"),
    ],
)
def test_cluster_flags_that_exclude_each_other_are_named(cluster, named):
    with pytest.raises(InputError, match=named):
        check_flags(Flags(cluster=Cluster(**cluster)))


@pytest.mark.parametrize(
    ("name", "value"), [("epochs", -1), ("warmup_epochs", 1e9), ("warmup_epochs", 1e38)]
)
def test_a_wrong_setting_of_the_run_is_named_too(name, value):
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} is "):
        check_flags(Flags().replace(**{name: value}))


def test_flags_that_fit_together_are_accepted():
    for cluster in ({}, BY_HAND, {"distributed": True}, JOB):
        check_flags(Flags(cluster=Cluster(**cluster)))


def test_the_model_defaults_to_that_of_the_run_in_from(trained_run):
    defaults = Flags(**vars(Config().replace(model="dnn")))
    for words, expected in [(["--from", str(trained_run)], "cnn"), ([], "dnn")]:
        assert _parse("mnist_dnn", "", defaults, words).model.name == expected
