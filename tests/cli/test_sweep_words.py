"""Axes and flags of a sweep are read from words and from TOML, into the config's own types."""

import sys
from pathlib import Path

import pytest

from fidle_jax.errors import InputError
from fidle_jax.sweep.plan import Range

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))

from _sweep_words import Words, parse_axes, read_file


def test_axes_have_values_of_their_flags_types():
    words = ["--batch-size=8,16", "learning_rate=1e-3,2", "model=v1,v2", "dropout=0.2:0.3,0:0"]
    assert parse_axes(words) == {
        "batch_size": (8, 16),
        "learning_rate": (0.001, 2.0),
        "model": ("v1", "v2"),
        "dropout": ((0.2, 0.3), (0.0, 0.0)),
    }


def test_two_dots_are_a_range_and_three_one_by_logarithm():
    found = parse_axes(["shift=0..0.2", "learning-rate=1e-4...1e-2", "batch-size=16..64"])
    assert found["shift"] == Range(0.0, 0.2)
    assert found["learning_rate"] == Range(1e-4, 1e-2, log=True)
    assert found["batch_size"] == Range(16, 64)
    assert isinstance(found["batch_size"].low, int)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("model", "expected FLAG=VALUE,VALUE"),
        ("modle=v1", "did you mean model"),
        ("batch-size=8,x", "batch-size=x: expected a whole number"),
        ("learning-rate=fast", "learning-rate=fast: expected a number"),
        ("learning-rate=..1", "expected a number"),
        ("dropout=0.2:x", "dropout=x: expected a number"),
        ("profile=yes", "profile=yes: expected true or false"),
    ],
)
def test_a_word_that_is_no_axis_is_named(word, message):
    with pytest.raises(InputError, match=message):
        parse_axes([word])


def test_an_axis_that_is_given_twice_is_named():
    with pytest.raises(InputError, match="--grid has model twice"):
        parse_axes(["model=v1", "model=v2"])


def test_a_file_says_what_one_would_type(tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text(
        "experiment = 'gtsrb_cnn'\nseeds = 3\nsweep_dir = '/tmp/x'\nretry_failed = true\n"
        "slurm = ['partition=gpu', 'account=me']\n"
        "[grid]\nmodel = ['v1', 'v2']\ndropout = [[0.2, 0.3], [0, 0]]\nseed = 3\n"
        "learning_rate = {low = 1e-4, high = 1e-2, log = true}\nshift = {low = 0, high = 0.2}\n"
        "[flags]\nepochs = 16\nprogress = false\n"
    )
    assert read_file(path) == Words(
        flags=[
            *("--experiment", "gtsrb_cnn", "--seeds", "3", "--sweep-dir", "/tmp/x"),
            *("--retry-failed", "--slurm", "partition=gpu", "account=me"),
        ],
        axes=[
            *("model=v1,v2", "dropout=0.2:0.3,0:0", "seed=3"),
            *("learning_rate=0.0001...0.01", "shift=0..0.2"),
        ],
        fixed=["--epochs", "16", "--no-progress"],
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grid = [", "is no TOML"),
        ("grid = ['model=v1']", r"expected a table \[grid\]"),
        ("[grid]\nshift = {low = 1}", "expected low and high"),
    ],
)
def test_a_file_that_is_wrong_is_named(tmp_path, text, message):
    path = tmp_path / "sweep.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_file(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_file(tmp_path / "none.toml")
