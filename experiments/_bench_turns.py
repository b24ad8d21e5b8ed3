"""Functions timed turn by turn, so that what else the machine does falls on all of them alike."""

import functools
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
LONG = 1.0  # seconds: a call that takes longer, by a method out of the running, is not repeated


def call_by_call(function: Callable[..., Any], arrays: tuple) -> Callable[[int], None]:
    """Compiles; returns what runs the function so many times, each called from Python."""
    compiled = jax.jit(function).lower(*arrays).compile()

    def run(calls: int) -> None:
        for _ in range(calls):
            jax.block_until_ready(compiled(*arrays))

    return run


def in_a_loop(function: Callable[..., Any], arrays: tuple) -> Callable[[int], None]:
    """Compiles; returns what runs the function so many times in one loop, as a chunk of training does."""

    @functools.partial(jax.jit, donate_argnums=1)
    def repeated(calls, arrays):
        shapes = jax.eval_shape(function, *arrays)
        nothing = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

        def body(number, carried):
            # One element differs each time: what stays the same, XLA would compute once.
            arrays = [a.at[(0,) * a.ndim].set(number.astype(a.dtype)) for a in carried[0]]
            return arrays, function(*arrays)

        return lax.fori_loop(0, calls, body, (arrays, nothing))

    state = [jnp.copy(array) for array in arrays]
    compiled = repeated.lower(jnp.int32(0), state).compile()

    def run(calls: int) -> None:
        nonlocal state
        state, result = compiled(jnp.int32(calls), state)
        jax.block_until_ready(result)

    return run


def time_by_turns(
    runs: dict[str, Callable[[int], None]], rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Milliseconds a call of each, a number for each round.

    Args:
        runs: what runs each so many times.
        rounds: at most; those that are far behind the fastest take part in `FEWEST_ROUNDS` or none.
        seconds: that all rounds together may take, roughly, once there are `FEWEST_ROUNDS`.
    """
    first = {name: _estimate(run) for name, run in runs.items()}
    fastest = min(first.values())
    calls = {name: max(1, min(MOST_CALLS, round(TURN / t))) for name, t in first.items()}
    ahead = [name for name in runs if first[name] <= GIVE_UP * fastest]
    worth_repeating = [name for name in runs if name in ahead or first[name] < LONG]
    round_seconds = sum(calls[name] * first[name] for name in ahead)
    rounds = max(min(rounds, FEWEST_ROUNDS), min(rounds, int(seconds / round_seconds)))
    turns: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        names = worth_repeating if number < FEWEST_ROUNDS else ahead
        start = number % len(names)
        for name in names[start:] + names[:start]:
            turns[name].append(1000 * _seconds(runs[name], calls[name]) / calls[name])
    return {name: each or [1000 * first[name]] for name, each in turns.items()}


def matmul_gflops(rounds: int, side: int = 2048) -> float:
    """Billions of operations a second of a float32 matmul of side x side: what the machine can do."""
    matrix = jnp.ones((side, side), jnp.float32)
    run = call_by_call(jnp.matmul, (matrix, matrix))
    run(1)  # warms up
    return 2e-9 * side**3 / statistics.median(_seconds(run, 1) for _ in range(rounds))


def _estimate(run):
    """Seconds of a call; the better of two where that is soon known."""
    seconds = _seconds(run, 1)
    return seconds if seconds > LONG else min(seconds, _seconds(run, 1))


def _seconds(run, calls):
    began = time.perf_counter()
    run(calls)
    return time.perf_counter() - began
