"""Output during training: metrics.csv, TensorBoard events, and lines on the terminal.

`fidle_jax.train.loop` computes the rows of metrics.csv.
"""

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
from fidle_jax.train.config import Run

COLUMNS: tuple[str, ...] = (
    *("epoch", "step", "learning_rate", "train_loss", "train_accuracy"),
    *("validation_loss", "validation_accuracy", "seconds", "images_per_second"),
)


class RunLogger:
    """Logs a run to its directory and to the terminal.

    ``step``, ``rows`` of metrics.csv and ``seen_images`` are those from which the run continues.
    """

    def __init__(
        self,
        run: Run,
        step: int,
        rows: list[dict[str, Any]],
        total_images: int,
        seen_images: int,
    ):
        run_dir = run.run_dir or Path()
        self._metrics = run_dir / "metrics.csv"
        write_metrics(self._metrics, rows)
        # The usual writer of tensorboardX uses a thread. If the disk is full, the thread dies and the run
        # waits for it forever. This one writes synchronously.
        (run_dir / "tensorboard").mkdir(exist_ok=True)
        self._events = EventsWriter(str(run_dir / "tensorboard" / "events"))
        # Make TensorBoard discard the events after the step from which the run continues.
        start = SessionLog(status=SessionLog.START)
        self._events.write_event(Event(wall_time=time.time(), step=step + 1, session_log=start))
        kernel = sys.modules.get("ipykernel.kernelapp")
        in_notebook = kernel is not None and kernel.IPKernelApp.initialized()
        self._bar = (_notebook_bar() if in_notebook else tqdm)(
            total=total_images,
            initial=seen_images,
            disable=not (run.progress and (in_notebook or sys.stderr.isatty())),
            unit=" images",
            unit_scale=True,
            smoothing=0.1,
            dynamic_ncols=True,
            mininterval=0.2,
        )

    def log_steps(
        self, seen_images: int, loss: float | np.floating, accuracy: float | np.floating
    ) -> None:
        """Update the progress bar with the mean loss and accuracy of the current epoch."""
        text = f"loss {loss:.4f}, accuracy {100 * accuracy:.2f} %"
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(seen_images - self._bar.n)

    def log_epoch(
        self,
        rows: list[dict[str, Any]],
        epochs: int,
        costs: dict[str, float],
        params: dict[str, np.ndarray],
    ) -> None:
        """Log the last of ``rows``, further scalars by their tag, and histograms of ``params``."""
        row = rows[-1]
        self._bar.write(_format_epoch(row, epochs))
        write_metrics(self._metrics, rows)
        tags = {
            name: name.replace("_", "/", 1) for name in row if name.startswith(("train", "val"))
        }
        tags |= {"learning_rate": "learning_rate", "images_per_second": "images_per_second"}
        scalars = {tag: row[name] for name, tag in tags.items() if row[name] is not None} | costs
        values = [summary.scalar(name, value) for name, value in scalars.items()]
        values += [summary.histogram(name, array, "auto") for name, array in params.items()]
        for value in values:
            event = Event(wall_time=time.time(), step=row["step"], summary=value)
            self._events.write_event(event)
        self._events.flush()

    def finish(self) -> None:
        """Close the files at the end of a complete run."""
        self._events.close()

    def close(self) -> None:
        """Remove the progress bar, however the run ended."""
        self._bar.close()


class NullLogger:
    """A logger that does nothing, for all processes but the first."""

    def log_steps(self, *_) -> None:
        """Do nothing."""

    log_epoch = finish = close = log_steps


def _notebook_bar() -> type[tqdm]:
    """Return the progress bar of notebooks, or the usual one if ipywidgets is not installed."""
    import importlib.util

    if importlib.util.find_spec("ipywidgets") is None:
        return tqdm
    from tqdm.notebook import tqdm as widget

    return widget


def write_metrics(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the CSV file of all epochs so far."""
    text = io.StringIO()
    others = dict.fromkeys(name for row in rows for name in row if name not in COLUMNS)
    writer = csv.DictWriter(text, [*COLUMNS, *others], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


def _format_epoch(row: dict[str, Any], epochs: int) -> str:
    parts = [f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}"]
    for split, label in (("train", "loss"), ("validation", "validation loss")):
        if (accuracy := row[f"{split}_accuracy"]) is not None:
            parts += [f"{label} {row[f'{split}_loss']:.4f}", f"accuracy {100 * accuracy:.2f} %"]
    return "  ".join([*parts, f"{row['images_per_second']:,.0f} images/s"])
