"""A barrier against XLA's loop fusion on a CPU, and elementwise work in long rows.

XLA fuses elementwise work (for example dropout with its random bits) into every slice that reads it, and
so repeats it for each patch that contains a value. XLA removes `jax.lax.optimization_barrier` before
fusion, but it does not fuse a conditional. So the barrier is a conditional whose two branches return the
same bits. On other platforms it is the identity. For JAX it is a linear primitive.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from fidle_jax.kernels.arrays import Array, Float, sum_dtype

materialize_p = Primitive("materialize")

# Limit for the values of a row in `add_bias`. The bias's gradient is a sum over the rows, which is
# slow for longer ones.
LONGEST_ROW = 2**14


def materialize(x: Float[Array, "..."], *, rows: bool = False) -> Float[Array, "..."]:
    """Return ``x``, computed once and written to memory; its cotangent is materialized too.

    Args:
        x: Array of any shape.
        rows: Compute ``x`` as a matrix with one row per example, because XLA's elementwise loops over a
            last axis of a few channels take two to three times as long. The cotangent, usually a sum of
            padded slices, is fastest in its own shape.
    """
    return materialize_p.bind(x, rows=rows)


def as_rows(x: Float[Array, "batch ..."]) -> Float[Array, "batch value"]:
    """Reshape ``x`` to one row per example."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


def add_bias(
    y: Float[Array, "batch *spatial feature"], b: Float[Array, " feature"], relu: bool
) -> Float[Array, "batch *spatial feature"]:
    """Return ``relu(y + b)``, or ``y + b``. Short examples are computed as rows.

    The gradient in ``b`` is summed in float32 or wider.
    """
    shape, dtype, wide = y.shape, y.dtype, sum_dtype(y.dtype)
    y, b = y.astype(wide), b.astype(wide)
    if y.size and math.prod(shape[1:]) <= LONGEST_ROW:
        y, b = as_rows(y), materialize(jnp.tile(b, math.prod(shape[1:-1])))
    y = (y + lax.broadcast_in_dim(b, y.shape, (y.ndim - 1,))).astype(dtype)
    return (jax.nn.relu(y) if relu else y).reshape(shape)


def _batch(arguments, axes, *, rows):
    (x,), (axis,) = arguments, axes
    return materialize_p.bind(jnp.moveaxis(x, axis, 0), rows=rows), 0


def _on_cpu(x, *, rows):
    if x.size == 0:
        return x
    values = as_rows(x) if rows and x.ndim > 2 else x
    first = lax.slice(values, (0,) * values.ndim, (1,) * values.ndim).reshape(())
    # Only a NaN selects the second branch. It also returns the values, because its predicate is False.
    values = lax.cond(
        first == first, lambda x, _: x, lambda x, p: jnp.where(p, 0, x), values, first == first
    )
    return values.reshape(x.shape)


materialize_p.def_impl(lambda x, *, rows: x)
materialize_p.def_abstract_eval(lambda x, *, rows: x)
ad.deflinear2(
    materialize_p, lambda cotangent, x, *, rows: [materialize_p.bind(cotangent, rows=False)]
)
batching.primitive_batchers[materialize_p] = _batch
mlir.register_lowering(materialize_p, lambda ctx, x, *, rows: [x])
mlir.register_lowering(
    materialize_p, mlir.lower_fun(_on_cpu, multiple_results=False), platform="cpu"
)
