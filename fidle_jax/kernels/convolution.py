"""Convolution and convolution with max pooling as JAX functions, by any method.

Max pooling after a convolution is not linear, but it is once the winners are known: the pooled value
is the convolution at the winner's position. So a second primitive returns the pooled values and the
winners, and its derivative is the bilinear primitive of `fidle_jax.kernels.bilinear`.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from fidle_jax.kernels import im2col, xla
from fidle_jax.kernels.arrays import Array, Float
from fidle_jax.kernels.bilinear import (
    Conv,
    as_lowering,
    bind,
    compile_eagerly,
    conv_p,
    evaluate,
    same_varying,
)
from fidle_jax.kernels.choice import choose_conv, choose_conv_pool
from fidle_jax.kernels.guard import guarded
from fidle_jax.kernels.materialize import materialize
from fidle_jax.kernels.methods import OPAQUE, conv_methods, conv_pool_methods, find_method
from fidle_jax.kernels.pooling import at_winner_of_window, max_and_winner, winner_dtype
from fidle_jax.kernels.windows import Windows, shifted_slices


def convolve(
    x: Float[Array, "batch *spatial channel"],
    w: Float[Array, "*window channel_per_group feature"],
    windows: Windows,
    groups: int,
    method: str,
    precision: Any = None,
) -> Float[Array, "batch *count feature"]:
    """Compute a convolution with validated arguments by a named method or "auto".

    Raises:
        ValueError: The method is unknown or does not support the windows.
    """
    if method != "auto":
        function = find_method(method, windows).conv
        if method not in OPAQUE:
            more = {"precision": precision} if method == "xla" else {}
            return function(x, w, **_arguments(windows, groups), **more)
    conv = Conv(x.shape[1:-1], windows, groups, method, precision)
    return bind("y", conv, x, w)


def _arguments(windows, groups):
    return {
        "strides": windows.strides,
        "padding": windows.padding,
        "dilation": windows.dilation,
        "groups": groups,
    }


def convolve_and_pool(
    x: Float[Array, "batch *spatial channel"],
    w: Float[Array, "*window channel feature"],
    windows: Windows,
    pool: Windows,
    method: str,
) -> Float[Array, "batch *pooled feature"]:
    """Compute ``max_pool(conv(x, w))`` for one group by a method of `conv_pool_methods` or "auto"."""
    conv = Conv(x.shape[1:-1], windows, 1, method, pool=pool)
    return conv_max_p.bind(*same_varying(x, w), conv=conv)[0]


def _role(*arrays, out, conv, is_cpu):
    """Compute a role of the trilinear form; see `fidle_jax.kernels.bilinear`."""
    if conv.pool is not None:
        return _pooled_role(*arrays, out=out, conv=conv, is_cpu=is_cpu)
    x_shape, w_shape = _shapes(out, conv, arrays)
    name = conv.method
    if name == "auto":
        name = choose_conv(x_shape, w_shape, conv.windows, conv.groups) if is_cpu else "xla"
    method = conv_methods()[name]
    arguments = _arguments(conv.windows, conv.groups)

    def by(function, **more):
        call = functools.partial(function, **arguments, **more)
        return lambda *arrays: evaluate(call, out, conv, *arrays)

    if name == "xla":
        return by(xla.conv, precision=conv.precision)(*arrays)
    if method.exact:
        return by(method.conv)(*arrays)

    def one_by_one(x, w):
        return _map(lambda x: im2col.conv(x, w, **arguments), x)

    def safe(*arrays):
        return evaluate(one_by_one, out, conv, *arrays)

    return guarded(by(method.conv), safe, *arrays)


def _shapes(out, conv, arrays):
    """Return the shapes of x and w."""
    first, second = (array.shape for array in arrays[:2])
    if out == "y":
        return first, second
    features = second[-1]
    channels = first[-1] if out == "w" else first[-2] * conv.groups
    batch = first[0] if out == "w" else second[0]
    return (
        (batch, *conv.spatial, channels),
        (*conv.windows.size, channels // conv.groups, features),
    )


def _pool_method(conv, x_shape, w_shape, is_cpu):
    """Return the function of a fused method, or None for a convolution followed by a pooling."""
    name = conv.method
    if name == "auto" and is_cpu and conv.groups == 1:
        name = choose_conv_pool(x_shape, w_shape, conv.windows, conv.pool, conv.groups)
    if name not in conv_pool_methods() or conv.groups > 1:
        return None
    call = conv_pool_methods()[name].conv_pool
    return functools.partial(call, windows=conv.windows, pool=conv.pool)


def _apart(x, w, winner=None, *, conv):
    """Compute the convolution, then the pooling."""
    method = conv.method if conv.method in OPAQUE else "auto"
    y = bind("y", conv._replace(pool=None, method=method), x, w)
    if winner is not None:
        return at_winner_of_window(materialize(y), winner, conv.pool)
    return max_and_winner(jnp.stack(shifted_slices(y, conv.pool), axis=-2))


def _pooled_role(*arrays, out, conv, is_cpu):
    apart = functools.partial(_apart, conv=conv)
    fast = _pool_method(conv, *_shapes(out, conv, arrays), is_cpu)

    def by(function):
        def call(x, w, winner):
            return function(x, w, winner=winner)

        return lambda *arrays: evaluate(call, out, conv, *arrays)

    if fast is None:
        return by(apart)(*arrays)

    def one_by_one(x, w, winner):
        return _map(lambda x, winner: _apart(x, w, winner, conv=_exact(conv)), x, winner)

    return guarded(by(fast), by(one_by_one), *arrays)


def _exact(conv):
    """Replace the method by one that is exact for all numbers."""
    return conv._replace(method="im2col")


def _map(function, *arrays):
    """Apply a function of a batch to one example after the other.

    This keeps the temporary memory of the guard's second method small. XLA reserves memory for it in
    every step, and the first method is a quarter slower with a larger one.
    """
    if not isinstance(arrays[0].shape[0], int):
        return function(*arrays)  # a symbolic batch size

    def one(example):
        return jax.tree.map(lambda y: y[0], function(*(array[None] for array in example)))

    return lax.map(one, arrays)


def _max(x, w, *, conv, is_cpu):
    """Return the pooled values and the winners."""
    fast = _pool_method(conv, x.shape, w.shape, is_cpu)
    if fast is None:
        return _apart(x, w, conv=conv)

    def one_by_one(x, w):
        return _map(lambda x: tuple(_apart(x, w, conv=_exact(conv))), x)

    return guarded(fast, one_by_one, x, w)


conv_max_p = Primitive("fidle_conv_max")
conv_max_p.multiple_results = True


def _max_abstract(x, w, *, conv):
    shape = (x.shape[0], *conv.pool.count, w.shape[-1])
    options = functools.reduce(lambda a, b: a * b, conv.pool.size, 1)
    return [
        x.update(shape=shape, weak_type=False),
        x.update(shape=shape, dtype=jnp.dtype(winner_dtype(options)), weak_type=False),
    ]


def _max_jvp(primals, tangents, *, conv):
    y, winner = conv_max_p.bind(*primals, conv=conv)
    terms = []
    for place in range(2):
        if not isinstance(tangents[place], ad.Zero):
            arguments = list(primals)
            arguments[place] = tangents[place]
            terms.append(conv_p.bind(*arguments, winner, out="y", conv=conv))
    no_tangent = ad.Zero(jax.typeof(winner).to_tangent_aval())
    if not terms:
        return [y, winner], [ad.Zero(jax.typeof(y).to_tangent_aval()), no_tangent]
    return [y, winner], [functools.reduce(ad.add_jaxvals, terms), no_tangent]


def _max_batch(arguments, axes, *, conv):
    """Fold a mapped axis of x into the batch; a mapped w becomes a convolution and a pooling."""
    (x, w), (x_axis, w_axis) = arguments, axes
    if w_axis is None:
        x = jnp.moveaxis(x, x_axis, 0)
        folded = x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])
        results = conv_max_p.bind(*same_varying(folded, w), conv=conv)
        return [y.reshape(x.shape[0], x.shape[1], *y.shape[1:]) for y in results], [0, 0]

    def apart(x, w):
        stopped = jax.tree.map(lax.stop_gradient, (x, w))
        winner = _apart(*stopped, conv=conv)[1]
        return _apart(x, w, winner, conv=conv), winner  # differentiable, unlike max_and_winner

    return jax.vmap(apart, in_axes=tuple(axes))(x, w), [0, 0]


for primitive, function in ((conv_p, _role), (conv_max_p, _max)):
    multiple = primitive.multiple_results
    on_cpu = functools.partial(function, is_cpu=True)
    elsewhere = functools.partial(function, is_cpu=False)
    compile_eagerly(primitive, on_cpu)
    mlir.register_lowering(primitive, as_lowering(elsewhere, multiple))
    mlir.register_lowering(primitive, as_lowering(on_cpu, multiple), platform="cpu")
conv_max_p.def_abstract_eval(_max_abstract)
ad.primitive_jvps[conv_max_p] = _max_jvp
batching.primitive_batchers[conv_max_p] = _max_batch
