"""Functions timed turn by turn, so that what else the machine does falls on all of them alike."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

TURN = 0.01  # seconds: a turn is as many calls as fill them
MOST_CALLS = 1000
GIVE_UP = 5.0  # times the fastest: such a method is out of the running
FEWEST_ROUNDS = 3


def call_by_call(function: Callable[..., Any], arrays: tuple) -> Callable[[int], None]:
    """Runs the compiled function so many times, each called from Python."""
    compiled = jax.jit(function)

    def run(calls: int) -> None:
        for _ in range(calls):
            jax.block_until_ready(compiled(*arrays))

    return run


def in_a_loop(function: Callable[..., Any], arrays: tuple) -> Callable[[int], None]:
    """Runs the function so many times in one compiled loop, as a chunk of training steps does."""

    @jax.jit
    def repeated(calls, *arrays):
        nothing = jax.tree.map(
            lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(function, *arrays)
        )

        def body(_, previous):
            # Else it is the same computation each time, and moves out of the loop.
            again, _ = lax.optimization_barrier((arrays, previous))
            return function(*again)

        return lax.fori_loop(0, calls, body, nothing)

    def run(calls: int) -> None:
        jax.block_until_ready(repeated(calls, *arrays))

    return run


def time_by_turns(
    runs: dict[str, Callable[[int], None]], rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Milliseconds a call of each, a number for each round.

    Args:
        runs: what runs each so many times.
        rounds: at most; those that are far behind the fastest take part in `FEWEST_ROUNDS`.
        seconds: that all rounds together may take, roughly, once there are `FEWEST_ROUNDS`.
    """
    first = {name: _first_call(run) for name, run in runs.items()}
    fastest = min(first.values())
    calls = {name: max(1, min(MOST_CALLS, round(TURN / t))) for name, t in first.items()}
    ahead = [name for name in runs if first[name] <= GIVE_UP * fastest]
    round_seconds = sum(calls[name] * first[name] for name in ahead)
    rounds = max(min(rounds, FEWEST_ROUNDS), min(rounds, int(seconds / round_seconds)))
    milliseconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        names = list(runs if number < FEWEST_ROUNDS else ahead)
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            each = _seconds(runs[name], calls[name]) / calls[name]
            milliseconds[name].append(1000 * each)
    return milliseconds


def matmul_gflops(rounds: int, side: int = 2048) -> float:
    """Billions of operations a second of a float32 matmul of side x side: what the machine can do."""
    matrix = jnp.ones((side, side), jnp.float32)
    run = call_by_call(jnp.matmul, (matrix, matrix))
    run(1)
    return 2e-9 * side**3 / statistics.median(_seconds(run, 1) for _ in range(rounds))


def _first_call(run):
    """Seconds of a call that need not compile, the better of two."""
    run(1)
    return min(_seconds(run, 1) for _ in range(2))


def _seconds(run, calls):
    began = time.perf_counter()
    run(calls)
    return time.perf_counter() - began
