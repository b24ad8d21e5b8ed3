"""What a run tells while it runs: metrics.csv, TensorBoard, the terminal and its progress bar."""

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

from fidle_jax.files import write_atomically

COLUMNS: tuple[str, ...] = (
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

# Of result.json, by the tag that TensorBoard has them under.
MEASURES = {
    "test/accuracy": "test_accuracy",
    "test/loss": "test_loss",
    "validation/best_accuracy": "best_validation_accuracy",
    "time/train_seconds": "train_seconds",
    "parameters": "parameters",
}
HPARAMS = ".hparams"  # how the name of their file ends


def write_metrics(path: Path, rows: list[dict[str, Any]]) -> None:
    """The CSV of all epochs so far, whole at any moment."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


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


def write_hparams(
    directory: Path, step: int, options: dict[str, Any], result: dict[str, Any]
) -> None:
    """Adds what TensorBoard's tab HPARAMS compares runs by: a run's options, and what came of them.

    They lie beside the run's other events, in a file of their own, which takes the place of one that
    an earlier end of the same run left. Measures that are None are left out.
    """
    for earlier in directory.glob(f"*{HPARAMS}"):
        earlier.unlink()
    plain = {name: _as_hparam(value) for name, value in options.items()}
    values = [*summary.hparams(plain, MEASURES)]
    values += [
        summary.scalar(tag, result[name])
        for tag, name in MEASURES.items()
        if result[name] is not None
    ]
    writer = EventsWriter(str(directory / "events"), HPARAMS)
    for value in values:
        writer.write_event(Event(wall_time=time.time(), step=step, summary=value))
    writer.close()


def _as_hparam(value: Any) -> bool | float | str:
    if isinstance(value, bool | int | float | str):
        return value
    return "default" if value is None else " ".join(map(str, value))


class Journal:
    """Tells of a run: in its directory, and on the terminal.

    Args:
        run_dir: where the run is written.
        step: from which it goes on.
        rows: of metrics.csv so far.
        images: of the whole run.
        seen: of these, so far.
        progress: show a bar, where stderr is a terminal.
    """

    def __init__(
        self,
        run_dir: Path,
        step: int,
        rows: list[dict[str, Any]],
        images: int,
        seen: int,
        progress: bool,
    ):
        self._metrics = run_dir / "metrics.csv"
        self._tensorboard = TensorBoard(run_dir / "tensorboard", step)
        write_metrics(self._metrics, rows)
        self._bar = tqdm(
            total=images,
            initial=seen,
            disable=not (progress and sys.stderr.isatty()),
            unit=" images",
            unit_scale=True,
            smoothing=0.1,
            dynamic_ncols=True,
            mininterval=0.2,
        )

    def steps(self, seen: int, loss: float | np.floating, accuracy: float | np.floating) -> None:
        """After some steps: ``seen`` images of the whole run, this epoch's loss and accuracy so far."""
        self._bar.set_postfix_str(
            f"loss {loss:.4f}, accuracy {100 * accuracy:.2f} %", refresh=False
        )
        self._bar.update(seen - self._bar.n)

    def epoch(
        self,
        rows: list[dict[str, Any]],
        epochs: int,
        measured: dict[str, float],
        params: dict[str, np.ndarray],
    ) -> None:
        """After an epoch, the last of ``rows``: adds what else was ``measured``, by its tag."""
        row = rows[-1]
        self._bar.write(_describe(row, epochs))
        write_metrics(self._metrics, rows)
        tags = {
            name: name.replace("_", "/", 1) for name in row if name.startswith(("train", "val"))
        }
        tags |= {"learning_rate": "learning_rate", "images_per_second": "images_per_second"}
        scalars = {tag: row[name] for name, tag in tags.items() if row[name] is not None}
        self._tensorboard.write(row["step"], scalars | measured, params)

    def end(self) -> None:
        """The run is at its end: what is left is written out."""
        self._tensorboard.close()

    def close(self) -> None:
        """The bar goes, however the run ended."""
        self._bar.close()


class Silence:
    """A journal that tells nothing: of several processes, the first alone does."""

    def steps(self, *_) -> None:
        """Nothing."""

    epoch = end = close = steps


def _describe(row: dict[str, Any], epochs: int) -> str:
    text = (
        f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}  loss {row['train_loss']:.4f}  "
        f"accuracy {100 * row['train_accuracy']:.2f} %"
    )
    if row["validation_accuracy"] is not None:
        text += (
            f"  validation loss {row['validation_loss']:.4f}  "
            f"accuracy {100 * row['validation_accuracy']:.2f} %"
        )
    return f"{text}  {row['images_per_second']:,.0f} images/s"
