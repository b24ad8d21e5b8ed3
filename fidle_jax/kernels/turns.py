"""Time functions alternately, so that other load on the machine affects all of them alike."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import math
import statistics
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp

from fidle_jax.kernels.auto import cpu_cores

TURN = 0.01  # seconds
FAR_BEHIND = 5.0  # times the fastest
LONG_TURN = 3.0  # times the requested length
LONG_CALL = 1.0  # seconds
FEW_TURNS = 3
MOST_CALLS = 1000


def time_in_turns(
    runs: Mapping[str, Callable[[int], Any]], rounds: int, turn: float, total: float = math.inf
) -> dict[str, list[float]]:
    """Return the milliseconds per call of each run, one number per turn.

    A run that is far behind the fastest and has long turns gets `FEW_TURNS`. If even one of its calls
    is long, this call is its only turn.

    Args:
        runs: Compiled functions that make the given number of calls and wait for the result.
        rounds: Maximum number of turns of each run.
        turn: Length of a turn in seconds.
        total: Approximate limit in seconds for the turns of all runs, at least `FEW_TURNS` each.
    """

    def seconds_per_call(name, calls=1):
        if calls > 1:
            runs[name](1)  # another run filled the caches
        began = perf_counter()
        runs[name](calls)
        return (perf_counter() - began) / calls

    first = {name: seconds_per_call(name) for name in runs}
    for name, seconds in first.items():
        if seconds < LONG_CALL:
            first[name] = min(seconds, seconds_per_call(name))
    calls = {name: max(1, min(MOST_CALLS, math.ceil(turn / first[name]))) for name in runs}
    far = FAR_BEHIND * min(first.values())
    behind = {name for name in runs if first[name] > max(far, LONG_TURN * turn / calls[name])}
    round_seconds = sum(calls[name] * first[name] for name in runs if name not in behind)
    turns: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(min(rounds, max(FEW_TURNS, int(min(rounds, total / round_seconds))))):
        names = [name for name in runs if name not in behind]
        if number < FEW_TURNS:
            names += [name for name in behind if first[name] < LONG_CALL]
        start = number % len(names)
        for name in names[start:] + names[:start]:
            turns[name].append(1e3 * seconds_per_call(name, calls[name]))
    return {name: times or [1e3 * first[name]] for name, times in turns.items()}


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A compiled function of arrays.

    Attributes:
        run: Function that makes the given number of calls and waits for the result.
        evaluate: Function (arguments) -> result of one call. In a loop, it changes the first element of
            each array to zero.
        seconds: Time to compile.
        memory_bytes: Size of the temporary arrays and the results.
    """

    run: Callable[[int], Any]
    evaluate: Callable[[tuple], Any]
    seconds: float
    memory_bytes: int


def time_functions(
    functions: Mapping[str, Callable[..., Any]],
    arrays: tuple,
    rounds: int,
    seconds: float,
    loop: bool = False,
    turn: float = TURN,
) -> dict[str, dict[str, Any]]:
    """Compile functions of the same arrays and time them alternately; see `time_in_turns`.

    With ``loop``, each function is called in a compiled loop, as in training, and not from Python. For each
    function the result has the milliseconds (median), all turns, the seconds to compile and the bytes of
    temporary arrays and results.
    """
    compiled = {name: compile_calls(each, arrays, loop) for name, each in functions.items()}
    return time_compiled(compiled, rounds, seconds, turn)


def time_compiled(
    compiled: Mapping[str, Compiled], rounds: int, seconds: float, turn: float = TURN
) -> dict[str, dict[str, Any]]:
    """Time compiled functions alternately; see `time_functions`."""
    runs = {name: each.run for name, each in compiled.items()}
    return {
        name: {
            "milliseconds": statistics.median(turns),
            "turns": turns,
            "compile_seconds": compiled[name].seconds,
            "memory_bytes": compiled[name].memory_bytes,
        }
        for name, turns in time_in_turns(runs, rounds, turn, seconds).items()
    }


def compile_calls(function: Callable[..., Any], arguments: tuple, loop: bool = False) -> Compiled:
    """Compile a function to call it from Python, or in a compiled loop."""
    began = perf_counter()
    if loop:
        compiled = _loop.lower(jnp.int32(0), arguments, function).compile()
        state = jax.tree.map(jnp.copy, arguments)

        def run(calls):
            nonlocal state
            state, result = compiled(jnp.int32(calls), state)
            jax.block_until_ready(result)

        def evaluate(arguments):
            return compiled(jnp.int32(1), jax.tree.map(jnp.copy, arguments))[1]

    else:
        compiled = jax.jit(function).lower(*arguments).compile()

        def run(calls):
            for _ in range(calls):
                jax.block_until_ready(compiled(*arguments))

        def evaluate(arguments):
            return compiled(*arguments)

    seconds, memory = perf_counter() - began, compiled.memory_analysis()
    size = memory.temp_size_in_bytes + memory.output_size_in_bytes if memory else 0
    return Compiled(run, evaluate, seconds, size)


@functools.partial(jax.jit, static_argnums=2, donate_argnums=1)
def _loop(calls, arguments, function):
    """Return the arguments and the last result of ``function`` after a number of calls."""

    def call(arguments):
        return jax.tree.map(_without_key, function(*arguments))

    shapes = jax.eval_shape(call, arguments)
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

    def body(number, carried):
        # Change one element per iteration. XLA would compute a constant result only once.
        arguments = jax.tree.map(functools.partial(set_first, number=number), carried[0])
        return arguments, call(arguments)

    return jax.lax.fori_loop(0, calls, body, (arguments, zeros))


def set_first(array: jax.Array, number: jax.Array) -> jax.Array:
    """Set the first element of an array of numbers to ``number``; that of integers to 0 or 1."""
    if not jnp.issubdtype(array.dtype, jnp.number) or not array.size:
        return array
    if jnp.issubdtype(array.dtype, jnp.integer):
        number = number % 2  # labels and indices remain valid
    return array.at[(0,) * array.ndim].set(number.astype(array.dtype))


def _without_key(array):
    is_key = jnp.issubdtype(array.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(array) if is_key else array


def machine(device_kind: str = "cpu") -> str:
    """Describe the machine and the version of JAX in a few words."""
    cores = cpu_cores()
    if device_kind != "cpu":
        cores = f"{cores.partition(' of ')[0]} of {device_kind}"
    return f"{cores}, jax {importlib.metadata.version('jax')}"
