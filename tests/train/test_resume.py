"""``--resume --epochs N`` continues a run, and loses nothing if it is killed."""

import csv
import functools
import json

import jax
import numpy as np
import pytest

from fidle_jax.errors import InputError
from fidle_jax.files import changed_files
from fidle_jax.train import run as run_module
from fidle_jax.train.config import ResolvedConfig
from fidle_jax.train.custom import NO_OBJECTS
from fidle_jax.train.resume import Extension, describe_extension
from fidle_jax.train.run_dir import read_result
from fidle_jax.train.trained import read_trained


class Killed(BaseException):
    """The process ended here."""


def outcome(run_dir):
    """Return the arrays and metrics that do not depend on time."""
    rows = list(csv.DictReader((run_dir / "metrics.csv").open()))
    for row in rows:
        del row["seconds"], row["images_per_second"]
    return read_trained(run_dir).variables, rows


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found[0], expected[0])
    assert found[1] == expected[1]


def test_a_run_with_a_constant_schedule_is_extended_to_the_bits_of_a_longer_one(
    run, tmp_path, capsys
):
    common = {"warmup_epochs": 1.0, "ema_decay": 0.9, "optimizer": "adamw", "weight_decay": 0.01}
    run(run_dir=tmp_path / "long", epochs=4, **common)
    run(**common)
    result = run(**common, resume=True, epochs=4)
    assert_same(outcome(tmp_path / "run"), outcome(tmp_path / "long"))
    assert result["epochs"] == 4
    assert changed_files(tmp_path / "run") == []
    printed = capsys.readouterr().out
    assert (
        "extending the run from 2 to 4 epochs: the result is that of a new 4-epoch run, bit for bit"
        in printed
    )
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["epochs"], config["extended_from"]) == (4, [2])
    assert config["command"] == "python squares.py && python squares.py"

    assert run(**common, resume=True, epochs=4) == result
    assert "is finished; nothing was changed" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"settings: --epochs 3 \(the run has 4\); leave"):
        run(**common, resume=True, epochs=3)
    run(**common, resume=True, epochs=5)
    assert read_result(tmp_path / "run")["epochs"] == 5


def test_with_a_cosine_schedule_a_line_says_that_a_new_run_would_differ():
    before = ResolvedConfig().replace(
        epochs=2, schedule="cosine", learning_rate=0.1, warmup_epochs=1.0
    )
    describe = functools.partial(
        describe_extension, Extension(before, ""), before.replace(epochs=3), NO_OBJECTS, 5
    )
    assert describe(10) == (
        "extending the run from 2 to 3 epochs: the cosine schedule of a 3-epoch run continues from "
        "epoch 2; a new 3-epoch run would differ"
    )
    for step in (0, 5):  # the warm-up is the same
        assert describe(step).endswith("the result is that of a new 3-epoch run, bit for bit")


def test_an_unfinished_run_is_extended(run, tmp_path, monkeypatch):
    run(run_dir=tmp_path / "long", epochs=3)
    killed_at(monkeypatch, "evaluate_test", run, epochs=2)
    run(epochs=3, resume=True)
    assert_same(outcome(tmp_path / "run"), outcome(tmp_path / "long"))


def killed_at(monkeypatch, name, run, **flags):
    """Kill a run when it calls a function of run.py."""

    def die(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(run_module, name, die)
        with pytest.raises(Killed):
            run(**flags)


@pytest.mark.parametrize(
    "name",
    [
        "write_extension",
        "write_json",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("Loop", "evaluate_test")),
    ],
)
def test_an_extension_killed_at_any_point_keeps_the_old_result_and_can_be_resumed(
    run, tmp_path, monkeypatch, name
):
    # More checkpoints than are kept, so that the one of the old result would be deleted.
    common = {"checkpoint_seconds": 0.0}
    run(run_dir=tmp_path / "long", epochs=6, **common)
    result = run(**common)
    old = outcome(tmp_path / "run")
    killed_at(monkeypatch, name, run, resume=True, epochs=6, **common)
    assert read_result(tmp_path / "run") == result
    if name != "write_json":  # it follows the removal of the old report
        found = read_trained(tmp_path / "run")
        jax.tree.map(np.testing.assert_array_equal, found.variables, old[0])
    # Without the new number, the run is finished if config.json was not written.
    epochs = json.loads((tmp_path / "run" / "config.json").read_text())["epochs"]
    assert epochs == (2 if name == "write_extension" else 6)
    result = run(resume=True, epochs=6, **common)
    assert result["epochs"] == 6
    assert_same(outcome(tmp_path / "run"), outcome(tmp_path / "long"))


def test_a_run_without_checkpoints_is_not_extended(run, tmp_path):
    run()
    before = (tmp_path / "run" / "config.json").read_bytes()
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        path.rename(tmp_path / path.name)
    with pytest.raises(InputError, match="is damaged and has no checkpoint"):
        run(resume=True, epochs=3)
    assert (tmp_path / "run" / "config.json").read_bytes() == before
