"""Frameworks in processes of their own, timed alternately.

In one shared process, the thread pools of one framework would keep spinning while another one is timed.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import statistics
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from frameworks import STEPS, Case, Trainer


@dataclasses.dataclass(frozen=True)
class Peer:
    """A framework in one configuration."""

    title: str
    start: Callable[[Case], Trainer]  # builds the network
    needs: tuple[str, ...] = ()  # required packages beyond this project's dependencies
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)  # extends XLA_FLAGS


class RunFailed(RuntimeError):
    """A framework raised an exception, or its process ended. The message is one line."""


class Worker:
    """A process for a framework, which computes only on request."""

    def __init__(self, peer: Peer):
        self.peer = peer
        self.failure = ""  # message of a failed training; further training is skipped
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, context, _set_environment, (dict(peer.environment),))

    def ask(self, function: Callable[..., Any], *args) -> Any:
        """Call ``function`` in the process and return its result. Raise RunFailed if it fails."""
        try:
            answer, failure = self._pool.submit(_call, function, *args).result()
        except BrokenProcessPool:
            failure = "the process ended; its last output is on stderr"
        if failure:
            self.failure = f"{self.peer.title}: {failure}"
            raise RunFailed(self.failure)
        return answer

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown()

    def start(self, case: Case) -> dict[str, Any]:
        """Build the network, compile its step, and return the parameters and the setting."""
        self.failure = ""
        return self.ask(_start, self.peer.start, case)

    def train(self, calls: int) -> None:
        """Train for ``calls`` times `STEPS` steps, unless it failed before."""
        if not self.failure:
            with contextlib.suppress(RunFailed):
                self.ask(_train, calls)


_trainer: Trainer | None = None  # of this process


def _set_environment(variables):
    # XLA and Keras read their settings from the environment when they are imported.
    flags = (os.environ.get("XLA_FLAGS", ""), variables.pop("XLA_FLAGS", ""))
    os.environ |= {**variables, "XLA_FLAGS": " ".join(filter(None, flags))}
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _call(function, *args):
    # Return the exception as text, because some exceptions cannot be unpickled.
    try:
        return function(*args), ""
    except Exception as error:
        lines = str(error).strip().splitlines() or ["no message"]
        return None, f"{type(error).__name__}: {lines[0][:200]}"


def _start(start, case):
    global _trainer
    _trainer = None  # free the memory of the previous network
    _trainer = start(case)
    _trainer.train(1)  # compile
    return {"parameters": _trainer.parameters, "setting": _trainer.setting}


def _train(calls):
    _trainer.train(calls)


def time_steps(case: Case, workers: list[Worker], rounds: int, seconds: float) -> dict[str, Any]:
    """Measure the milliseconds per step of each framework in each of its turns.

    The first worker is ours. A competitor that fails is left out. Each framework has ``rounds`` turns of
    at least ``seconds``. Return the case, a row for each framework, and the failures by title.

    Raises:
        RunFailed: Our own framework failed.
        RuntimeError: The networks differ in their number of parameters.
    """
    from fidle_jax.kernels.turns import time_in_turns  # imports JAX

    trainers = {}
    for worker in workers:
        try:
            trainers[worker] = worker.start(case)
        except RunFailed:
            if worker is workers[0]:
                raise
    sizes = {worker.peer.title: each["parameters"] for worker, each in trainers.items()}
    if len(set(sizes.values())) > 1:
        raise RuntimeError(
            f"the networks have different numbers of parameters: {sizes}; expected the same number in "
            "all frameworks; correct the networks"
        )
    turns = time_in_turns({each.peer.title: each.train for each in trainers}, rounds, seconds)
    if workers[0].failure:
        raise RunFailed(workers[0].failure)
    rows: list[dict[str, Any]] = []
    for worker, trainer in trainers.items():
        if not worker.failure:
            title = worker.peer.title
            times = [time / STEPS for time in turns[title]]
            row = {"framework": title, "setting": trainer["setting"], "ms_per_step": times}
            row["median"] = statistics.median(times)
            rows.append({**row, "times_ours": row["median"] / (rows or [row])[0]["median"]})
    return {
        "model": case.model,
        "batch_size": case.batch_size,
        "image_shape": case.image_shape,
        "parameters": trainers[workers[0]]["parameters"],
        "failed": {each.peer.title: each.failure for each in workers if each.failure},
        "rows": rows,
    }
