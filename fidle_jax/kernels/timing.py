"""Paired timings of methods of a kernel against a baseline, with checked results."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fidle_jax.kernels as kernels
from fidle_jax.kernels.arrays import sum_dtype
from fidle_jax.kernels.auto import default_device
from fidle_jax.kernels.rows import align
from fidle_jax.kernels.specs import Spec, on_floats
from fidle_jax.kernels.turns import compile_calls, set_first, time_compiled, time_functions

# Computations to time: the values; the gradients of the inputs by the pullback of `jax.vjp`; both of these.
PHASES = ("forward", "vjp", "both")
ROUNDS = 15  # maximum number of turns
SECONDS = 0.7  # approximate limit for all turns of one comparison


@dataclasses.dataclass(frozen=True)
class Peaks:
    """Measured speed of a large matrix product and of a large copy on the default device."""

    flops: float  # per second
    bandwidth: float  # bytes read and written per second


def measure_peaks(dtype: jax.typing.DTypeLike = jnp.float32) -> Peaks:
    """Measure the `Peaks` of the default device."""
    side, count = (2048, 2**25) if default_device().platform == "cpu" else (8192, 2**28)
    a, x = jnp.ones((side, side), dtype), jnp.ones(count, dtype)
    functions = {"matmul": (jnp.matmul, (a, a)), "copy": (lambda x: x + 1, (x,))}
    fastest = {}
    for name, (function, arrays) in functions.items():
        times = time_functions({name: function}, arrays, rounds=7, seconds=2.0)[name]["turns"]
        fastest[name] = min(times) / 1e3
    return Peaks(2 * side**3 / fastest["matmul"], 2 * x.nbytes / fastest["copy"])


@dataclasses.dataclass(frozen=True)
class Timing:
    """Time of one method for one set of arguments."""

    spec: str
    phase: str  # one of `PHASES`
    in_loop: bool  # in a compiled loop, or called from Python
    method: str
    milliseconds: float  # median of the turns
    turns: tuple[float, ...]
    compile_seconds: float
    memory_bytes: int  # temporary arrays and results
    flops: float  # floating-point operations of the baseline
    traffic_bytes: int  # arguments and results

    def fractions(self, peaks: Peaks) -> tuple[float, float]:
        """Return the shares of the peak of operations and of the peak of memory bandwidth."""
        seconds = self.milliseconds / 1e3
        return self.flops / seconds / peaks.flops, self.traffic_bytes / seconds / peaks.bandwidth


def time(
    method: str | Callable[..., Any],
    specs: Sequence[Spec],
    *,
    baseline: str | Callable[..., Any] = "xla",
    phases: Sequence[str] = PHASES,
    dtype: jax.typing.DTypeLike = jnp.float32,
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
) -> list[Timing]:
    """Time a method and a baseline alternately, called from Python and in a compiled loop.

    Args:
        method: Name of a method of `kernels.conv`, or a function (arrays, **arguments).
        specs: Arguments, for example `fidle_jax.kernels.specs.CONV_SPECS`.
        baseline: Like ``method``. Its results are the expected ones.
        phases: Names from `PHASES`.
        dtype: Type of the random arrays.
        rounds: Maximum number of turns of each function.
        seconds: Approximate limit for the turns of one comparison. Three rounds are always measured.

    Returns:
        Timings of both; `format_timings` formats them.

    Raises:
        RuntimeError: A result is wrong before or after the timing, or an argument was changed.
    """
    names = _name_of(baseline, "baseline"), _name_of(method, "method")
    if names[0] == names[1] and baseline is not method:
        names = "baseline", "method"
    functions = dict(zip(names, map(_function_of, (baseline, method)), strict=True))
    how = {"dtype": dtype, "rounds": rounds, "seconds": seconds}
    return [
        timing
        for spec in specs
        for phase in phases
        for timing in compare(functions, spec, phase, **how)
    ]


def _name_of(method, default):
    return method if isinstance(method, str) else getattr(method, "__name__", default)


def _function_of(method):
    return functools.partial(kernels.conv, method=method) if isinstance(method, str) else method


def compare(
    functions: Mapping[str, Callable[..., Any]],
    spec: Spec,
    phase: str,
    *,
    label: str = "",
    constants: int = 0,
    numbers: str = "normal",
    dtype: jax.typing.DTypeLike = jnp.float32,
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
    skip: Callable[[str, Exception], Any] | None = None,
    only_called: Sequence[str] = (),
) -> list[Timing]:
    """Time functions of the same arguments alternately; see `time`. The first one is the baseline.

    Args:
        functions: Functions (arrays, **arguments) by name.
        spec: Arguments.
        phase: A name from `PHASES`. Integers have no gradient.
        label: Description of the arguments; by default ``spec``.
        constants: Number of first inputs without a gradient.
        numbers: Name from `fidle_jax.kernels.specs.NUMBERS`. Sums of small integers are exact, so that all
            methods find the same maximum.
        dtype: See `time`, also for rounds and seconds.
        skip: Function that is called with the name and the error of a function that fails, which is left
            out. By default, the error is raised.
        only_called: Names of functions that are not timed in a loop.
    """
    label, baseline = label or str(spec), next(iter(functions))
    programs = {
        name: _phase(functools.partial(function, **spec.arguments), phase, constants)
        for name, function in functions.items()
    }

    def arguments(seed):
        inputs = spec.arrays(dtype, numbers, seed)
        results = jax.eval_shape(functools.partial(functions[baseline], **spec.arguments), *inputs)
        random = np.random.default_rng(seed)

        def cotangent(shape):
            return jnp.asarray(random.normal(size=shape.shape), shape.dtype)

        return (*inputs,) if phase == "forward" else (jax.tree.map(cotangent, results), *inputs)

    expected = {}
    reference = compile_calls(programs[baseline], arguments(0))
    for when, seed in (("before", 1), ("after", 2)):
        # The loop changes the first elements to zero.
        inputs = jax.tree.map(functools.partial(set_first, number=jnp.int32(0)), arguments(seed))
        expected[when] = inputs, reference.evaluate(inputs)
    cost: Any = jax.jit(programs[baseline]).lower(*arguments(0)).cost_analysis() or {}
    traffic = sum(leaf.nbytes for leaf in jax.tree.leaves(expected["before"]))

    def attempt(name, function, *args):
        try:
            return function(*args)
        except Exception as error:
            if skip is None or name == baseline:
                raise
            skip(name, error)
            return None

    timings = []
    for loop in (False, True):
        compiled = {} if loop else {baseline: reference}
        for name, program in programs.items():
            if name in compiled or (loop and name in only_called):
                continue
            each = attempt(name, compile_calls, program, arguments(0), loop)
            if each and (
                name == baseline or attempt(name, _check, name, each, expected, "before", label)
            ):
                compiled[name] = each
        results = time_compiled(compiled, rounds, seconds)
        for name, each in compiled.items():
            if name == baseline or attempt(name, _check, name, each, expected, "after", label):
                result = results[name] | {"turns": tuple(results[name]["turns"])}
                costs = {"flops": max(cost.get("flops", 0.0), 0.0), "traffic_bytes": traffic}
                timings.append(Timing(label, phase, loop, name, **result, **costs))
    return timings


def _phase(function, phase, constants):
    """Return a function of the inputs, for the gradients also of the cotangent before them."""
    if phase == "forward":
        return function

    def program(cotangent, *inputs):
        of_floats, floats, _ = on_floats(function, inputs, constants)
        value, pullback = jax.vjp(of_floats, *floats)
        return (value, pullback(cotangent)) if phase == "both" else pullback(cotangent)

    return program


def _check(name, compiled, expected, when, label):
    """Return True if results for new arrays are those of the baseline. Otherwise raise RuntimeError."""
    arguments, reference = expected[when]
    copies = [np.array(leaf) for leaf in jax.tree.leaves(arguments)]
    result = jax.block_until_ready(compiled.evaluate(arguments))
    if not all(map(np.array_equal, copies, jax.tree.leaves(arguments))):
        raise RuntimeError(f"{name} changes its arguments ({label}); it must return new arrays")
    shapes = [
        jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), each) for each in (result, reference)
    ]
    if shapes[0] != shapes[1]:
        raise RuntimeError(f"{name} returns {shapes[0]} for {label}; expected {shapes[1]}")
    for one, other in zip(*map(jax.tree.leaves, (result, reference)), strict=True):
        exact = np.asarray(other, np.float64)
        largest = np.abs(exact).max(initial=0) or 1.0
        error = np.abs(np.asarray(one, np.float64) - exact).max(initial=0) / largest
        if not error <= (allowed := tolerance(one.dtype)):
            raise RuntimeError(
                f"{name} returns wrong values {when} timing ({label}): the error is {error:.2g} of the "
                f"largest value; expected at most {allowed:.2g}; test it with fidle_jax.kernels.testing"
            )
    return True


def tolerance(dtype: jax.typing.DTypeLike) -> float:
    """Return the accepted error relative to the largest value: of rounding, and of long sums."""
    if not jnp.issubdtype(dtype, jnp.floating):
        return 0.0
    eps = 256 * float(jnp.finfo(sum_dtype(dtype)).eps)
    precise = jax.config.jax_default_matmul_precision in ("highest", "float32")
    if default_device().platform != "cpu" and not precise:
        eps = 2.0**-6  # accelerators multiply in reduced precision by default
    return 4 * float(jnp.finfo(dtype).eps) + eps


def format_timings(timings: Sequence[Timing], peaks: Peaks | None = None) -> str:
    """Format timings as an aligned table. With ``peaks``, also their shares in percent."""
    first: dict[tuple[str, str, bool], Timing] = {}
    header = ("arguments", "phase", "where", "method", "ms", "speed", "compile s", "MB")
    rows: list[tuple[str, ...]] = [(*header, "% matmul", "% memory") if peaks else header]
    for each in timings:
        baseline = first.setdefault((each.spec, each.phase, each.in_loop), each)
        speed = baseline.milliseconds / each.milliseconds
        cells = (
            *(each.spec, each.phase, "loop" if each.in_loop else "call", each.method),
            *(f"{each.milliseconds:.4g}", f"{speed:.2f}x", f"{each.compile_seconds:.2f}"),
            f"{each.memory_bytes / 1e6:.3g}",
        )
        shares = [f"{100 * share:.1f}" for share in each.fractions(peaks)] if peaks else []
        rows.append((*cells, *shares))
    return align(rows)
