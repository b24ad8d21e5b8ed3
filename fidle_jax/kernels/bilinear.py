"""Bilinear maps as JAX primitives: derivatives, batching and lowering for convolutions.

A convolution is linear in the images x and in the kernel w. With a weight y for each output it
defines one number, the trilinear form ``sum(y * conv(x, w))``. Fixing two of the three arrays leaves
a linear function of the third, whose coefficients are again an array:

    role "y": conv(x, w), the convolution
    role "x": the gradient of the form in the images, from w and y
    role "w": the gradient of the form in the kernel, from x and y

Every transpose of one of these maps is another of them. So one primitive with a parameter ``out``
supports forward mode, reverse mode, `jax.linear_transpose` and derivatives of any order.

The primitive is opaque to JAX until it is lowered. That has three uses: the method is selected by
the platform of the lowering, not by the default backend; a method may look at the values of its
arguments (`fidle_jax.kernels.guard`) and stay linear for JAX; and a layer traces to one equation.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from fidle_jax.kernels.arrays import Array
from fidle_jax.kernels.windows import Windows

ROLES = ("x", "w", "y")


class Conv(NamedTuple):
    """A convolution without its arrays.

    Attributes:
        spatial: Spatial shape of the images.
        windows: Geometry of the windows.
        groups: Number of groups of channels.
        method: Name of a method of `fidle_jax.kernels.methods`, or "auto".
        precision: Precision for XLA's convolution; the other methods ignore it.
        pool: Geometry of a max pooling that follows, or None. Then y holds the convolution at the
            positions selected by an extra integer argument, the index of the winner in each pool.
    """

    spatial: tuple[int, ...]
    windows: Windows
    groups: int
    method: str
    precision: Any = None
    pool: Windows | None = None

    @property
    def count(self) -> tuple[int, ...]:
        """Spatial shape of the output."""
        return self.windows.count if self.pool is None else self.pool.count


def same_varying(*arrays: Array) -> list[Array]:
    """Cast arrays inside `jax.shard_map` so that they vary over the same mesh axes.

    JAX's own operations do this implicitly; a primitive of one's own has to ask for it.
    """
    varying = [_varying(array) for array in arrays]
    every = frozenset().union(*varying)
    return [
        lax.pcast(array, tuple(sorted(every - own)), to="varying") if every - own else array
        for array, own in zip(arrays, varying, strict=True)
    ]


def _varying(array):
    aval = jax.typeof(array)
    axes = getattr(aval, "manual_axis_type", None)
    return getattr(aval, "vma", frozenset()) if axes is None else axes.varying


conv_p = Primitive("fidle_conv")


def bind(out: str, conv: Conv, *arrays: Array) -> Array:
    """Compute one role of the trilinear form from the two others.

    Args:
        out: Role to compute: "x", "w" or "y".
        conv: The convolution.
        *arrays: The two other roles in the order x, w, y; and with a pooling, the winners.
    """
    return conv_p.bind(*same_varying(*arrays), out=out, conv=conv)


def _inputs(out):
    return [role for role in ROLES if role != out]


def _shape(role, conv, known):
    """Return the shape of ``role``, given the shapes of the two others."""
    size = conv.windows.size
    if role == "x":
        return (known["y"][0], *conv.spatial, known["w"][-2] * conv.groups)
    if role == "w":
        return (*size, known["x"][-1] // conv.groups, known["y"][-1])
    return (known["x"][0], *conv.count, known["w"][-1])


def _abstract(*avals, out, conv):
    shapes = {role: aval.shape for role, aval in zip(_inputs(out), avals[:2], strict=True)}
    return avals[0].update(shape=_shape(out, conv, shapes), weak_type=False)


def _jvp(primals, tangents, *, out, conv):
    y = conv_p.bind(*primals, out=out, conv=conv)
    terms = []
    for place in range(2):
        if not isinstance(tangents[place], ad.Zero):
            arguments = list(primals)
            arguments[place] = tangents[place]
            terms.append(conv_p.bind(*arguments, out=out, conv=conv))
    if not terms:
        return y, ad.Zero(jax.typeof(y).to_tangent_aval())
    return y, functools.reduce(ad.add_jaxvals, terms)


def _transpose(cotangent, *arguments, out, conv):
    linear = next(i for i in range(2) if ad.is_undefined_primal(arguments[i]))
    roles = _inputs(out)
    if isinstance(cotangent, ad.Zero):
        result = ad.Zero(arguments[linear].aval)
    else:
        known = {out: cotangent, roles[1 - linear]: arguments[1 - linear]}
        ordered = [known[role] for role in ROLES if role in known]
        result = conv_p.bind(*ordered, *arguments[2:], out=roles[linear], conv=conv)
    return [result if i == linear else None for i in range(len(arguments))]


def _batch(arguments, axes, *, out, conv):
    """Fold a mapped axis into an axis of the convolution.

    Mapped x and y: into the batch. Mapped w and y: into the features. Mapped x and w: into the
    channels, which are summed. All three: into the groups.
    """
    roles = dict(zip((*_inputs(out), "winner"), zip(arguments, axes, strict=False), strict=False))
    mapped = {role: axis is not None for role, (_, axis) in roles.items()}
    size = next(a.shape[axis] for a, axis in roles.values() if axis is not None)
    mapped[out] = True
    if mapped.get("winner") and not mapped["y"]:  # of y's shape, so mapped alike
        y, _ = roles["y"]
        roles["y"], mapped["y"] = (jnp.broadcast_to(y, (size, *y.shape)), 0), True
    if mapped["y"] and conv.pool is not None and not mapped["winner"]:
        winner, _ = roles["winner"]
        roles["winner"], mapped["winner"] = (
            (jnp.broadcast_to(winner, (size, *winner.shape)), 0),
            True,
        )
    where = _fold_into(mapped, conv.groups)
    folded = [
        _fold(jnp.moveaxis(array, axis, 0), where[role], conv.groups) if mapped[role] else array
        for role, (array, axis) in roles.items()
    ]
    groups = size * conv.groups if all(mapped[role] for role in ROLES) else conv.groups
    result = conv_p.bind(*same_varying(*folded), out=out, conv=conv._replace(groups=groups))
    return _unfold(result, where[out], conv.groups, size), 0


def _fold_into(mapped, groups):
    """Map each mapped role to the kind of axis that its mapped axis is folded into."""
    if all(mapped[role] for role in ROLES):
        return {"x": "group", "w": "group_features", "y": "group", "winner": "group"}
    if not mapped["w"]:
        return {"x": "batch", "y": "batch", "winner": "batch"}
    if not mapped["x"]:
        return {"w": "features", "y": "features", "winner": "features"}
    return {"x": "features", "w": "channels"}


def _fold(array, into, groups):
    """Merge the leading axis of ``array`` into another axis. Groups stay outermost in an axis."""
    size = array.shape[0]
    if into == "batch":
        return array.reshape(size * array.shape[1], *array.shape[2:])
    if into == "channels":
        moved = jnp.moveaxis(array, 0, -3)
        return moved.reshape(*moved.shape[:-3], size * moved.shape[-2], moved.shape[-1])
    if into == "features":  # (size, ..., groups, rest) -> (..., groups, size, rest)
        split = array.reshape(*array.shape[:-1], groups, array.shape[-1] // groups)
        moved = jnp.moveaxis(split, 0, -2)
        return moved.reshape(*moved.shape[:-3], math.prod(moved.shape[-3:]))
    moved = jnp.moveaxis(array, 0, -2)  # "group", "group_features": (..., size, last)
    return moved.reshape(*moved.shape[:-2], size * moved.shape[-1])


def _unfold(array, into, groups, size):
    """Undo `_fold` and return the mapped axis in front."""
    if into == "batch":
        return array.reshape(size, array.shape[0] // size, *array.shape[1:])
    last = array.shape[-1]
    if into == "channels":
        shape = (*array.shape[:-2], size, array.shape[-2] // size, last)
        return jnp.moveaxis(array.reshape(shape), -3, 0)
    if into == "features":
        split = array.reshape(*array.shape[:-1], groups, size, last // (groups * size))
        moved = jnp.moveaxis(split, -2, 0)
        return moved.reshape(*moved.shape[:-2], last // size)
    return jnp.moveaxis(array.reshape(*array.shape[:-1], size, last // size), -2, 0)


def evaluate(function: Callable, out: str, conv: Conv, *arrays: Array) -> Array:
    """Compute a role from a function (x, w, *winners) -> y by transposing it."""
    if out == "y":
        return function(*arrays)
    known = dict(zip(_inputs(out), arrays[:2], strict=True))
    shape = _shape(out, conv, {role: array.shape for role, array in known.items()})
    unknown = jax.ShapeDtypeStruct(shape, arrays[0].dtype)
    if out == "x":
        transpose = jax.linear_transpose(lambda x: function(x, known["w"], *arrays[2:]), unknown)
    else:
        transpose = jax.linear_transpose(lambda w: function(known["x"], w, *arrays[2:]), unknown)
    return transpose(known["y"])[0]


def as_lowering(function: Callable, multiple_results: bool = False) -> Callable:
    """Make a lowering rule from a function of arrays.

    The function is traced with plain types: no sharding, no varying mesh axes, JAX's default
    promotion rules. Its result is what the primitive computes on each shard.
    """

    def traced(*arrays, **params):
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            return function(*arrays, **params)

    lower = mlir.lower_fun(traced, multiple_results=multiple_results)

    def rule(ctx, *arrays, **params):
        avals = [ShapedArray(aval.shape, aval.dtype) for aval in ctx.avals_in]
        return lower(ctx.replace(avals_in=avals), *arrays, **params)

    return rule


def compile_eagerly(primitive: Primitive, evaluate_plainly: Callable) -> None:
    """Make calls outside of `jax.jit` compile once per shape, and follow `jax.disable_jit`."""

    @functools.cache
    def compiled(params):
        return jax.jit(functools.partial(primitive.bind, **dict(params)))

    def implement(*arrays, **params):
        if jax.config.jax_disable_jit:
            return evaluate_plainly(*arrays, **params)
        return compiled(tuple(params.items()))(*arrays)

    primitive.def_impl(implement)


conv_p.def_abstract_eval(_abstract)
ad.primitive_jvps[conv_p] = _jvp
ad.primitive_transposes[conv_p] = _transpose
batching.primitive_batchers[conv_p] = _batch
