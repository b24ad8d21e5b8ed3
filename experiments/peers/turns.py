"""Milliseconds a step of several frameworks, in turns; and how long ours takes to compile."""

import math
import statistics
from typing import Any

from peers.case import Case, Trainer
from peers.worker import Worker

SLOW = 10  # turns that take so many times what was asked for


def time_steps(case: Case, workers: list[Worker], rounds: int, seconds: float) -> dict[str, Any]:
    """The case, and for each framework its milliseconds a step in each of its turns.

    A turn is as many steps as take ``seconds``; who is far slower than that has three turns at
    most. The order of the frameworks alternates, so that none always follows the same other one.

    Args:
        case: what is trained.
        workers: ours first.
        rounds: turns of each.
        seconds: least length of a turn.

    Raises:
        RuntimeError: their networks differ in size.
        WorkerFailed: one of them failed.
    """
    trainers = [worker.prepare(case) for worker in workers]
    _check_same_size(workers, trainers)
    steps = [
        _steps_of_a_turn(worker, trainer.at_once, seconds)
        for worker, trainer in zip(workers, trainers, strict=True)
    ]
    turns: list[list[float]] = [[] for _ in workers]
    for turn in range(rounds):
        for i in range(len(workers))[:: -1 if turn % 2 else 1]:
            if len(turns[i]) == 3 and steps[i] * turns[i][0] > SLOW * 1e3 * seconds:
                continue
            if steps[i] > trainers[i].at_once:
                workers[i].train(trainers[i].at_once)  # caches and threads are the others' still
            turns[i].append(1e3 * workers[i].train(steps[i]) / steps[i])
    medians = [statistics.median(milliseconds) for milliseconds in turns]
    return {
        "model": case.model,
        "batch_size": case.batch_size,
        "image_shape": case.image_shape,
        "parameters": trainers[0].parameters,
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
            for i in range(len(workers))
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
    """Seconds to compile our chunk of steps: with our choice of convolutions, and with XLA's.

    Raises:
        WorkerFailed: it failed.
    """
    seconds: dict[str, list[float]] = {"auto": [], "xla": []}
    ours.ask("compile_seconds", case, "auto")  # the first in a process also loads the compiler
    for _ in range(rounds):
        for method, values in seconds.items():
            values.append(ours.ask("compile_seconds", case, method))
    return seconds
