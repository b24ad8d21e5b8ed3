"""Convolution and convolution with max pooling as JAX functions, by any method.

Max pooling after a convolution is not linear, but it is for a given argmax: the pooled value is the
convolution at that position. So a second primitive returns the pooled values and their argmax, and
its derivative is the bilinear primitive of `fidle_jax.kernels.bilinear`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from fidle_jax.kernels import bilinear, forward, simple_methods
from fidle_jax.kernels.arrays import Array, Images, Kernel, Output, same_varying, sum_dtype
from fidle_jax.kernels.auto import choose, problem_of
from fidle_jax.kernels.bilinear import ConvSpec, conv_p
from fidle_jax.kernels.geometry import ConvGeometry, shifted_slices
from fidle_jax.kernels.materialize import materialize
from fidle_jax.kernels.methods import OPAQUE, conv_methods, conv_pool_methods, find_method
from fidle_jax.kernels.pooling import argmax_dtype, max_and_argmax, take_in_windows
from fidle_jax.kernels.primitives import compile_eagerly, register_lowerings

# Sums of products of two numbers below this limit are far below the largest float32. In float16 the
# limit becomes infinity. That is correct, because its products are added in float32.
GUARD_LIMIT = 2.0**40


def convolve(
    x: Images,
    w: Kernel,
    spec: ConvSpec,
) -> Output:
    """Compute a convolution with validated arguments; see `find_method` for errors."""
    if spec.method != "auto":
        function = find_method(spec.method, spec.geometry).conv
        if spec.method == "xla":
            return simple_methods.xla(x, w, spec.geometry, spec.groups, spec.precision)
        if spec.method not in OPAQUE:
            return function(x, w, spec.geometry, spec.groups)
    return bilinear.bind("y", spec, x, w)


def convolve_and_pool(
    x: Images,
    w: Kernel,
    geometry: ConvGeometry,
    pool: ConvGeometry,
    method: str,
) -> Output:
    """Compute ``max_pool(conv(x, w))`` for one group by a method of `conv_pool_methods` or "auto"."""
    spec = ConvSpec(x.shape[1:-1], geometry, 1, method, pool=pool)
    return conv_max_p.bind(*same_varying(x, w), spec=spec)[0]


def _role(*arrays, out, spec, is_cpu=True, in_loop=True):
    """Compute a role of the trilinear form; see `fidle_jax.kernels.bilinear`."""
    shapes = bilinear.all_shapes(out, spec, *arrays[:2])
    if spec.pool is not None:
        pooled, safe = _select_pool(spec, shapes["x"], shapes["w"], is_cpu, in_loop)
        by_pooled, by_safe = (
            functools.partial(_transposed_in_wide, each, out, spec) for each in (pooled, safe)
        )
        return by_pooled(*arrays) if safe is None else guarded(by_pooled, by_safe, *arrays)
    name = _select(spec, shapes["x"], shapes["w"], is_cpu, in_loop)
    fast = functools.partial(_by_method, name, out, spec)
    if conv_methods()[name].exact:
        return fast(*arrays)
    return guarded(fast, functools.partial(_by_method, "forward", out, spec), *arrays)


def _by_method(name, out, spec, *arrays):
    """Compute a role by a method, as a convolution if possible."""
    method, geometry, groups = conv_methods()[name], spec.geometry, spec.groups
    if name == "xla":
        conv = functools.partial(
            method.conv, geometry=geometry, groups=groups, precision=spec.precision
        )
        return bilinear.evaluate(conv, out, spec, *arrays)
    if out == "x" and method.image_gradient and forward.has_image_gradient(geometry):
        return method.image_gradient(*arrays, geometry, groups, spec.spatial)
    if out == "w" and method.kernel_gradient and groups == 1:
        return method.kernel_gradient(*arrays, geometry)
    function = method.conv if out == "y" else method.transposed or method.conv
    function = functools.partial(function, geometry=geometry, groups=groups)
    return _transposed_in_wide(function, out, spec, *arrays)


def _transposed_in_wide(function, out, spec, *arrays):
    """Compute a gradient in float32 or wider, because a transpose adds up overlapping windows."""
    if out == "y":
        return function(*arrays)
    wide, dtype = sum_dtype(arrays[0].dtype), arrays[0].dtype
    one, other, *argmax = arrays
    result = bilinear.evaluate(function, out, spec, one.astype(wide), other.astype(wide), *argmax)
    return result.astype(dtype)


def _max(x, w, *, spec, is_cpu=True, in_loop=True):
    """Return the pooled values and their argmax."""
    fast, safe = _select_pool(spec, x.shape, w.shape, is_cpu, in_loop)
    return fast(x, w) if safe is None else guarded(fast, safe, x, w)


def _select(spec, x_shape, w_shape, is_cpu, in_loop):
    """Return the name of the method of the convolution."""
    if spec.method != "auto":
        return spec.method
    problem = problem_of("conv", x_shape, w_shape[-1], spec.geometry, spec.groups)
    return choose(problem, in_loop, spec.seconds, is_cpu)


def _select_pool(spec, x_shape, w_shape, is_cpu, in_loop):
    """Return a function (x, w, *argmax), and an exact one for its guard if it needs that."""
    name = spec.method
    if name == "auto" and spec.groups == 1:
        problem = problem_of("conv_pool", x_shape, w_shape[-1], spec.geometry, 1, spec.pool)
        name = choose(problem, in_loop, spec.seconds, is_cpu)
    if name not in conv_pool_methods() or spec.groups > 1:
        return functools.partial(_separate, spec=spec), None
    conv_pool = conv_pool_methods()[name].conv_pool
    fast = functools.partial(conv_pool, geometry=spec.geometry, pool=spec.pool)
    exact = functools.partial(_separate, spec=spec._replace(method="forward"))

    def one_by_one(x, w, *argmax):
        return _map(lambda x, *argmax: exact(x, w, *argmax), x, *argmax)

    return fast, one_by_one


def _separate(x, w, argmax=None, *, spec):
    """Compute the convolution, then the pooling."""
    method = spec.method if spec.method in OPAQUE else "auto"
    y = bilinear.bind("y", spec._replace(pool=None, method=method), x, w)
    if argmax is not None:
        return take_in_windows(materialize(y), argmax, spec.pool)
    return tuple(max_and_argmax(jnp.stack(shifted_slices(y, spec.pool), axis=-2)))


def guarded(fast: Callable, safe: Callable, *arrays: Array):
    """Return ``fast(*arrays)``, or ``safe(*arrays)`` if numbers are not of ordinary size.

    Winograd's method and the fused methods multiply values outside of a window by zero, or add and
    subtract them. For infinities (0 * inf is NaN) and for numbers so large that a sum overflows, outputs
    become infinite or NaN that are finite by definition. The guard looks for such numbers in the floating
    arguments or in the result, whichever is smaller.
    """
    results, structure = jax.tree.flatten(fast(*arrays))
    floats = [array for array in arrays if jnp.issubdtype(array.dtype, jnp.floating)]
    if results[0].size <= sum(array.size for array in floats):
        ordinary = _all_below(results[:1], jnp.inf)
    else:
        ordinary = _all_below(floats, GUARD_LIMIT)

    def repair(carry):
        return False, *jax.tree.leaves(safe(*arrays))

    # A loop of at most one pass, because XLA copies the results of a conditional but not of a loop.
    carry = lax.while_loop(lambda carry: carry[0], repair, (~ordinary, *results))
    return jax.tree.unflatten(structure, carry[1:])


def _all_below(arrays, limit):
    """Compare absolute values by their bits. XLA vectorizes maxima of integers, but not of floats."""
    result = jnp.array(True)
    for array in arrays:
        unsigned = jnp.dtype(f"uint{8 * array.dtype.itemsize}")
        bound = lax.bitcast_convert_type(jnp.array(limit, array.dtype), unsigned)
        without_sign = jnp.array(jnp.iinfo(unsigned).max >> 1, unsigned)
        magnitude = lax.bitcast_convert_type(array, unsigned) & without_sign
        result &= jnp.max(magnitude, initial=0) < bound
    return result


def _map(function, *arrays):
    """Apply a function of a batch to one example after the other, to save temporary memory.

    XLA reserves the memory of the guard's second method in every step, which slows the first one.
    """
    if not isinstance(arrays[0].shape[0], int):
        return function(*arrays)  # a symbolic batch size

    def one(example):
        return jax.tree.map(lambda y: y[0], function(*(array[None] for array in example)))

    return lax.map(one, arrays)


conv_max_p = Primitive("fidle_conv_max")
conv_max_p.multiple_results = True


def _max_abstract(x, w, *, spec):
    shape = (x.shape[0], *spec.pool.count, w.shape[-1])
    integer = jnp.dtype(argmax_dtype(math.prod(spec.pool.size)))
    return [
        x.update(shape=shape, weak_type=False),
        x.update(shape=shape, dtype=integer, weak_type=False),
    ]


def _max_jvp(primals, tangents, *, spec):
    y, argmax = conv_max_p.bind(*primals, spec=spec)
    compute = functools.partial(conv_p.bind, out="y", spec=spec)
    tangent = bilinear.tangent_of(y, compute, (*primals, argmax), tangents)
    return [y, argmax], [tangent, bilinear.zero_tangent(argmax)]


def _max_batch(arguments, axes, *, spec):
    """Fold a mapped axis of x into the batch; a mapped w becomes a convolution and a pooling."""
    (x, w), (x_axis, w_axis) = arguments, axes
    if w_axis is None:
        x = jnp.moveaxis(x, x_axis, 0)
        folded = x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])
        results = conv_max_p.bind(*same_varying(folded, w), spec=spec)
        return [y.reshape(x.shape[0], x.shape[1], *y.shape[1:]) for y in results], [0, 0]

    def separate(x, w):
        stopped = jax.tree.map(lax.stop_gradient, (x, w))
        argmax = _separate(*stopped, spec=spec)[1]
        return _separate(x, w, argmax, spec=spec), argmax  # max_and_argmax is not differentiable

    return jax.vmap(separate, in_axes=tuple(axes))(x, w), [0, 0]


conv_max_p.def_abstract_eval(_max_abstract)
ad.primitive_jvps[conv_max_p] = _max_jvp
batching.primitive_batchers[conv_max_p] = _max_batch
for primitive, function in ((conv_p, _role), (conv_max_p, _max)):
    compile_eagerly(primitive, function)
    register_lowerings(primitive, function)
