"""Time functions alternately, so that other load on the machine affects all of them alike."""

# JAX is imported inside functions: the processes of `peers` set its environment variables first.
import functools
import importlib.metadata
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from fidle_jax.cli.parse import parse_flags
from fidle_jax.cli.terminal import FAILED, exit_with, fail
from fidle_jax.errors import InputError
from fidle_jax.files import write_json

TURN = 0.01  # seconds
FAR_BEHIND = 5.0  # times the fastest
LONG_TURN = 3.0  # times the requested length
LONG_CALL = 1.0  # seconds
FEW_TURNS = 3
MOST_CALLS = 1000

Flags = TypeVar("Flags")


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
        began = time.perf_counter()
        runs[name](calls)
        return (time.perf_counter() - began) / calls

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
    function the result has the milliseconds (median), all turns, and the seconds to compile.
    """
    runs, results = {}, {}
    for name, function in functions.items():
        began = time.perf_counter()
        runs[name] = (_compile_loop if loop else _compile_call)(function, arrays)
        results[name] = {"compile_seconds": time.perf_counter() - began}
    for name, turns in time_in_turns(runs, rounds, turn, seconds).items():
        results[name] |= {"milliseconds": statistics.median(turns), "turns": turns}
    return results


def _compile_call(function, arrays):
    import jax

    compiled = jax.jit(function).lower(*arrays).compile()

    def run(calls):
        for _ in range(calls):
            jax.block_until_ready(compiled(*arrays))

    return run


def _compile_loop(function, arrays):
    import jax
    import jax.numpy as jnp

    @functools.partial(jax.jit, donate_argnums=1)
    def repeat(calls, arrays):
        shapes = jax.eval_shape(function, *arrays)
        zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

        def body(number, carried):
            # Change one element per iteration. XLA would compute a constant result only once.
            arrays = [a.at[(0,) * a.ndim].set(number.astype(a.dtype)) for a in carried[0]]
            return arrays, function(*arrays)

        return jax.lax.fori_loop(0, calls, body, (arrays, zeros))

    state = [jnp.copy(array) for array in arrays]
    compiled = repeat.lower(jnp.int32(0), state).compile()

    def run(calls):
        nonlocal state
        state, result = compiled(jnp.int32(calls), state)
        jax.block_until_ready(result)

    return run


def machine(device_kind: str = "cpu") -> str:
    """Describe the machine and the version of JAX in a few words."""
    if device_kind == "cpu":
        info = Path("/proc/cpuinfo")
        lines = info.read_text().splitlines() if info.exists() else []
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        device_kind = names[0] if names else platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores of {device_kind}, jax {importlib.metadata.version('jax')}"


def save(path: Path, content: dict[str, Any]) -> None:
    """Write the measurements as JSON and print the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content)
    print(f"written: {path}")


def run(main: Callable[[Flags], None], flags: Flags, description: str) -> NoReturn:
    """Parse the command line into a copy of ``flags``, call ``main``, and exit."""

    def body(_):
        try:
            main(parse_flags(description, flags))
        except (OSError, RuntimeError) as error:
            return fail(error, FAILED)
        return 0

    exit_with(body, "interrupted")


def check_positive(flags: Any, *names: str) -> None:
    """Raise InputError unless all values of the named fields are positive."""
    for name in names:
        value = getattr(flags, name)
        for number in value if isinstance(value, tuple) else (value,):
            if not 0 < number < math.inf:
                flag = f"--{name.replace('_', '-')}"
                raise InputError(f"{flag} is {number}; it must be positive")
