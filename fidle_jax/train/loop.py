"""The loop around the compiled steps: chunks of steps, epochs, validation, and when files are written."""

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import numpy as np
from jaxtyping import PyTree

from fidle_jax.train.checkpoints import Checkpoints
from fidle_jax.train.compiled_steps import CompiledSteps
from fidle_jax.train.distributed import gather, is_first
from fidle_jax.train.resources import PROFILED_STEPS, peak_memory_bytes, trace
from fidle_jax.train.run_logger import NullLogger, RunLogger
from fidle_jax.train.signals import Stop
from fidle_jax.train.state import NO_STEP, Totals, TrainState

# Long enough to hide Python overhead, short enough to respond to Ctrl-C.
CHUNK_SECONDS = 0.25
# The time between two checkpoints is at least this multiple of the time to write one.
CHECKPOINT_SPACING = 10


class Interrupted(Exception):
    """A signal stopped the run after its state was saved."""


class NotFinite(RuntimeError):
    """The loss or the weights are infinite or NaN."""

    def __init__(self, what: str, step: int):
        super().__init__(
            f"{what} is not finite at step {step}; the last good checkpoint is kept; "
            "try a smaller --learning-rate, --warmup-epochs or --clip-norm"
        )


@dataclasses.dataclass(frozen=True)
class Plan:
    """Length of a run, and how it is observed.

    Attributes:
        run_dir: The run directory.
        epochs: Number of epochs.
        steps_per_epoch: Steps per epoch.
        examples: Training examples.
        checkpoint_seconds: Minimum time between two checkpoints; 0 saves after every chunk.
        progress: Show a progress bar if stderr is a terminal.
        profile: Write a profiler trace of a few steps.
    """

    run_dir: Path
    epochs: int
    steps_per_epoch: int
    examples: int
    checkpoint_seconds: float
    progress: bool
    profile: bool = False


@dataclasses.dataclass
class Record:
    """What the host knows about a run. It is saved with each checkpoint.

    Attributes:
        rows: Rows of metrics.csv, one per epoch.
        best_accuracy: Best validation accuracy so far, or None.
        best_loss: Validation loss of that epoch, which breaks ties.
        best_epoch: Epoch with the best variables, starting at 1; 0 means the initial ones.
        seconds: Time of the current epoch, with validation and saving, without compilation.
        step_seconds: Time of the training steps of the current epoch.
        all_step_seconds: Time of the training steps of the whole run.
    """

    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best_accuracy: float | None = None
    best_loss: float | None = None
    best_epoch: int = 0
    seconds: float = 0.0
    step_seconds: float = 0.0
    all_step_seconds: float = 0.0


class Loop:
    """A run in progress. After `run`, ``state``, ``best`` and ``record`` are the result."""

    def __init__(
        self,
        plan: Plan,
        compiled: CompiledSteps,
        state: TrainState,
        best: PyTree,
        record: Record,
        checkpoints: Checkpoints,
        stop: Stop,
    ):
        self.state, self.best, self.record = state, best, record
        self._plan, self._compiled = plan, compiled
        self._checkpoints, self._stop = checkpoints, stop
        self._chunk_steps, self._chunks = 1, 0

    def run(self) -> None:
        """Train up to the last epoch.

        Raises:
            Interrupted: A stop was requested. The state is saved.
            NotFinite: The loss is not finite. The last good checkpoint is kept.
            OSError: A file could not be written.
        """
        plan = self._plan
        self._time = self._save_time = time.perf_counter()
        self._saving, self._save_seconds = False, 0.0
        done, position = divmod(int(self.state.step), plan.steps_per_epoch)
        self._logger = NullLogger()
        if is_first():
            seen = done * plan.examples + int(self.state.totals.examples) * (position > 0)
            self._logger = RunLogger(
                plan.run_dir,
                int(self.state.step),
                self.record.rows,
                total_images=plan.epochs * plan.examples,
                seen_images=seen,
                progress=plan.progress,
            )
        try:
            for epoch in range(done, plan.epochs):
                self._train_epoch(epoch)
                self._finish_epoch(epoch)
            self._save()
            self._logger.finish()
        finally:
            self._logger.close()
            # Complete the checkpoint that is being written, however the run ends.
            self._checkpoints.wait()

    def _train_epoch(self, epoch: int) -> None:
        plan = self._plan
        position = int(self.state.step) % plan.steps_per_epoch
        if position == 0:
            zeros = self._compiled.replicate(jax.device_get(Totals.zeros()))
            self.state = self.state.replace(totals=zeros)
        order = self._compiled.order(epoch)
        while position < plan.steps_per_epoch:
            self._chunks += 1
            # Profile the second chunk, because the first one includes one-time costs.
            profiled = plan.profile and self._chunks == 2
            steps = PROFILED_STEPS if profiled else self._chunk_steps
            until = min(position + steps, plan.steps_per_epoch)
            with trace(plan.run_dir / "profile" if profiled and is_first() else None):
                self._tick()
                train = self._train_step_by_step if profiled else self._compiled.train
                self.state = train(self.state, order, position, until)
                totals = jax.device_get(self.state.totals)
                self._update_chunk_steps(until - position)
            if totals.bad_step != NO_STEP:
                raise NotFinite("the loss or its gradient", int(totals.bad_step))
            self._logger.log_steps(
                epoch * plan.examples + int(totals.examples),
                totals.loss / totals.examples,
                totals.correct / totals.examples,
            )
            position = until
            if position < plan.steps_per_epoch:
                self._save_or_stop()

    def _train_step_by_step(
        self, state: TrainState, order: jax.Array | np.ndarray, start: int, stop: int
    ) -> TrainState:
        """Train with one call per step, so that a trace shows separate steps."""
        for step in range(start, stop):
            with jax.profiler.StepTraceAnnotation("train", step_num=step):
                state = jax.block_until_ready(self._compiled.train(state, order, step, step + 1))
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
        plan, record = self._plan, self.record
        variables = self.state.variables()
        loss = accuracy = None
        if self._compiled.validate is not None:
            loss, accuracy = self._compiled.validate(variables)
            if not math.isfinite(loss):
                raise NotFinite("the validation loss", int(self.state.step))
        if self._is_best(loss, accuracy):
            self.best = jax.device_get(variables)
            record.best_loss, record.best_accuracy, record.best_epoch = loss, accuracy, epoch + 1
        self._tick()
        record.rows.append(self._row(epoch, loss, accuracy))
        costs = {
            "time/step_milliseconds": 1e3 * record.step_seconds / plan.steps_per_epoch,
            "time/transfer_seconds": self._compiled.transfer_seconds,
            "time/compile_seconds": self._compiled.compile_seconds,
            "memory/peak_bytes": peak_memory_bytes(),
        }
        params: Any = flax.traverse_util.flatten_dict(jax.device_get(self.state.params), sep="/")
        self._logger.log_epoch(record.rows, plan.epochs, costs, params)
        record.seconds = record.step_seconds = 0.0
        self._save_or_stop()

    def _is_best(self, loss: float | None, accuracy: float | None) -> bool:
        best_loss, best_accuracy = self.record.best_loss, self.record.best_accuracy
        if loss is None or accuracy is None or best_loss is None or best_accuracy is None:
            return True
        return (accuracy, -loss) > (best_accuracy, -best_loss)

    def _row(self, epoch: int, loss: float | None, accuracy: float | None) -> dict[str, Any]:
        totals = jax.device_get(self.state.totals)
        step = int(self.state.step)
        return {
            "epoch": epoch + 1,
            "step": step,
            "learning_rate": float(self._compiled.learning_rate(step - 1)),
            "train_loss": float(totals.loss / totals.examples),
            "train_accuracy": float(totals.correct / totals.examples),
            "validation_loss": loss,
            "validation_accuracy": accuracy,
            "seconds": round(self.record.seconds, 4),
            "images_per_second": round(self._plan.examples / self.record.step_seconds, 1),
        }

    def _save_or_stop(self) -> None:
        # Clocks and signals differ between processes. The first process decides about chunks and
        # saving; a signal to any process stops all.
        mine = [self._chunk_steps, self._is_save_due(), self._stop.requested]
        rows = gather(np.array(mine, np.int32))
        self._chunk_steps, due, stop = int(rows[0, 0]), rows[0, 1], rows[:, 2].any()
        if stop or due:
            self._save_time, self._saving = self._time, True
            self._save()
        if stop:
            raise Interrupted

    def _is_save_due(self) -> bool:
        least = self._plan.checkpoint_seconds
        waited = time.perf_counter() - self._save_time
        if least and self._saving:
            if self._checkpoints.is_saving():
                return False
            self._saving, self._save_seconds = False, waited
        return waited >= (max(least, CHECKPOINT_SPACING * self._save_seconds) if least else 0)

    def _save(self) -> None:
        record = dataclasses.asdict(self.record)
        self._checkpoints.save(int(self.state.step), self.state, self.best, record)
