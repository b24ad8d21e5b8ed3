"""The fastest of several ways to train in the same framework."""

import time
from collections.abc import Sequence

from peers.case import Trainer

TRIED_TURNS, TRIED_STEPS = 3, 4


def pick_fastest(trainers: Sequence[Trainer]) -> Trainer:
    """Time a few steps of each trainer, in turns, and return the one with the fastest turn."""
    for trainer in trainers:
        trainer.train(trainer.at_once)  # compile
    turns = [[_seconds_per_step(trainer) for trainer in trainers] for _ in range(TRIED_TURNS)]
    fastest = [min(seconds) for seconds in zip(*turns, strict=True)]
    return trainers[fastest.index(min(fastest))]


def _seconds_per_step(trainer):
    steps = max(TRIED_STEPS, trainer.at_once)
    trainer.train(trainer.at_once)  # another trainer filled the caches
    began = time.perf_counter()
    trainer.train(steps)
    return (time.perf_counter() - began) / steps
