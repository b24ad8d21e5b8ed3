"""The loop around the compiled steps: chunks, epochs, validation, and what is written when."""

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
from jaxtyping import PyTree
from tqdm import tqdm

from fidle_jax.train.checkpoints import Checkpoints
from fidle_jax.train.program import Program
from fidle_jax.train.signals import Stop
from fidle_jax.train.state import NO_STEP, Totals, TrainState
from fidle_jax.train.writers import TensorBoard, progress_bar, write_metrics

# Long enough that Python costs nothing, short enough that Ctrl-C and the bar answer at once.
CHUNK_SECONDS = 0.25


class Interrupted(Exception):
    """A signal asked the run to stop; its state has been saved."""


class NotFinite(RuntimeError):
    """The loss, or the weights after a step, are infinite or not a number."""

    def __init__(self, what: str, step: int):
        super().__init__(
            f"{what} is not finite at step {step}; the last good checkpoint is kept; "
            "try a smaller --learning-rate, --warmup-epochs or --clip-norm"
        )


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long a run is, and how it is watched.

    Attributes:
        run_dir: where it is written.
        epochs: times that each of ``examples`` is seen, in ``steps_per_epoch`` steps.
        checkpoint_seconds: least time between two checkpoints.
        progress: show a bar, where there is a terminal.
    """

    run_dir: Path
    epochs: int
    steps_per_epoch: int
    examples: int
    checkpoint_seconds: float
    progress: bool


@dataclasses.dataclass
class Record:
    """What the host knows of a run so far; saved with each checkpoint.

    Attributes:
        rows: of metrics.csv, one an epoch.
        best_accuracy: highest on validation so far; None before the first, and without validation.
        best_loss: the validation loss that goes with it; the lower decides between equals.
        best_epoch: the epoch, from 1, whose variables are the best; 0: the initial ones.
        seconds: of the epoch in hand, with validation and saving, without compilation.
        step_seconds: of the epoch in hand, the training steps alone.
        all_step_seconds: the training steps of the whole run.
    """

    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best_accuracy: float | None = None
    best_loss: float | None = None
    best_epoch: int = 0
    seconds: float = 0.0
    step_seconds: float = 0.0
    all_step_seconds: float = 0.0


class Loop:
    """A run in hand: the state, the best variables so far, and the record of both.

    ``run`` takes it to the last epoch; ``state``, ``best`` and ``record`` then are the result.
    """

    def __init__(
        self,
        plan: Plan,
        program: Program,
        state: TrainState,
        best: PyTree,
        record: Record,
        checkpoints: Checkpoints,
        stop: Stop,
    ):
        self.state, self.best, self.record = state, best, record
        self._plan, self._program, self._checkpoints, self._stop = plan, program, checkpoints, stop
        self._saved_step = checkpoints.latest_step()
        self._chunk_steps = 1

    def run(self) -> None:
        """Trains to the last epoch.

        Raises:
            Interrupted: a stop was requested; the state is saved.
            NotFinite: the loss is not finite; the last good checkpoint is kept.
            OSError: something could not be written.
        """
        plan = self._plan
        self._time = self._save_time = time.perf_counter()
        self._tensorboard = TensorBoard(plan.run_dir / "tensorboard", int(self.state.step))
        write_metrics(plan.run_dir / "metrics.csv", self.record.rows)
        done = int(self.state.step) // plan.steps_per_epoch
        seen = done * plan.examples + int(self.state.totals.examples) * (self._position() > 0)
        try:
            with progress_bar(plan.progress, plan.epochs * plan.examples, seen) as bar:
                for epoch in range(done, plan.epochs):
                    self._train_epoch(epoch, bar)
                    self._finish_epoch(epoch, bar)
            self._save()
            self._tensorboard.close()
        finally:
            # However the run ends, the checkpoint that is being written becomes whole.
            self._checkpoints.wait()

    def _position(self) -> int:
        return int(self.state.step) % self._plan.steps_per_epoch

    def _train_epoch(self, epoch: int, bar: tqdm) -> None:
        position = self._position()
        if position == 0:
            self.state = self.state.replace(totals=Totals.zeros())
        order = self._program.order(epoch)
        while position < self._plan.steps_per_epoch:
            until = min(position + self._chunk_steps, self._plan.steps_per_epoch)
            self._tick()
            self.state = self._program.train(self.state, order, position, until)
            totals = jax.device_get(self.state.totals)
            self._after_chunk(until - position)
            if totals.bad_step != NO_STEP:
                raise NotFinite("the loss or its gradient", int(totals.bad_step))
            _show(bar, totals, epoch * self._plan.examples)
            position = until
            if position < self._plan.steps_per_epoch:
                self._save_or_stop()

    def _after_chunk(self, steps: int) -> None:
        seconds = self._tick()
        self.record.step_seconds += seconds
        self.record.all_step_seconds += seconds
        wanted = math.ceil(CHUNK_SECONDS * steps / max(seconds, 1e-6))
        self._chunk_steps = max(1, min(wanted, 4 * self._chunk_steps))

    def _tick(self) -> float:
        """The seconds since it was last asked, added to the record."""
        now = time.perf_counter()
        seconds, self._time = now - self._time, now
        self.record.seconds += seconds
        return seconds

    def _finish_epoch(self, epoch: int, bar: tqdm) -> None:
        """Validates, keeps the best, writes the epoch's row."""
        variables = self.state.variables()
        loss = accuracy = None
        if self._program.validate is not None:
            loss, accuracy = self._program.validate(variables)
            if not math.isfinite(loss):
                raise NotFinite("the validation loss", int(self.state.step))
        if self._is_best(loss, accuracy):
            self.best = jax.device_get(variables)
            self.record.best_loss, self.record.best_accuracy = loss, accuracy
            self.record.best_epoch = epoch + 1
        self._tick()
        row = self._row(epoch, loss, accuracy)
        self.record.rows.append(row)
        self.record.seconds = self.record.step_seconds = 0.0
        bar.write(_describe(row, self._plan.epochs))
        write_metrics(self._plan.run_dir / "metrics.csv", self.record.rows)
        self._write_tensorboard(row)
        self._save_or_stop()

    def _is_best(self, loss: float | None, accuracy: float | None) -> bool:
        if accuracy is None or self.record.best_accuracy is None:
            return True
        return (accuracy, -loss) > (self.record.best_accuracy, -self.record.best_loss)

    def _row(self, epoch: int, loss: float | None, accuracy: float | None) -> dict[str, Any]:
        totals = jax.device_get(self.state.totals)
        step = int(self.state.step)
        return {
            "epoch": epoch + 1,
            "step": step,
            "learning_rate": float(self._program.learning_rate(step - 1)),
            "train_loss": float(totals.loss / totals.examples),
            "train_accuracy": float(totals.correct / totals.examples),
            "validation_loss": loss,
            "validation_accuracy": accuracy,
            "seconds": round(self.record.seconds, 4),
            "images_per_second": round(self._plan.examples / self.record.step_seconds, 1),
        }

    def _write_tensorboard(self, row: dict[str, Any]) -> None:
        names = {
            name: name.replace("_", "/", 1) for name in row if name.startswith(("train", "val"))
        }
        names |= {"learning_rate": "learning_rate", "images_per_second": "images_per_second"}
        scalars = {tag: row[name] for name, tag in names.items() if row[name] is not None}
        params = flax.traverse_util.flatten_dict(jax.device_get(self.state.params), sep="/")
        self._tensorboard.write(row["step"], scalars, params)

    def _save_or_stop(self) -> None:
        if self._stop.requested:
            self._save()
            raise Interrupted
        if self._time - self._save_time >= self._plan.checkpoint_seconds:
            self._save()
            self._save_time = self._time

    def _save(self) -> None:
        step = int(self.state.step)
        if step != self._saved_step:
            self._checkpoints.save(step, self.state, self.best, dataclasses.asdict(self.record))
            self._saved_step = step


def _show(bar: tqdm, totals: Totals, seen_before: int) -> None:
    loss, accuracy = totals.loss / totals.examples, totals.correct / totals.examples
    bar.set_postfix_str(f"loss {loss:.4f}, accuracy {100 * accuracy:.2f} %", refresh=False)
    bar.update(seen_before + int(totals.examples) - bar.n)


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
