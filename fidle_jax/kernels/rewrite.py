"""Replacement of convolutions, poolings and random bits in a jaxpr by the methods of this package."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn, Var

from fidle_jax.kernels import pooling
from fidle_jax.kernels.arrays import Array
from fidle_jax.kernels.auto import Problem, choose, problem_of
from fidle_jax.kernels.bilinear import all_shapes
from fidle_jax.kernels.general import (
    ConvCall,
    conv_call,
    is_sharded_explicitly,
    transposed_geometry,
)
from fidle_jax.kernels.geometry import ConvGeometry, pad, resolve_geometry, shifted_slices
from fidle_jax.kernels.jaxprs import (
    AnyJaxpr,
    Program,
    contains,
    inline,
    map_inner,
    with_equations,
)
from fidle_jax.kernels.patterns import fuse_conv_pools
from fidle_jax.kernels.random import threefry_bits

CONV, MAX, SUM = "conv_general_dilated", "reduce_window_max", "reduce_window_sum"
SCATTER, GATHER, BITS = "select_and_scatter_add", "select_and_gather_add", "random_bits"
TARGETS = frozenset({CONV, MAX, SUM, SCATTER, GATHER, BITS})


class Replacement(NamedTuple):
    """An operation of the program and how it is computed now."""

    eqn: JaxprEqn
    problem: Problem | None  # None if XLA computes it as before
    calls: tuple[str, ...]  # names of the primitives around it, for example "scan"


def rewrite(
    jaxpr: AnyJaxpr,
    seconds: float,
    report: Callable[[Replacement], Any] = lambda _: None,
    is_cpu: bool = True,
) -> AnyJaxpr:
    """Return a jaxpr that computes the same, with faster operations.

    Args:
        jaxpr: Jaxpr, with or without constants.
        seconds: Expected run time; see `fidle_jax.kernels.auto.choose`.
        report: Function that is called with each operation.
        is_cpu: Replace operations for a CPU. On other devices, replace those that an active
            `fidle_jax.kernels.auto.Table` computes by another method than XLA's.
    """
    changed: dict[int, tuple[AnyJaxpr, AnyJaxpr]] = {}  # old and new one, by the id of the old one

    def change(jaxpr, calls=()):
        # The same jaxpr stays one object, because JAX lowers each only once.
        if not contains(jaxpr, TARGETS):
            return jaxpr
        if id(jaxpr) not in changed:
            changed[id(jaxpr)] = jaxpr, _change(jaxpr, calls)
        return changed[id(jaxpr)][1]

    def _change(jaxpr, calls):
        eqns, outvars = inline(jaxpr, TARGETS)
        eqns = [
            map_inner(eqn, functools.partial(change, calls=(*calls, eqn.primitive.name)))
            for eqn in eqns
        ]
        program = Program(eqns, outvars)
        convs = {
            i: conv
            for i, eqn in enumerate(program.eqns)
            if eqn.primitive.name == CONV and (conv := _conv_of(eqn, seconds))
        }
        if not is_cpu:
            convs = {
                i: conv
                for i, conv in convs.items()
                if choose(_conv_problem(program, i, conv), True, seconds, is_cpu) != "xla"
            }
        problems = fuse_conv_pools(program, convs) if is_cpu else {}
        problems |= _replace_pools(program, is_cpu)
        for i, eqn in enumerate(program.eqns):
            if i in convs and i not in problems:
                problems[i] = _replace_conv(program, i, convs[i])
            elif eqn.primitive.name == BITS and is_cpu:
                _replace_bits(program, i)
        for i, eqn in enumerate(program.eqns):
            if eqn.primitive.name in TARGETS - {BITS}:
                report(Replacement(eqn, problems.get(i), calls))
        return with_equations(jaxpr, *program.remaining())

    return change(jaxpr)


def _conv_of(eqn: JaxprEqn, seconds: float) -> ConvCall | None:
    lhs, rhs = eqn.invars
    return conv_call(lhs.aval, rhs.aval, eqn.outvars[0].aval, **eqn.params, seconds=seconds)


def _replace_conv(program: Program, index: int, call: ConvCall) -> Problem:
    eqn = program.eqns[index]
    program.replace(index, lambda lhs, rhs: [call.compute(lhs, rhs)], eqn.invars, eqn.outvars)
    return _conv_problem(program, index, call)


def _conv_problem(program: Program, index: int, call: ConvCall) -> Problem:
    eqn = program.eqns[index]
    inputs = jax.eval_shape(call.inputs, *(atom.aval for atom in eqn.invars))
    shapes = all_shapes(call.out, call.spec, *inputs)
    return problem_of("conv", shapes["x"], shapes["w"][-1], call.spec.geometry, call.spec.groups)


class Pool(NamedTuple):
    """The geometry of a pooling of `jax.lax`, whose windows may lie along any axes."""

    shape: tuple[int, ...]  # of the images
    geometry: ConvGeometry
    axes: tuple[int, ...]  # of the images in the order (batches, *spatial, channel)

    @property
    def images_shape(self) -> tuple[int, ...]:
        """Shape of the images as (batch, *spatial, channel)."""
        rank = len(self.geometry.size)
        *sides, channels = (self.shape[axis] for axis in self.axes)
        return (math.prod(sides[:-rank]), *sides[-rank:], channels)

    def images(self, array: Array) -> Array:
        """Return an array like the images or the result as (batch, *spatial, channel)."""
        array = array.transpose(self.axes)
        rank = len(self.geometry.size)
        *batches, channels = (*array.shape[: -rank - 1], array.shape[-1])
        return array.reshape(math.prod(batches), *array.shape[-rank - 1 : -1], channels)

    def restore(self, array: Array) -> Array:
        """Undo `images`."""
        rank = len(self.geometry.size)
        batches = [self.shape[axis] for axis in self.axes[: -rank - 1]]
        array = array.reshape(*batches, *array.shape[1:])
        return array.transpose(tuple(map(self.axes.index, range(array.ndim))))


def pool_of(aval: Any, params: dict[str, Any]) -> Pool | None:
    """Return the pooling of images of type ``aval``, or None if only `jax.lax` supports it."""
    window, strides, padding = (
        params[name] for name in ("window_dimensions", "window_strides", "padding")
    )
    spatial = [
        axis
        for axis, each in enumerate(zip(window, strides, padding, strict=True))
        if each != (1, 1, (0, 0))
    ]
    others = [axis for axis in range(len(window)) if axis not in spatial]
    dilations = *params.get("base_dilation", ()), *params.get("window_dilation", ())
    if (
        not spatial
        or not others
        or any(factor != 1 for factor in dilations)
        or not all(isinstance(size, int) and size > 0 for size in aval.shape)
        or any(max(padding[axis]) >= window[axis] for axis in spatial)
        or min(min(pair) for pair in padding) < 0
        or is_sharded_explicitly(aval)
        or not jnp.issubdtype(aval.dtype, jnp.floating)
    ):
        return None
    sizes = [aval.shape[axis] for axis in spatial]
    window, strides, padding = (
        [each[axis] for axis in spatial] for each in (window, strides, padding)
    )
    try:
        geometry = resolve_geometry(sizes, window, strides, padding)
    except ValueError:  # the window is larger than the image
        return None
    return Pool(aval.shape, geometry, (*others[:-1], *spatial, others[-1]))


def _replace_pools(program: Program, is_cpu: bool) -> dict[int, Problem]:
    problems: dict[int, Problem] = {}
    maxima: dict[tuple[Var, Pool], list[int]] = {}
    for i, eqn in enumerate(program.eqns):
        operand = eqn.invars[-1] if eqn.invars else None
        if i in program.replaced or not isinstance(operand, Var):
            continue
        if eqn.primitive.name == SUM:
            problems |= _replace_sum(program, i, is_cpu)
        elif eqn.primitive.name in (MAX, SCATTER, GATHER):
            pool = pool_of(operand.aval, eqn.params)
            # The gradient goes to the first of equal values.
            if pool and eqn.params.get("select_prim", lax.ge_p) is lax.ge_p:
                maxima.setdefault((operand, pool), []).append(i)
    for (operand, pool), indices in maxima.items():
        problem = _problem("max_pool", pool)
        if choose(problem, is_cpu=is_cpu) == "slices":
            problems |= dict.fromkeys(indices, problem)
            _replace_max(program, operand, pool, indices)
    return problems


def _replace_max(program, operand, pool, indices):
    """Replace max pooling and its derivatives, which share one argmax."""
    geometry = pool.geometry

    def result(name, largest, argmax, *linear):
        if name == MAX:
            return pool.restore(largest)
        values = pool.images(*linear)
        if name == GATHER:
            return pool.restore(pooling.take_in_windows(values, argmax, geometry))
        return pool.restore(pooling.put_in_windows(values, argmax, pool.images_shape, geometry))

    if all(program.eqns[i].primitive.name == MAX for i in indices):
        for i in indices:
            program.replace(
                i,
                lambda x: [pool.restore(pooling.max_pool(pool.images(x), geometry))],
                [operand],
                program.eqns[i].outvars,
            )
        return

    def compute_both(name, x, *linear):
        both = pooling.max_with_argmax(pool.images(x), geometry)
        return [result(name, *both, *linear), *both]

    shared: list[Var] = []
    for i in indices:
        eqn = program.eqns[i]
        name, linear = eqn.primitive.name, eqn.invars[:-1]
        if shared:
            compute = functools.partial(result, name)
            program.replace(i, lambda *a, f=compute: [f(*a)], [*shared, *linear], eqn.outvars)
        else:
            compute = functools.partial(compute_both, name)
            shared = program.replace(i, compute, [operand, *linear], eqn.outvars)


def _replace_sum(program, index, is_cpu):
    """Replace sums over windows, and their transposes, which have a base dilation."""
    eqn = program.eqns[index]
    (operand,), (output,), params = eqn.invars, eqn.outvars, dict(eqn.params)
    images = operand.aval
    spread = any(factor != 1 for factor in params["base_dilation"])
    if spread:
        transposed = _transposed_window(operand.aval, output.aval, params)
        if transposed is None:
            return {}
        images, params = output.aval, transposed
    pool = pool_of(images, params)
    if pool is None:
        return {}
    problem = _problem("avg_pool", pool)
    if choose(problem, is_cpu=is_cpu) != "slices":
        return {}

    def add_up(x):
        padded = pad(pool.images(x), pool.geometry.padding)
        return pool.restore(functools.reduce(jnp.add, shifted_slices(padded, pool.geometry)))

    def compute(x):
        return [pooling.transpose_linear(add_up, images.shape, x) if spread else add_up(x)]

    program.replace(index, compute, [operand], [output])
    return {index: problem}


def _transposed_window(count, images, params):
    """Return the parameters of the sum over windows of which this is the transpose, or None."""
    ones = (1,) * len(count.shape)
    if {*params["window_strides"], *params["window_dilation"]} != {1}:
        return None
    window, strides = params["window_dimensions"], params["base_dilation"]
    lows = [low for low, _ in params["padding"]]
    geometry = transposed_geometry(window, strides, ones, lows, count.shape, images.shape)
    if geometry is None:
        return None
    return {
        "window_dimensions": window,
        "window_strides": strides,
        "padding": geometry.padding,
    }


def _problem(kind: str, pool: Pool) -> Problem:
    channels = pool.images_shape[-1]
    return problem_of(kind, pool.images_shape, channels, pool.geometry, channels)


def _replace_bits(program: Program, index: int) -> None:
    """Replace random bits of threefry by the same bits, computed without a loop."""
    eqn = program.eqns[index]
    key: Any = eqn.invars[0]
    params = eqn.params
    threefry = jax.eval_shape(lambda: jax.random.key(0, impl="threefry2x32")).dtype
    if (
        key.aval.dtype == threefry
        and eqn.ctx.threefry_partitionable
        and params["bit_width"] <= 32
        and math.prod(params["shape"]) < 2**32
        and not is_sharded_explicitly(key.aval)
    ):
        compute = functools.partial(threefry_bits, shape=params["shape"], width=params["bit_width"])
        for _ in key.aval.shape:
            compute = jax.vmap(compute)
        program.replace(index, lambda key: [compute(key)], [key], eqn.outvars)
