"""What a run tells while it runs: metrics.csv, TensorBoard, and the progress bar."""

import csv
import io
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tqdm import tqdm

from fidle_jax.train.run_dir import write_beside

COLUMNS = (
    "epoch",
    "step",
    "learning_rate",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "seconds",
    "images_per_second",
)


def write_metrics(path: Path, rows: list[dict[str, Any]]) -> None:
    """The CSV of all epochs so far, whole at any moment."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_beside(path, text.getvalue())


class TensorBoard:
    """Scalars and histograms for TensorBoard.

    Written by tensorboardX's own synchronous writer: its usual one writes in a thread, where a full
    disk kills the thread and leaves the run waiting for it.
    """

    def __init__(self, directory: Path, step: int):
        directory.mkdir(exist_ok=True)
        self._writer = EventsWriter(str(directory / "events"))
        # A run that goes on from an earlier step has TensorBoard forget what came after it.
        start = SessionLog(status=SessionLog.START)
        self._writer.write_event(Event(wall_time=time.time(), step=step + 1, session_log=start))

    def write(self, step: int, scalars: dict[str, float], params: dict[str, np.ndarray]) -> None:
        """Adds the scalars and a histogram of each array, at ``step``."""
        values = [summary.scalar(name, value) for name, value in scalars.items()]
        values += [summary.histogram(name, array, "auto") for name, array in params.items()]
        for value in values:
            self._writer.write_event(Event(wall_time=time.time(), step=step, summary=value))
        self._writer.flush()

    def close(self) -> None:
        """Writes out what is left."""
        self._writer.close()


def progress_bar(wanted: bool, total: int, done: int) -> tqdm:
    """A bar over ``total`` images, ``done`` of them before; shown on a terminal, if ``wanted``."""
    return tqdm(
        total=total,
        initial=done,
        disable=not (wanted and sys.stderr.isatty()),
        unit=" images",
        unit_scale=True,
        smoothing=0.1,
        dynamic_ncols=True,
        mininterval=0.2,
    )
