"""Lowering and eager evaluation of JAX primitives that are computed by a function of arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import mlir


def register_lowerings(primitive: Primitive, function: Callable) -> None:
    """Make a primitive compute a function of the arrays of one shard.

    The function is traced without sharding and with JAX's default promotion rules. It has two arguments
    more than the primitive: ``is_cpu``, and ``in_loop``, which is False only if the operation certainly
    runs once per call from Python. JAX lowers each operation only once for the same arguments, also if
    one is in a loop. So a second primitive, which has these arguments as parameters, is lowered.
    """
    multiple = primitive.multiple_results
    inner = Primitive(f"{primitive.name}_lowered")
    inner.multiple_results = multiple

    @inner.def_abstract_eval
    def _(*avals, in_loop, **params):
        results = primitive.abstract_eval(*avals, **params)[0]
        return results

    def traced(*arrays, **params):
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            return function(*arrays, **params)

    for is_cpu, platform in ((False, None), (True, "cpu")):
        compute = functools.partial(traced, is_cpu=is_cpu)
        lowering = mlir.lower_fun(compute, multiple_results=multiple)
        mlir.register_lowering(inner, lowering, platform=platform)

    delegate = mlir.lower_fun(inner.bind, multiple_results=multiple)

    def rule(ctx, *arrays, **params):
        avals = [ShapedArray(aval.shape, aval.dtype) for aval in ctx.avals_in]
        return delegate(ctx.replace(avals_in=avals), *arrays, **params, in_loop=_in_loop())

    mlir.register_lowering(primitive, rule, cacheable=False)


def _in_loop():
    """Return False if the current operation of the program is in its main function, not in a loop."""
    try:
        operation = mlir.ir.InsertionPoint.current.block.owner.operation
        name = operation.attributes["sym_name"] if operation.name == "func.func" else None
    except (KeyError, ValueError):
        return True
    return name is None or mlir.ir.StringAttr(name).value != "main"


def compile_eagerly(primitive: Primitive, function: Callable) -> None:
    """Make calls outside of `jax.jit` compile once per shape, and follow `jax.disable_jit`."""

    @functools.cache
    def compiled(params):
        return jax.jit(functools.partial(primitive.bind, **dict(params)))

    def implement(*arrays, **params):
        if jax.config.jax_disable_jit:
            return function(*arrays, **params)
        return compiled(tuple(params.items()))(*arrays)

    primitive.def_impl(implement)
