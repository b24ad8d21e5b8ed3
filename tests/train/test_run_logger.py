"""Tests of what a run writes while it trains."""

import csv

import numpy as np

from fidle_jax.train.config import Run
from fidle_jax.train.run_logger import COLUMNS, RunLogger, write_hparams, write_metrics

ROW = dict.fromkeys(COLUMNS, 1) | {"validation_loss": None, "validation_accuracy": None}


def test_metrics_have_one_row_per_epoch_and_empty_cells_without_validation(tmp_path):
    write_metrics(tmp_path / "metrics.csv", [ROW, ROW | {"epoch": 2}])
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert tuple(rows[0]) == COLUMNS
    assert rows[0]["validation_loss"] == ""


OPTIONS = {"model": "cnn", "learning_rate": 1e-3, "dropout": None, "flips": True}
RESULT = {
    "test_accuracy": 0.9,
    "test_loss": 0.5,
    "best_validation_accuracy": None,
    "train_seconds": 8.0,
    "parameters": 42,
}


def _hparams(directory):
    """Return the messages of the plugin, and the scalars."""
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    values = list(_values(directory))
    plugin = {
        v.tag.removeprefix("_hparams_/"): HParamsPluginData.FromString(
            v.metadata.plugin_data.content
        )
        for v in values
        if v.metadata.plugin_data.plugin_name == "hparams"
    }
    return plugin, {v.tag: v.simple_value for v in values if v.HasField("simple_value")}


def test_options_and_results_can_be_compared_in_tensorboard(tmp_path):
    write_hparams(tmp_path, 7, OPTIONS | {"dropout": (0.2, 0.5)}, RESULT)
    plugin, scalars = _hparams(tmp_path)
    given = plugin["session_start_info"].session_start_info.hparams
    assert given["model"].string_value == "cnn"
    assert given["learning_rate"].number_value == 1e-3
    assert given["dropout"].string_value == "0.2 0.5"
    assert given["flips"].bool_value is True
    assert plugin["session_end_info"].session_end_info.status == 1  # success
    listed = plugin["experiment"].experiment
    assert {info.name for info in listed.hparam_infos} == set(OPTIONS)
    tags = {info.name.tag for info in listed.metric_infos}
    assert tags == {*scalars, "validation/best_accuracy"}
    assert scalars["test/accuracy"] == np.float32(0.9)
    assert scalars["parameters"] == 42


def test_options_without_a_value_are_shown_as_default(tmp_path):
    write_hparams(tmp_path, 7, OPTIONS, RESULT)
    given = _hparams(tmp_path)[0]["session_start_info"].session_start_info.hparams
    assert given["dropout"].string_value == "default"


def test_hparams_written_again_replace_only_the_earlier_ones(tmp_path):
    other = tmp_path / "events.out.tfevents.1"
    other.touch()
    write_hparams(tmp_path, 7, OPTIONS, RESULT)
    write_hparams(tmp_path, 7, OPTIONS, RESULT | {"test_loss": 0.25})
    (added,) = set(tmp_path.iterdir()) - {other}
    other.unlink()
    assert added.name.startswith("events.out.tfevents.")
    assert _hparams(tmp_path)[1]["test/loss"] == 0.25


def _values(directory):
    from tensorboardX.proto.event_pb2 import Event

    (path,) = directory.iterdir()
    data = path.read_bytes()
    while data:
        length = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + length])
        assert event.step in (0, 7)  # 0: the file's own header
        yield from event.summary.value
        data = data[16 + length :]


def test_an_epoch_is_logged_everywhere_and_without_a_terminal_there_is_no_progress_bar(
    tmp_path, capsys
):
    logger = RunLogger(Run(run_dir=tmp_path), 6, [], total_images=100, seen_images=0)
    logger.log_steps(50, 0.5, 0.75)
    row = ROW | {"epoch": 1, "step": 7, "train_loss": 0.5, "images_per_second": 1234.5}
    measured = {"time/step_milliseconds": 8.0}
    logger.log_epoch([row], 3, measured, {"conv_1/kernel": np.arange(10.0)})
    logger.finish()
    logger.close()
    assert capsys.readouterr() == (
        "epoch 1/3  loss 0.5000  accuracy 100.00 %  1,234 images/s\n",
        "",
    )
    with (tmp_path / "metrics.csv").open() as file:
        assert [row["train_loss"] for row in csv.DictReader(file)] == ["0.5"]
    found = {value.tag: value for value in _values(tmp_path / "tensorboard")}
    assert found["train/loss"].simple_value == 0.5
    assert found["conv_1/kernel"].histo.num == 10
    tags = set(found)
    assert tags >= {"train/loss", "train/accuracy", "time/step_milliseconds", "conv_1/kernel"}
    assert "validation/loss" not in tags
