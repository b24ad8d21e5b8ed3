"""Bilinear maps as JAX primitives: derivatives, batching and lowering for convolutions.

With a weight y for each output, a convolution defines one number, the trilinear form
``sum(y * conv(x, w))``. If two of the arrays are fixed, it is linear in the third, and its coefficients
are again an array:

    role "y": conv(x, w), the convolution
    role "x": the gradient of the form in the images, from w and y
    role "w": the gradient of the form in the kernel, from x and y

Every transpose of one of these maps is another of them. So one primitive with a parameter ``out``
supports forward mode, reverse mode, `jax.linear_transpose` and derivatives of any order.

The primitive is opaque to JAX until it is lowered. So the platform of the lowering selects the method,
and a method may look at the values of its arguments and stay linear for JAX.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from fidle_jax.kernels.arrays import Array, same_varying
from fidle_jax.kernels.auto import RUN_SECONDS
from fidle_jax.kernels.geometry import ConvGeometry

ROLES = ("x", "w", "y")


class ConvSpec(NamedTuple):
    """A convolution without its arrays."""

    spatial: tuple[int, ...]  # shape of the images
    geometry: ConvGeometry
    groups: int
    method: str  # name of a method of `fidle_jax.kernels.methods`, or "auto"
    precision: Any = None  # for XLA's convolution only
    seconds: float = RUN_SECONDS  # see `fidle_jax.kernels.auto.choose`
    # Geometry of a max pooling that follows. Then y holds the convolution at the positions selected by an
    # extra integer argument, the argmax of each pool.
    pool: ConvGeometry | None = None


conv_p = Primitive("fidle_conv")


def bind(out: str, spec: ConvSpec, *arrays: Array) -> Array:
    """Compute the role ``out`` from the two others, in the order x, w, y, and from the argmax."""
    return conv_p.bind(*same_varying(*arrays), out=out, spec=spec)


def _inputs(out):
    return [role for role in ROLES if role != out]


def all_shapes(out: str, spec: ConvSpec, *inputs: Any) -> dict[str, tuple[Any, ...]]:
    """Return the shapes of all roles, given the arrays of the two other roles than ``out``."""
    shapes = {role: array.shape for role, array in zip(_inputs(out), inputs, strict=True)}
    if out == "x":
        shapes["x"] = (shapes["y"][0], *spec.spatial, shapes["w"][-2] * spec.groups)
    elif out == "w":
        shapes["w"] = (*spec.geometry.size, shapes["x"][-1] // spec.groups, shapes["y"][-1])
    else:
        shapes["y"] = (shapes["x"][0], *(spec.pool or spec.geometry).count, shapes["w"][-1])
    return shapes


def _abstract(*avals, out, spec):
    shape = all_shapes(out, spec, *avals[:2])[out]
    return avals[0].update(shape=shape, weak_type=False)


def tangent_of(y: Array, bind: Callable[..., Array], primals, tangents) -> Any:
    """Return the tangent of ``y``, where ``bind`` is bilinear in its first two arguments."""
    terms = []
    for index in range(2):
        if not isinstance(tangents[index], ad.Zero):
            arguments = list(primals)
            arguments[index] = tangents[index]
            terms.append(bind(*arguments))
    return functools.reduce(ad.add_jaxvals, terms) if terms else zero_tangent(y)


def zero_tangent(y: Array) -> ad.Zero:
    """Return a symbolic zero for the tangent of ``y``."""
    return ad.Zero(jax.typeof(y).to_tangent_aval())


def _jvp(primals, tangents, *, out, spec):
    compute = functools.partial(conv_p.bind, out=out, spec=spec)
    y = compute(*primals)
    return y, tangent_of(y, compute, primals, tangents)


def _transpose(cotangent, *arguments, out, spec):
    linear = next(i for i in range(2) if ad.is_undefined_primal(arguments[i]))
    roles = _inputs(out)
    if isinstance(cotangent, ad.Zero):
        result = ad.Zero(arguments[linear].aval)
    else:
        known = {out: cotangent, roles[1 - linear]: arguments[1 - linear]}
        ordered = [known[role] for role in ROLES if role in known]
        result = conv_p.bind(*ordered, *arguments[2:], out=roles[linear], spec=spec)
    return [result if i == linear else None for i in range(len(arguments))]


def _batch(arguments, axes, *, out, spec):
    """Fold a mapped axis into an axis of the convolution.

    Mapped x and y: into the batch. Mapped w and y: into the features. Mapped x and w: into the
    channels, which are summed. All three: into the groups.
    """
    roles = dict(zip((*_inputs(out), "argmax"), zip(arguments, axes, strict=False), strict=False))
    mapped = {role: axis is not None for role, (_, axis) in roles.items()}
    size = next(a.shape[axis] for a, axis in roles.values() if axis is not None)
    mapped[out] = True
    # The argmax has the shape of y, so both must be mapped if one of them is.
    for one, other in (("argmax", "y"), ("y", "argmax")):
        if spec.pool is not None and mapped[one] and not mapped[other]:
            array, _ = roles[other]
            roles[other], mapped[other] = (jnp.broadcast_to(array, (size, *array.shape)), 0), True
    targets = _fold_targets(mapped, spec.groups)
    folded = [
        _fold(jnp.moveaxis(array, axis, 0), *targets[role]) if mapped[role] else array
        for role, (array, axis) in roles.items()
    ]
    groups = size * spec.groups if all(mapped[role] for role in ROLES) else spec.groups
    result = conv_p.bind(*same_varying(*folded), out=out, spec=spec._replace(groups=groups))
    return _unfold(result, size, *targets[out]), 0


def _fold_targets(mapped, groups) -> dict[str, tuple[int, int | None]]:
    """Map each mapped role to the axis that its mapped axis is folded into, and to its groups."""
    if all(mapped[role] for role in ROLES):
        return dict.fromkeys((*ROLES, "argmax"), (-1, None))
    if not mapped["w"]:
        return dict.fromkeys(("x", "y", "argmax"), (0, None))
    if not mapped["x"]:
        return dict.fromkeys(("w", "y", "argmax"), (-1, groups))
    return {"x": (-1, groups), "w": (-2, None)}


def _fold(array, axis, groups):
    """Merge the leading axis of ``array`` into ``axis`` of the rest, within each group."""
    size, *shape = array.shape
    axis %= len(shape)
    before, length, after = shape[:axis], shape[axis], shape[axis + 1 :]
    if groups is not None:
        array = array.reshape(size, *before, groups, length // groups, *after)
        axis += 1
    return jnp.moveaxis(array, 0, axis).reshape(*before, size * length, *after)


def _unfold(array, size, axis, groups):
    """Undo `_fold`."""
    axis %= array.ndim
    before, length, after = array.shape[:axis], array.shape[axis] // size, array.shape[axis + 1 :]
    if groups is None:
        return jnp.moveaxis(array.reshape(*before, size, length, *after), axis, 0)
    split = array.reshape(*before, groups, size, length // groups, *after)
    return jnp.moveaxis(split, axis + 1, 0).reshape(size, *before, length, *after)


def evaluate(function: Callable, out: str, spec: ConvSpec, *arrays: Array) -> Array:
    """Compute a role from a function (x, w, *argmax) -> y by transposing it."""
    if out == "y":
        return function(*arrays)
    (other, y), argmax = arrays[:2], arrays[2:]
    shape = all_shapes(out, spec, other, y)[out]

    def linear(array):
        return function(*((array, other) if out == "x" else (other, array)), *argmax)

    return jax.linear_transpose(linear, jax.ShapeDtypeStruct(shape, y.dtype))(y)[0]


conv_p.def_abstract_eval(_abstract)
ad.primitive_jvps[conv_p] = _jvp
ad.primitive_transposes[conv_p] = _transpose
batching.primitive_batchers[conv_p] = _batch
