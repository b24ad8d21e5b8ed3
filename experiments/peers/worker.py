"""A framework in a process of its own, which computes only when it is asked to.

So that each has the machine as it has it alone: in one process, the thread pools of one framework
keep turning while another one is timed.
"""

import dataclasses
import importlib
import multiprocessing
import time

from peers.case import Case, Trainer


class WorkerFailed(RuntimeError):
    """The process ended; what went wrong stands on stderr."""


@dataclasses.dataclass(frozen=True)
class Framework:
    """One way to train.

    Attributes:
        title: in tables.
        module: its file.
        prepare: the file's function, (case) -> Trainer.
        needs: packages that it imports beyond this project's.
    """

    title: str
    module: str
    prepare: str = "prepare"
    needs: tuple[str, ...] = ()


class Worker:
    """A process that has imported a framework's file."""

    def __init__(self, framework: Framework):
        context = multiprocessing.get_context("spawn")
        self.framework = framework
        self._pipe, theirs = context.Pipe()
        context.Process(target=_serve, args=(theirs, framework.module), daemon=True).start()
        theirs.close()

    def prepare(self, case: Case) -> Trainer:
        """Makes the network of ``case`` ready in the process; what comes back has no ``train``."""
        return self.ask(self.framework.prepare, case)

    def train(self, steps: int) -> float:
        """The seconds that so many steps of it take."""
        return self.ask("train", steps)

    def ask(self, function: str, *args):
        """What ``function`` of the file returns.

        Raises:
            WorkerFailed: it raised something, or the process was ended.
        """
        try:
            self._pipe.send((function, *args))
            return self._pipe.recv()
        except (EOFError, OSError):
            raise WorkerFailed(
                f"{self.framework.title}: {function} failed; what it raised stands above"
            ) from None


def _serve(pipe, module):
    functions = importlib.import_module(module)
    trainer = None
    while True:
        try:
            name, *args = pipe.recv()
        except EOFError:
            return
        if name == "train":
            began = time.perf_counter()
            trainer.train(*args)
            answer = time.perf_counter() - began
        else:
            trainer = None  # the network before gives its memory back
            answer = getattr(functions, name)(*args)
            if isinstance(answer, Trainer):
                trainer, answer = answer, dataclasses.replace(answer, train=None)
        pipe.send(answer)
