"""Tests of what a run writes while it trains."""

import csv

import numpy as np

from fidle_jax.train.config import Run
from fidle_jax.train.run_logger import COLUMNS, RunLogger, write_metrics

ROW = dict.fromkeys(COLUMNS, 1) | {"validation_loss": None, "validation_accuracy": None}


def test_metrics_have_one_row_per_epoch_and_empty_cells_without_validation(tmp_path):
    write_metrics(tmp_path / "metrics.csv", [ROW, ROW | {"epoch": 2}])
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert tuple(rows[0]) == COLUMNS
    assert rows[0]["validation_loss"] == ""


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
