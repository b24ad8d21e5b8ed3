"""A framework in its own process, which computes only on request.

Each framework then has the whole machine during its turn. In one shared process, the thread pools of
one framework would keep spinning while another one is timed.
"""

import dataclasses
import importlib
import multiprocessing
import os
import time

from peers.case import Case, Trainer


class WorkerFailed(RuntimeError):
    """A framework raised an exception, or its process ended. The message is one line."""


@dataclasses.dataclass(frozen=True)
class Framework:
    """A framework in one configuration.

    Attributes:
        title: Name in the tables.
        module: Module that trains with the framework.
        prepare: Name of the module's function, (case) -> Trainer.
        needs: Required packages beyond this project's dependencies.
        xla_flags: Flags that the process appends to XLA_FLAGS.
        backend: Backend of Keras, or "".
    """

    title: str
    module: str
    prepare: str = "prepare"
    needs: tuple[str, ...] = ()
    xla_flags: str = ""
    backend: str = ""


class Worker:
    """A process that has imported the module of a framework."""

    def __init__(self, framework: Framework):
        context = multiprocessing.get_context("spawn")
        self.framework = framework
        self._pipe, theirs = context.Pipe()
        context.Process(target=_serve, args=(theirs, framework), daemon=True).start()
        theirs.close()

    def prepare(self, case: Case) -> Trainer:
        """Build the network of ``case`` in the process. Return its trainer without ``train``."""
        return self.ask(self.framework.prepare, case)

    def train(self, steps: int) -> float:
        """Train for ``steps`` steps and return the seconds."""
        return self.ask("train", steps)

    def ask(self, function: str, *args):
        """Call ``function`` of the module in the process and return its result.

        Raises:
            WorkerFailed: The function raised an exception, or the process ended.
        """
        try:
            self._pipe.send((function, *args))
            failure, answer = self._pipe.recv()
        except (EOFError, OSError):
            failure = "the process ended; its last output is on stderr"
        if failure:
            raise WorkerFailed(f"{self.framework.title}: {function} failed: {failure}") from None
        return answer


def _serve(pipe, framework):
    # XLA and Keras read their settings from the environment when they are imported.
    if framework.xla_flags:
        flags = f"{os.environ.get('XLA_FLAGS', '')} {framework.xla_flags}"
        os.environ["XLA_FLAGS"] = flags.strip()
    if framework.backend:
        os.environ["KERAS_BACKEND"] = framework.backend
    trainer = None
    while True:
        try:
            name, *args = pipe.recv()
        except EOFError:
            return
        try:
            if name == "train":
                began = time.perf_counter()
                trainer.train(*args)
                answer = time.perf_counter() - began
            else:
                trainer = None  # free the memory of the previous network
                answer = getattr(importlib.import_module(framework.module), name)(*args)
                if isinstance(answer, Trainer):
                    trainer, answer = answer, dataclasses.replace(answer, train=None)
        except Exception as error:
            pipe.send((_describe(error), None))
        else:
            pipe.send(("", answer))


def _describe(error):
    """Return the type and the first line of the message."""
    lines = str(error).strip().splitlines() or ["no message"]
    return f"{type(error).__name__}: {lines[0][:200]}"
