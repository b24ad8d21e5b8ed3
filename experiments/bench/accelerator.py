"""Check all kernels on a GPU or TPU and time the course's networks there, in less than five minutes.

The exit status is 0 if all checks pass, also without a GPU or TPU (one line says so), and 1 if one fails.
"""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from kernels import make_program
from timing import run

from fidle_jax import kernels
from fidle_jax.kernels import specs
from fidle_jax.kernels.auto import (
    Table,
    default_device,
    device_name,
    recorded_problems,
    tuned,
    versions,
)
from fidle_jax.kernels.rows import Problem, Row, align
from fidle_jax.kernels.timing import tolerance
from fidle_jax.kernels.tuning import methods_of
from fidle_jax.kernels.turns import compile_calls, machine, time_in_turns

LIMIT = 270  # seconds after which the remaining checks are left out
NETWORKS = ("mnist", "v1", "v2")


@dataclasses.dataclass(frozen=True)
class Config:
    """No settings."""


def main(config: Config) -> None:
    """Run the checks. Raise RuntimeError if one fails."""
    device = default_device()
    if device.platform == "cpu":
        print("no GPU or TPU: the default device of JAX is a CPU, so nothing was checked")
        return
    print(machine(device.device_kind), flush=True)
    began, failed = time.perf_counter(), []
    for name, check in checks().items():
        start = time.perf_counter()
        if start - began > LIMIT:
            print(f"{name}: left out, because the checks took {start - began:.0f} s")
            continue
        try:
            result = check()
        except Exception as error:
            failed.append(name)
            result = f"FAILED, {type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        print(f"{name}: {result or 'ok'} ({time.perf_counter() - start:.1f} s)", flush=True)
    if failed:
        raise RuntimeError(f"{len(failed)} checks failed: {', '.join(failed)}")


def checks() -> dict[str, Callable[[], str | None]]:
    """Return functions by name that raise an error if a result is wrong, or return a text."""
    found: dict[str, Callable[[], str | None]] = {}
    cases = {"conv": specs.CONV_SPECS, "conv_pool": specs.CONV_POOL_SPECS}
    cases |= dict.fromkeys(kernels.POOLS, specs.POOL_SPECS)
    for kind, each in cases.items():
        names = kernels.POOLS.get(kind, kernels.conv_methods())
        names = [*names, *kernels.conv_pool_methods()] if kind == "conv_pool" else names
        for method in (*names, "auto"):
            if method != "reference":
                found[f"{kind} by {method}"] = functools.partial(check_kernel, kind, method, each)
    found["random bits and dropout"] = check_random
    methods = ("forward", "im2col", "winograd", "pallas")
    for method in filter(kernels.conv_methods().__contains__, methods):
        found[f"training by {method}"] = functools.partial(check_training, method)
    for name in NETWORKS:
        found[f"times of {name}"] = functools.partial(time_network, name)
    return found


def check_kernel(kind: str, method: str, cases: Iterable[specs.Spec]) -> str | None:
    """Compare values and gradients of a kernel with those of the reference."""
    supported = 0
    for spec in cases:
        # Sums of small integers are exact, so that all methods find the same maximum in a pool.
        arrays = spec.arrays(jnp.float32, "small integers" if kind == "conv_pool" else "normal")

        def compute(method, spec=spec, arrays=arrays):
            function = functools.partial(getattr(kernels, kind), **spec.arguments, method=method)
            y, pullback = jax.vjp(function, *arrays)
            return y, pullback(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

        with jax.default_matmul_precision("highest"):
            try:
                actual = jax.jit(functools.partial(compute, method))()
            except ValueError as error:
                if "does not support" in str(error):
                    continue
                raise
            assert_close(actual, jax.jit(functools.partial(compute, "reference"))(), spec)
        supported += 1
    return f"ok for {supported} shapes"


def assert_close(actual: Any, expected: Any, label: object) -> None:
    """Raise RuntimeError if a leaf differs by more than rounding, relative to its largest value."""
    for one, other in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
        largest = np.abs(other).max(initial=0) or 1.0
        error = np.abs(np.subtract(one, other)).max(initial=0) / largest
        if not error <= tolerance(other.dtype):
            raise RuntimeError(f"the error is {error:.2g} of the largest value for {label}")


def check_random() -> None:
    """Compare random bits and dropout with those of a CPU."""

    def compute(key):
        x = jnp.ones((8, 5, 3))
        bits = kernels.accelerate(jax.random.bits)(key, (7, 5))
        return kernels.dropout(x, 0.5, key, jnp.arange(8)), bits

    here = jax.jit(compute)(jax.random.key(0))
    with jax.default_device(jax.devices("cpu")[0]):
        there = jax.jit(compute)(jax.random.key(0))
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one, other)


def check_training(method: str, network: str = "mnist") -> str:
    """Compare the gradients of a network by a method with those by XLA."""
    function, arguments = make_program(network)
    with jax.default_matmul_precision("highest"):
        expected = jax.jit(function)(*arguments)
        with tuned(table_of(find_problems(function, arguments), method)) as table:
            actual = jax.jit(kernels.accelerate(function))(*arguments)
        assert_close(actual, expected, network)
    return f"ok with {len(table.rows)} operations by {method}"


def find_problems(function: Callable[..., Any], arguments: tuple) -> list[Problem]:
    """Return the convolutions and poolings of a program."""
    with recorded_problems() as found:
        jax.jit(kernels.accelerate(function)).lower(*arguments)
    return list(found)


def table_of(problems: Iterable[Problem], method: str) -> Table:
    """Return a table that selects ``method`` for all problems that it supports."""
    times = {"xla": 2.0, method: 1.0}
    rows = [
        Row(problem, times, times, dict.fromkeys(times, 1.0), "not measured")
        for problem in problems
        if method in methods_of(problem, names=[method])
    ]
    return Table(tuple(rows), device_name(), versions(), "not measured")


def time_network(name: str) -> str:
    """Return the table of the times of a network's gradients: by XLA, accelerated, and by Pallas."""
    function, arguments = make_program(name)
    problems = find_problems(function, arguments)
    empty, faster = table_of([], "xla"), kernels.accelerate(function)
    programs = {"xla": (function, empty), "auto": (faster, empty)}
    if "pallas" in kernels.conv_methods():
        programs["pallas"] = faster, table_of(problems, "pallas")
    lines = [("", *(f"{each}, ms" for each in programs))]
    for loop in (False, True):
        runs = {}
        for label, (program, table) in programs.items():
            with tuned(table):
                runs[label] = compile_calls(program, arguments, loop).run
        turns = time_in_turns(runs, 15, 0.05, 5.0)
        times = [f"{statistics.median(turns[label]):.4g}" for label in programs]
        lines.append(("in a loop" if loop else "called from Python", *times))
    return "\n" + align(lines) + "\n"


if __name__ == "__main__":
    run(main, Config(), __doc__)
