"""The loop around the compiled steps: chunks of steps, validation, and when files are written.

`Loop._is_best` selects the best epoch, `Loop._row` makes a row of metrics.csv, and `Loop._is_save_due`
decides when a checkpoint is written. `fidle_jax.train.run_logger` writes metrics.csv.
"""

import contextlib
import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import numpy as np
from jaxtyping import PyTree

from fidle_jax.data.batches import steps_per_epoch
from fidle_jax.train.checkpoints import Checkpoints
from fidle_jax.train.compiled_steps import CompiledSteps
from fidle_jax.train.config import ResolvedConfig
from fidle_jax.train.custom import NO_OBJECTS, Custom, Event
from fidle_jax.train.distributed import any_process, gather, is_first
from fidle_jax.train.parallel import peak_memory_bytes
from fidle_jax.train.run_logger import NullLogger, RunLogger
from fidle_jax.train.signals import Stop
from fidle_jax.train.step import NO_STEP, Totals, TrainState

# Long enough to hide Python overhead, short enough to respond to Ctrl-C.
CHUNK_SECONDS = 0.25
# The time between two checkpoints is at least this multiple of the time to write one.
CHECKPOINT_SPACING = 10
PROFILED_STEPS = 5


class Interrupted(Exception):
    """A signal stopped the run after its state was saved."""


class NotFinite(RuntimeError):
    """The loss or the weights are infinite or NaN."""

    def __init__(self, what: str, step: int):
        super().__init__(
            f"{what} is not finite at step {step}; the last good checkpoint is kept; "
            "try a smaller --learning-rate, --warmup-epochs or --clip-norm"
        )


@dataclasses.dataclass
class Record:
    """Progress of a run in host memory. It is saved with each checkpoint."""

    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)  # of metrics.csv
    best_accuracy: float | None = None  # on the validation data
    best_loss: float | None = None  # validation loss of the best epoch
    best_epoch: int = 0  # starting at 1; 0 means the initial variables
    seconds: float = 0.0  # of the current epoch, with validation and saving
    step_seconds: float = 0.0  # of the training steps of the current epoch
    all_step_seconds: float = 0.0  # of the training steps of the whole run
    stopped: bool = False  # a callback ended the training


@dataclasses.dataclass
class Loop:
    """A run in progress."""

    config: ResolvedConfig  # with a run directory
    examples: int  # number of training examples
    compiled: CompiledSteps
    state: TrainState  # on the devices
    best: PyTree  # variables of the best epoch, in host memory
    record: Record
    checkpoints: Checkpoints
    stop: Stop
    custom: Custom = NO_OBJECTS

    def run(self) -> None:
        """Train up to the last epoch. ``state``, ``best`` and ``record`` are then the result.

        Raises:
            Interrupted: A stop was requested. The state is saved.
            NotFinite: The loss is not finite. The last good checkpoint is kept.
            OSError: A file could not be written.
        """
        self._steps = steps_per_epoch(self.examples, self.config.optimisation.batch_size)
        self._chunk_steps, self._chunks = 1, 0
        self._time = self._save_time = time.perf_counter()
        self._saving, self._save_seconds = False, 0.0
        epochs, step = self.config.optimisation.epochs, int(self.state.step)
        done, position = divmod(step, self._steps)
        self._logger = NullLogger()
        if is_first():
            seen = done * self.examples + int(self.state.totals.examples) * (position > 0)
            rows, total = self.record.rows, epochs * self.examples
            self._logger = RunLogger(self.config.run, step, rows, total, seen)
        try:
            for epoch in range(done, epochs):
                if self.record.stopped:
                    break
                self._train_epoch(epoch)
                self._finish_epoch(epoch)
            self._save()
            self._logger.finish()
        finally:
            self._logger.close()
            # Complete the checkpoint that is being written, however the run ends.
            self.checkpoints.wait()

    def _train_epoch(self, epoch: int) -> None:
        run = self.config.run
        position = int(self.state.step) % self._steps
        if position == 0:
            zeros = self.compiled.replicate(jax.device_get(Totals.zeros()))
            self.state = self.state.replace(totals=zeros)
        batches = self.compiled.batches(epoch, position)
        while position < self._steps:
            self._chunks += 1
            # Profile the second chunk, because the first one includes one-time costs.
            profiled = run.profile and self._chunks == 2
            steps = PROFILED_STEPS if profiled else self._chunk_steps
            until = min(position + steps, self._steps)
            trace = jax.profiler.trace(f"{run.run_dir}/profile", create_perfetto_trace=True)
            with trace if profiled and is_first() else contextlib.nullcontext():
                self._tick()
                train = self._train_step_by_step if profiled else self.compiled.train
                self.state = train(self.state, batches, position, until)
                totals = jax.device_get(self.state.totals)
                self._update_chunk_steps(until - position)
            if totals.bad_step != NO_STEP:
                raise NotFinite("the loss or its gradient", int(totals.bad_step))
            self._logger.log_steps(
                epoch * self.examples + int(totals.examples),
                totals.loss / totals.examples,
                totals.correct / totals.examples,
            )
            position = until
            if position < self._steps:
                self._save_or_stop()

    def _train_step_by_step(
        self, state: TrainState, batches: Any, start: int, stop: int
    ) -> TrainState:
        """Train with one call per step, so that a trace shows separate steps."""
        for step in range(start, stop):
            with jax.profiler.StepTraceAnnotation("train", step_num=step):
                state = jax.block_until_ready(self.compiled.train(state, batches, step, step + 1))
        return state

    def _update_chunk_steps(self, steps: int) -> None:
        seconds = self._tick()
        self.record.step_seconds += seconds
        self.record.all_step_seconds += seconds
        wanted = math.ceil(CHUNK_SECONDS * steps / max(seconds, 1e-6))
        self._chunk_steps = max(1, min(wanted, 4 * self._chunk_steps))

    def _tick(self) -> float:
        """Add the time since the last call to the record, and return it."""
        now = time.perf_counter()
        seconds, self._time = now - self._time, now
        self.record.seconds += seconds
        return seconds

    def _finish_epoch(self, epoch: int) -> None:
        """Validate, keep the best variables, and log the epoch."""
        record = self.record
        variables = self.state.variables()
        loss, accuracy, metrics = None, None, {}
        if self.compiled.validate is not None:
            loss, accuracy, metrics = self.compiled.validate(variables)
            if not math.isfinite(loss):
                raise NotFinite("the validation loss", int(self.state.step))
        if self._is_best(loss, accuracy):
            self.best = jax.device_get(variables)
            record.best_loss, record.best_accuracy, record.best_epoch = loss, accuracy, epoch + 1
        self._tick()
        row = self._row(epoch, loss, accuracy)
        record.rows.append(row | {f"validation_{name}": metrics[name] for name in metrics})
        costs = {
            "time/step_milliseconds": 1e3 * record.step_seconds / self._steps,
            "time/transfer_seconds": self.compiled.transfer_seconds,
            "time/compile_seconds": self.compiled.compile_seconds,
            "memory/peak_bytes": peak_memory_bytes(),
        }
        params = jax.device_get(self.state.params)
        flat: Any = flax.traverse_util.flatten_dict(params, sep="/")
        self._logger.log_epoch(record.rows, self.config.optimisation.epochs, costs, flat)
        record.seconds = record.step_seconds = 0.0
        if self.custom.callbacks:
            run_dir = self.config.run.run_dir or Path()
            event = Event(epoch + 1, record.rows[-1], params, run_dir)
            record.stopped = any_process(is_first() and not self.custom.call(event))
        self._save_or_stop()

    def _is_best(self, loss: float | None, accuracy: float | None) -> bool:
        """Compare the validation accuracy with that of the best epoch. The lower loss breaks ties.

        Without validation data, every epoch is the best so far.
        """
        best_loss, best_accuracy = self.record.best_loss, self.record.best_accuracy
        if loss is None or accuracy is None or best_loss is None or best_accuracy is None:
            return True
        return (accuracy, -loss) > (best_accuracy, -best_loss)

    def _row(self, epoch: int, loss: float | None, accuracy: float | None) -> dict[str, Any]:
        """Return a row of metrics.csv.

        Training values are means over the epoch, with dropout, augmentation and label smoothing. The seconds
        include validation and saving; images per second include only the steps.
        """
        totals = jax.device_get(self.state.totals)
        step = int(self.state.step)
        rate = self.compiled.learning_rate(step - 1)
        return {
            "epoch": epoch + 1,
            "step": step,
            "learning_rate": rate if rate is None else float(rate),
            "train_loss": float(totals.loss / totals.examples),
            "train_accuracy": float(totals.correct / totals.examples),
            "validation_loss": loss,
            "validation_accuracy": accuracy,
            "seconds": round(self.record.seconds, 4),
            "images_per_second": round(self.examples / self.record.step_seconds, 1),
        }

    def _save_or_stop(self) -> None:
        # Clocks and signals differ between processes. The first process decides about chunks and
        # saving; a signal to any process stops all.
        mine = [self._chunk_steps, self._is_save_due(), self.stop.requested]
        rows = gather(np.array(mine, np.int32))
        self._chunk_steps, due, stop = int(rows[0, 0]), rows[0, 1], rows[:, 2].any()
        if stop or due:
            self._save_time, self._saving = self._time, True
            self._save()
        if stop:
            raise Interrupted

    def _is_save_due(self) -> bool:
        least = self.config.run.checkpoint_seconds
        waited = time.perf_counter() - self._save_time
        if least and self._saving:
            if self.checkpoints.is_saving():
                return False
            self._saving, self._save_seconds = False, waited
        return waited >= (max(least, CHECKPOINT_SPACING * self._save_seconds) if least else 0)

    def _save(self) -> None:
        record = dataclasses.asdict(self.record)
        self.checkpoints.save(int(self.state.step), self.state, self.best, record)
