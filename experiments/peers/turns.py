"""Time per step of several frameworks, measured in turns, and our compile time."""

import math
import statistics
from typing import Any

from peers.case import Case, Trainer
from peers.worker import Worker, WorkerFailed

SLOW = 10  # a turn that takes this many times the requested length


def time_steps(case: Case, workers: list[Worker], rounds: int, seconds: float) -> dict[str, Any]:
    """Measure the milliseconds per step of each framework in each of its turns.

    A turn has as many steps as take ``seconds``. A framework that is far slower has at most three
    turns. The order of the frameworks alternates, so that none always follows the same other one.
    A competitor that fails is left out.

    Args:
        case: The network to train.
        workers: The frameworks, ours first.
        rounds: Number of turns of each framework.
        seconds: Minimum length of a turn.

    Returns:
        The case, a row for each framework, and under "failed" the failures by title.

    Raises:
        RuntimeError: The networks differ in their number of parameters.
        WorkerFailed: Our own framework failed.
    """
    ready: list[tuple[Worker, Trainer, int]] = []
    failed: dict[str, str] = {}
    for worker in workers:
        try:
            trainer = worker.prepare(case)
            ready.append((worker, trainer, _steps_of_a_turn(worker, trainer.at_once, seconds)))
        except WorkerFailed as error:
            if worker is workers[0]:
                raise
            failed[worker.framework.title] = str(error)
    workers, trainers, steps = map(list, zip(*ready, strict=True))
    _check_same_size(workers, trainers)
    turns: list[list[float]] = [[] for _ in workers]
    for turn in range(rounds):
        for i in range(len(workers))[:: -1 if turn % 2 else 1]:
            if len(turns[i]) == 3 and steps[i] * turns[i][0] > SLOW * 1e3 * seconds:
                continue
            if workers[i].framework.title in failed:
                continue
            try:
                if steps[i] > trainers[i].at_once:
                    workers[i].train(trainers[i].at_once)  # another framework filled the caches
                turns[i].append(1e3 * workers[i].train(steps[i]) / steps[i])
            except WorkerFailed as error:
                if i == 0:
                    raise
                failed[workers[i].framework.title] = str(error)
    finished = [i for i in range(len(workers)) if workers[i].framework.title not in failed]
    medians = {i: statistics.median(turns[i]) for i in finished}
    return {
        "model": case.model,
        "batch_size": case.batch_size,
        "image_shape": case.image_shape,
        "parameters": trainers[0].parameters,
        "failed": failed,
        "rows": [
            {
                "framework": workers[i].framework.title,
                "version": trainers[i].version,
                "setting": trainers[i].setting,
                "steps_a_turn": steps[i],
                "ms_per_step": turns[i],
                "median": medians[i],
                "times_ours": medians[i] / medians[0],
            }
            for i in finished
        ],
    }


def _check_same_size(workers: list[Worker], trainers: list[Trainer]) -> None:
    sizes = [trainer.parameters for trainer in trainers]
    if len(set(sizes)) > 1:
        titles = [worker.framework.title for worker in workers]
        raise RuntimeError(f"parameters of {', '.join(titles)}: {sizes}; expected as many in all")


def _steps_of_a_turn(worker: Worker, at_once: int, seconds: float) -> int:
    worker.train(at_once)  # compiles
    return at_once * math.ceil(seconds / worker.train(at_once))


def time_compilation(case: Case, ours: Worker, rounds: int) -> dict[str, list[float]]:
    """Measure the seconds to compile our chunk of steps, with our and with XLA's convolutions.

    Raises:
        WorkerFailed: The compilation failed.
    """
    seconds: dict[str, list[float]] = {"auto": [], "xla": []}
    ours.ask("compile_seconds", case, "auto")  # the first in a process also loads the compiler
    for _ in range(rounds):
        for method, values in seconds.items():
            values.append(ours.ask("compile_seconds", case, method))
    return seconds
