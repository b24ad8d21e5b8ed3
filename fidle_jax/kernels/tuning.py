"""Tuning: time the methods on this machine for the convolutions and poolings of a program."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import math
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

import fidle_jax.kernels as kernels
from fidle_jax.kernels import bilinear
from fidle_jax.kernels.acceleration import accelerate
from fidle_jax.kernels.auto import (
    Table,
    cheapest,
    choose,
    default_device,
    device_name,
    recorded_problems,
    table_rows,
    tuned,
    versions,
)
from fidle_jax.kernels.bilinear import ConvSpec
from fidle_jax.kernels.geometry import conv_geometry
from fidle_jax.kernels.methods import OPAQUE, conv_methods, conv_pool_methods
from fidle_jax.kernels.rows import Problem, Row
from fidle_jax.kernels.specs import Spec
from fidle_jax.kernels.timing import ROUNDS, SECONDS, Timing, compare
from fidle_jax.kernels.turns import compile_calls, machine, time_in_turns

FEW_CHANNELS = 3  # such a layer is the first of a network, and needs no input gradient
LONGEST = 2.0  # seconds for one call of XLA's method in a loop
PROGRAM_TURN = 0.1  # seconds: several calls, since the other program leaves its data in the caches


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def tune(
    function: Callable[..., Any],
    *args: Any,
    seconds: float = SECONDS,
    rounds: int = ROUNDS,
    report: Callable[[str], Any] = _print,
) -> Table:
    """Time all methods for the convolutions and poolings of ``function(*args)`` on the default device.

        table = kernels.tune(step, params, images)
        table.save("tuning.txt")
        with kernels.tuned(table):
            step(params, images)  # or set FIDLE_JAX_TUNING=tuning.txt

    Forward and backward passes are timed in float32, also those of registered methods. Then the whole
    program is timed with and without the table, both by `accelerate`. If it is slower with the table, the
    result has no rows, so it changes nothing.

    Args:
        function: Function of arrays. It may be compiled, accelerated, or contain gradients.
        args: Arguments: arrays, shapes (`jax.ShapeDtypeStruct`) or anything else, in any pytrees.
        seconds: Approximate limit for the turns of one comparison. Three rounds are always measured.
        rounds: Maximum number of turns of each method.
        report: Function that is called with each line of progress; by default it prints to stderr.

    Returns:
        The measurements.

    Raises:
        RuntimeError: JAX traces a function.
        TypeError: The function changed an argument.
    """
    program, arrays = _program(function, args)
    with tuned(_table(())):
        with recorded_problems() as found:
            jax.jit(program).lower(*arrays)
        # A convolution with pooling may be computed in two steps.
        problems = {}
        for each, run_seconds in found.items():
            if each.pool:
                problems[dataclasses.replace(each, kind="conv", pool=None)] = run_seconds
            problems[each] = run_seconds
        rows: list[Row] = []
        for number, problem in enumerate(problems, 1):
            report(f"{number} of {len(problems)}: {problem}")
            how = {"seconds": seconds, "rounds": rounds, "report": report, "longest": LONGEST}
            timings = measure(problem, rows, **how)
            rows.append(row_of(problem, timings))
    table = _table(rows)
    return (
        table
        if _is_faster(program, arrays, table, problems, rounds, seconds, report)
        else _table(())
    )


def _table(rows: Iterable[Row]) -> Table:
    return Table(tuple(rows), device_name(), versions(), _today())


def _today():
    return f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"


def _program(function, args):
    """Return the accelerated function of the arrays among the arguments, and these arrays."""
    leaves, structure = jax.tree.flatten(args)
    kinds = (jax.Array, np.ndarray, jax.ShapeDtypeStruct)
    places = [index for index, leaf in enumerate(leaves) if isinstance(leaf, kinds)]

    def of_arrays(*arrays):
        inputs = list(leaves)
        for index, array in zip(places, arrays, strict=True):
            inputs[index] = array
        return function(*structure.unflatten(inputs))

    return accelerate(of_arrays), tuple(_as_array(leaves[index]) for index in places)


def _as_array(leaf):
    """Return random numbers for the shape of floats, zeros or keys for other shapes."""
    if not isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.numpy.asarray(leaf)
    if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.split(jax.random.key(0), leaf.shape) if leaf.shape else jax.random.key(0)
    if jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating):
        return jax.random.normal(jax.random.key(0), leaf.shape, leaf.dtype)
    return jax.numpy.zeros(leaf.shape, leaf.dtype)


def _is_faster(program, arrays, table, problems, rounds, seconds, report):
    """Return False if the program is slower with the table, called from Python or in a loop."""

    is_cpu = default_device().platform == "cpu"

    def selected():
        return [
            choose(problem, in_loop, run_seconds, is_cpu)
            for problem, run_seconds in problems.items()
            for in_loop in (False, True)
        ]

    programs = {"without": _table(()), "with": table}
    choices = []
    for each in programs.values():
        with tuned(each):
            choices.append(selected())
    if choices[0] == choices[1]:
        report("the table selects the methods that are selected without it")
        return True
    ratios = []
    for loop in (False, True):
        runs = {}
        for name, each in programs.items():
            with tuned(each):
                runs[name] = compile_calls(program, arrays, loop).run
        turns = time_in_turns(runs, rounds, PROGRAM_TURN, 10 * seconds)
        before, after = (statistics.median(turns[name]) for name in programs)
        ratios.append(statistics.median(map(lambda a, b: b / a, turns["without"], turns["with"])))
        where = "in a loop" if loop else "called from Python"
        report(f"program {where}: {before:.4g} ms without the table, {after:.4g} ms with it")
    if max(ratios) <= 1:
        return True
    report("the program is not faster with the table, so the table is left empty")
    return False


def measure(
    problem: Problem,
    rows: Sequence[Row] = (),
    names: Sequence[str] = (),
    phase: str = "both",
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
    report: Callable[[str], Any] = _print,
    longest: float = math.inf,
) -> list[Timing]:
    """Time the methods of a problem, called from Python and in a loop. XLA's is the baseline.

    Args:
        problem: Shapes and arguments.
        rows: Measurements that select the convolution of "separate", before those of the package.
        names: Methods to compare with XLA's; by default all that "auto" may select on this device.
        phase: See `fidle_jax.kernels.timing.compare`, also for rounds and seconds.
        report: Function that is called with one line for each method that fails and is left out.
        longest: Seconds. XLA's method is not timed in a loop if it would take longer for one call.
    """
    functions = methods_of(problem, rows, names)

    def skip(name, error):
        line = next(iter(str(error).splitlines()), "")
        report(f"  {name} is left out: {type(error).__name__}: {line}")

    constants = 1 if problem.kind.startswith("conv") and problem.channels <= FEW_CHANNELS else 0
    numbers = "small integers" if problem.pool else "normal"
    how = {"constants": constants, "rounds": rounds, "seconds": seconds, "skip": skip}
    if _seconds_of_xla_in_loop(problem, functions, phase, longest) > longest:
        report(f"  xla is not timed in a loop, where a call takes more than {longest:.3g} s")
        how["only_called"] = ("xla",)
    return compare(functions, spec_of(problem), phase, label=str(problem), numbers=numbers, **how)


def _seconds_of_xla_in_loop(problem, functions, phase, longest):
    """Estimate the time of one call from a part of the batch."""
    part = max(1, problem.batch // 16)
    if longest == math.inf or part == problem.batch:
        return 0.0
    spec = spec_of(dataclasses.replace(problem, batch=part))
    timings = compare({"xla": functions["xla"]}, spec, phase, rounds=1, seconds=0.0)
    return max(each.milliseconds for each in timings) / 1e3 * problem.batch / part


def row_of(problem: Problem, timings: Sequence[Timing]) -> Row:
    """Return the row of a table for the timings of `measure`."""
    in_loop = [timing for timing in timings if timing.in_loop]
    return Row(
        problem,
        {each.method: each.milliseconds for each in in_loop},
        {each.method: each.milliseconds for each in timings if not each.in_loop},
        {each.method: each.compile_seconds for each in (*timings, *in_loop)},
        f"{_today()}, {machine(default_device().device_kind)}",
    )


def spec_of(problem: Problem) -> Spec:
    """Return the arguments of the function of `fidle_jax.kernels` that has the name ``problem.kind``."""
    geometry, pool = problem.geometry, problem.pool
    arguments: dict[str, Any] = {"strides": geometry.strides, "padding": geometry.padding}
    x = (problem.batch, *problem.spatial, problem.channels)
    if not problem.kind.startswith("conv"):
        return Spec(x, window=geometry.size, **arguments)
    arguments |= {"dilation": geometry.dilation, "groups": problem.groups}
    w = (*geometry.size, problem.channels // problem.groups, problem.features)
    if pool is None:
        return Spec(x, w, **arguments)
    return Spec(x, w, (problem.features,), window=pool.size, pool_strides=pool.strides, **arguments)


def methods_of(
    problem: Problem, rows: Sequence[Row] = (), names: Sequence[str] = ()
) -> dict[str, Callable[..., Any]]:
    """Return the functions of a problem by method, XLA's first; see `measure`."""
    geometry, pool = problem.geometry, problem.pool
    function = getattr(kernels, problem.kind)
    convs = {
        name: method
        for name, method in conv_methods().items()
        if (name in names if names else method.local and name != "reference")
        and method.supports(geometry.size, geometry.strides, geometry.dilation)
    }
    if pool:
        # Winograd's method takes as long to compile alone as with the pooling, so it is not compared.
        conv_alone = dataclasses.replace(problem, kind="conv", pool=None)
        separate = cheapest((*rows, *table_rows()), conv_alone)
        separate = "forward" if separate == "winograd" else separate
        fused = [
            name for name, each in conv_pool_methods().items() if each.supports(geometry, pool)
        ]
        known = {"separate": separate} | {name: name for name in fused}
    elif problem.kind == "conv":
        known = {name: name for name in convs}
    else:
        known = {name: name for name in kernels.POOLS[problem.kind] if name != "reference"}
    if default_device().platform == "cpu" and not names:
        known.pop("pallas", None)  # Pallas interprets its kernels on a CPU
    functions = {"xla": functools.partial(function, method="xla")}
    for name, method in known.items():
        if name != "xla" and (not names or name in names):
            is_registered = problem.kind == "conv" and name not in {"reference", *OPAQUE}
            functions[name] = (
                functools.partial(_registered, name)
                if is_registered
                else functools.partial(function, method=method)
            )
    return functions


def _registered(name, x, w, *, strides, padding, dilation, groups):
    """Compute a convolution by a registered method as "auto" does: gradients are transposes."""
    geometry = conv_geometry(x, w, strides, padding, dilation, groups)
    return bilinear.bind("y", ConvSpec(x.shape[1:-1], geometry, groups, name), x, w)
