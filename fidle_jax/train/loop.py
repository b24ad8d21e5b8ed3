"""The loop around the compiled steps: chunks, epochs, validation, and what is written when."""

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
from fidle_jax.train.measure import PROFILED_STEPS, peak_memory_bytes, trace
from fidle_jax.train.processes import decide, is_first
from fidle_jax.train.program import Program
from fidle_jax.train.signals import Stop
from fidle_jax.train.state import NO_STEP, Totals, TrainState
from fidle_jax.train.writers import Journal, Silence

# Long enough that Python costs nothing, short enough that Ctrl-C and the bar answer at once.
CHUNK_SECONDS = 0.25
# From one checkpoint to the next at least so many times as long as one takes, on a CPU of the same cores.
SAVES_APART = 10


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
        checkpoint_seconds: least time between two checkpoints, more where one takes long; 0: none.
        progress: show a bar, where there is a terminal.
        profile: write a trace of a few steps, too.
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
        self._chunk_steps, self._chunks = 1, 0

    def run(self) -> None:
        """Trains to the last epoch.

        Raises:
            Interrupted: a stop was requested; the state is saved.
            NotFinite: the loss is not finite; the last good checkpoint is kept.
            OSError: something could not be written.
        """
        self._time = self._save_time = time.perf_counter()
        self._saving, self._save_seconds = False, 0.0
        done = int(self.state.step) // self._plan.steps_per_epoch
        self._journal = self._open_journal(done) if is_first() else Silence()
        try:
            for epoch in range(done, self._plan.epochs):
                self._train_epoch(epoch)
                self._finish_epoch(epoch)
            self._save()
            self._journal.end()
        finally:
            self._journal.close()
            # However the run ends, the checkpoint that is being written becomes whole.
            self._checkpoints.wait()

    def _open_journal(self, done: int) -> Journal:
        plan = self._plan
        seen = done * plan.examples + int(self.state.totals.examples) * (self._position() > 0)
        return Journal(
            plan.run_dir,
            int(self.state.step),
            self.record.rows,
            plan.epochs * plan.examples,
            seen,
            plan.progress,
        )

    def _position(self) -> int:
        return int(self.state.step) % self._plan.steps_per_epoch

    def _train_epoch(self, epoch: int) -> None:
        position = self._position()
        if position == 0:
            zeros = self._program.place(jax.device_get(Totals.zeros()))
            self.state = self.state.replace(totals=zeros)
        order = self._program.order(epoch)
        while position < self._plan.steps_per_epoch:
            self._chunks += 1
            # The second chunk's: what the first one costs happens once.
            profiled = self._plan.profile and self._chunks == 2
            steps = PROFILED_STEPS if profiled else self._chunk_steps
            until = min(position + steps, self._plan.steps_per_epoch)
            with trace(self._plan.run_dir / "profile" if profiled and is_first() else None):
                self._tick()
                train = self._each_step if profiled else self._program.train
                self.state = train(self.state, order, position, until)
                totals = jax.device_get(self.state.totals)
                self._after_chunk(until - position)
            if totals.bad_step != NO_STEP:
                raise NotFinite("the loss or its gradient", int(totals.bad_step))
            self._journal.steps(
                epoch * self._plan.examples + int(totals.examples),
                totals.loss / totals.examples,
                totals.correct / totals.examples,
            )
            position = until
            if position < self._plan.steps_per_epoch:
                self._save_or_stop()

    def _each_step(
        self, state: TrainState, order: jax.Array | np.ndarray, start: int, stop: int
    ) -> TrainState:
        """As the program's ``train``, a call a step, which a trace then tells apart."""
        for step in range(start, stop):
            with jax.profiler.StepTraceAnnotation("train", step_num=step):
                state = jax.block_until_ready(self._program.train(state, order, step, step + 1))
        return state

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

    def _finish_epoch(self, epoch: int) -> None:
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
        self.record.rows.append(self._row(epoch, loss, accuracy))
        self._journal.epoch(self.record.rows, self._plan.epochs, self._measured(), self._params())
        self.record.seconds = self.record.step_seconds = 0.0
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
            "learning_rate": float(self._program.learning_rate(step - 1)),
            "train_loss": float(totals.loss / totals.examples),
            "train_accuracy": float(totals.correct / totals.examples),
            "validation_loss": loss,
            "validation_accuracy": accuracy,
            "seconds": round(self.record.seconds, 4),
            "images_per_second": round(self._plan.examples / self.record.step_seconds, 1),
        }

    def _measured(self) -> dict[str, float]:
        return {
            "time/step_milliseconds": 1e3 * self.record.step_seconds / self._plan.steps_per_epoch,
            "time/transfer_seconds": self._program.transfer_seconds,
            "time/compile_seconds": self._program.compile_seconds,
            "memory/peak_bytes": peak_memory_bytes(),
        }

    def _params(self) -> dict[str, Any]:
        return flax.traverse_util.flatten_dict(jax.device_get(self.state.params), sep="/")

    def _save_or_stop(self) -> None:
        due = self._is_save_due()
        # Clocks and signals differ between processes; what follows from them must not.
        (self._chunk_steps, due), stop = decide((self._chunk_steps, due), self._stop.requested)
        if stop or due:
            self._save_time, self._saving = self._time, True
            self._save()
        if stop:
            raise Interrupted

    def _is_save_due(self) -> bool:
        apart = self._plan.checkpoint_seconds
        waited = time.perf_counter() - self._save_time
        if apart and self._saving:
            if self._checkpoints.is_saving():
                return False
            self._saving, self._save_seconds = False, waited
        return waited >= (max(apart, SAVES_APART * self._save_seconds) if apart else 0)

    def _save(self) -> None:
        record = dataclasses.asdict(self.record)
        self._checkpoints.save(int(self.state.step), self.state, self.best, record)
