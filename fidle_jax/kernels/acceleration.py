"""Acceleration of any JAX program on a CPU: `accelerate`, `accelerated` and `plan`."""

from __future__ import annotations

import contextlib
import functools
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import jax
from jax._src import source_info_util
from jax._src.interpreters import pxla
from jax.extend.core import jaxpr_as_fun

from fidle_jax.kernels.auto import (
    active_rows,
    active_table,
    choose,
    is_recording,
    nearest_row,
    require_no_trace,
)
from fidle_jax.kernels.geometry import format_sizes
from fidle_jax.kernels.jaxprs import LOOPS
from fidle_jax.kernels.rewrite import rewrite
from fidle_jax.kernels.rows import align

Args = ParamSpec("Args")
Result = TypeVar("Result")

PROGRAM_SECONDS = 10.0  # XLA should not compile much longer than without acceleration

# Expected run time, or None outside of the context. JAX does not share what it compiles with other values.
_seconds = jax.make_user_context(None)
_plan = jax.make_user_context(None)  # the `Plan` that is being made
_lock = threading.Lock()
_contexts = 0  # number of open contexts in all threads
_original: Any = None  # JAX's function that is replaced meanwhile


def accelerate(
    function: Callable[Args, Result], *, seconds: float = PROGRAM_SECONDS
) -> Callable[Args, Result]:
    """Return a function that computes the same with faster convolutions, poolings and random bits.

    The function is traced as by `jax.jit`, and the operations are replaced, also in loops, conditionals
    and other transformations. It may contain gradients, and it can be transformed. Values agree up to
    rounding. On other devices than a CPU nothing is replaced without a table of `kernels.tuned`.

    Args:
        function: Function of arrays and any other arguments. Only arguments of the type `jax.Array` are
            traced. Wrap the result in `jax.jit`, since each call traces the function.
        seconds: Expected run time of the compiled function, all calls together. For longer runs, methods
            are selected that take longer to compile if they save that time.

    Raises:
        TypeError: The function changed an argument, for example a module of `flax.nnx`.
    """

    if getattr(function, "_is_accelerated", False):
        return function

    @functools.wraps(function)
    def faster(*args, **kwargs):
        if plan := _plan.value:
            plan.seconds = seconds
        if plan or not _replaces():
            return function(*args, **kwargs)
        jaxpr, arrays, finish = _trace(function, args, kwargs)
        return finish(jaxpr_as_fun(rewrite(jaxpr, seconds, is_cpu=_on_cpu()))(*arrays))

    faster._is_accelerated = True  # pyright: ignore[reportAttributeAccessIssue]
    return faster


@contextlib.contextmanager
def accelerated(*, seconds: float = PROGRAM_SECONDS) -> Iterator[None]:
    """Accelerate everything that this thread compiles in the context, like `accelerate`.

    This is for frameworks that own the training loop, such as Keras. Functions that were compiled outside of
    the context are compiled again.

    Args:
        seconds: See `accelerate`.

    Raises:
        RuntimeError: JAX traces a function, so the context would end before compilation.
    """
    global _contexts, _original
    require_no_trace("accelerated", "use accelerate(function) inside")
    with _lock:
        if _contexts == 0:
            # All compilation passes this function of JAX.
            _original = pxla.lower_sharding_computation
            pxla.lower_sharding_computation = functools.partial(_lower, _original)
        _contexts += 1
    try:
        with _seconds(seconds):
            yield
    finally:
        with _lock:
            _contexts -= 1
            if _contexts == 0:
                pxla.lower_sharding_computation, _original = _original, None


def _lower(original, jaxpr, *args, **kwargs):
    if _seconds.value is not None and _replaces():
        jaxpr = rewrite(jaxpr, _seconds.value, is_cpu=_on_cpu())
    return original(jaxpr, *args, **kwargs)


def _on_cpu():
    device = jax.config.jax_default_device
    platform = device if isinstance(device, str) else getattr(device, "platform", None)
    return (platform or jax.default_backend()) == "cpu"


def _replaces():
    return _on_cpu() or is_recording() or bool(active_rows(active_table(), is_cpu=False))


def _trace(function, args, kwargs):
    """Return the jaxpr, its arguments, and a function that builds the result from its outputs."""
    leaves, structure = jax.tree.flatten((args, kwargs))
    is_traced = [isinstance(leaf, (jax.Array, jax.ShapeDtypeStruct)) for leaf in leaves]
    arrays = [leaf for leaf, traced in zip(leaves, is_traced, strict=True) if traced]
    is_array, others, result_structure = [], [], None  # of the result

    def flat(*arrays):
        nonlocal is_array, others, result_structure
        remaining = iter(arrays)
        inputs = [
            next(remaining) if traced else leaf
            for leaf, traced in zip(leaves, is_traced, strict=True)
        ]
        args, kwargs = structure.unflatten(inputs)
        result = function(*args, **kwargs)
        after, structure_after = jax.tree.flatten((args, kwargs))
        if structure_after == structure and any(map(_differ, inputs, after)):
            raise TypeError(
                f"{getattr(function, '__name__', function)!r} changed one of its arguments; expected a "
                "function that returns the new values; use `with kernels.accelerated():` around its call"
            )
        results, result_structure = jax.tree.flatten(result)
        is_array = [isinstance(leaf, jax.Array) for leaf in results]
        others = [leaf for leaf, array in zip(results, is_array, strict=True) if not array]
        return [leaf for leaf, array in zip(results, is_array, strict=True) if array]

    def finish(outputs):
        arrays, rest = iter(outputs), iter(others)
        leaves = [next(arrays if array else rest) for array in is_array]
        return jax.tree.unflatten(result_structure, leaves)

    return jax.make_jaxpr(flat)(*arrays), arrays, finish


def _differ(one, other):
    return one is not other


class Plan:
    """Expected run time of the function that is planned."""

    seconds = PROGRAM_SECONDS


def plan(function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Print one row for each convolution and pooling of ``function(*args, **kwargs)``.

    The arguments are arrays or shapes (`jax.ShapeDtypeStruct`). The columns are the source line, the
    shapes, the share of the floating-point operations, whether it runs in a loop, the method that
    `accelerate` selects, and the measured problem that the selection is based on.
    """
    print("\n".join(plan_lines(function, *args, **kwargs)))


def plan_lines(function: Callable[..., Any], *args: Any, **kwargs: Any) -> list[str]:
    """Return the lines that `plan` prints."""
    plan, found = Plan(), []
    with _plan(plan):  # functions that are already accelerated are planned too
        jaxpr, _, _ = _trace(function, args, kwargs)
    rewrite(jaxpr, plan.seconds, found.append, _on_cpu())
    total = sum(map(_operations, found)) or 1
    rows = [("line", "operation", "result", "FLOPs", "loop", "method", "nearest measurement")]
    for each in found:
        method, measured = "XLA, unchanged", ""
        if each.problem is not None:
            # Inside of a call, JAX does not know whether the call is in a loop.
            method = choose(each.problem, bool(each.calls), plan.seconds, _on_cpu())
            measured = nearest_row(each.problem).label
        rows.append(
            (
                source_info_util.summarize(each.eqn.source_info).split("/")[-1],
                _describe(each.eqn),
                format_sizes(each.eqn.outvars[0].aval.shape),
                f"{100 * _operations(each) / total:.1f} %",
                "no" if LOOPS.isdisjoint(each.calls) else "yes",
                method,
                measured,
            )
        )
    lines = align(rows).splitlines()
    if not _replaces():
        lines.append(
            f"accelerate changes nothing on {jax.default_backend()}, only on a CPU or with a tuning table"
        )
    return lines


def _describe(eqn):
    shapes = " and ".join(format_sizes(atom.aval.shape) for atom in eqn.invars)
    return f"{eqn.primitive.name} of {shapes}"


def _operations(replacement):
    """Return the number of multiplications and additions, or of comparisons of a pooling."""
    eqn = replacement.eqn
    outputs = math.prod(eqn.outvars[0].aval.shape)
    if eqn.primitive.name != "conv_general_dilated":
        return outputs * math.prod(eqn.params["window_dimensions"])
    spec, kernel = eqn.params["dimension_numbers"].rhs_spec, eqn.invars[1].aval.shape
    stretch = math.prod(eqn.params["lhs_dilation"])
    return 2 * outputs * math.prod(kernel) // kernel[spec[0]] // stretch
