"""Array types for annotations, the type of sums, and explicit sharding.

The kernels need only JAX. Without jaxtyping, the annotations say no more than `jax.Array`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, Key, Shaped, UInt32
else:
    try:
        from jaxtyping import Array, Bool, Float, Int, Key, Shaped, UInt32
    except ImportError:
        from jax import Array

        class Float:
            """Stand-in for jaxtyping's types: ``Float[Array, "axes"]`` is ``Array``."""

            def __class_getitem__(cls, item):
                return item[0]

        Bool = Int = Key = Shaped = UInt32 = Float

__all__ = ["Array", "Bool", "Float", "Int", "Key", "Shaped", "UInt32"]

AnyArray = Array | np.ndarray  # public functions also accept NumPy arrays
Images = Float[Array, "batch *spatial channel"]
Kernel = Float[Array, "*window channel_per_group feature"]
Output = Float[Array, "batch *count feature"]
Argmax = Int[Array, "batch *count feature"]  # index of the largest value of each pool
AnyImages = Shaped[Array, "batch *spatial channel"]  # also integers and bool
AnyOutput = Shaped[Array, "batch *count channel"]


def sum_dtype(dtype: jax.typing.DTypeLike) -> np.dtype:
    """Return the type that sums are computed in: float64 for float64, otherwise float32.

    `jax.numpy.promote_types` does not work with strict promotion.
    """
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def automatically_sharded(function: Callable[..., Array], x: Array, *others: Array) -> Array:
    """Call ``function(x, *others)``, with automatic axes if an argument is sharded explicitly.

    With explicit mesh axes every operation must say how its output is sharded. XLA's partitioner handles
    the kernels' reshapes and slices. The batch axis of the result is sharded like that of ``x``, its other
    axes are replicated.
    """
    types = [jax.typeof(array) for array in (x, *others)]
    explicit = [aval.sharding for aval in types if any(aval.sharding.spec)]
    if not explicit:
        return function(x, *others)
    spec = PartitionSpec(*types[0].sharding.spec[:1])
    sharding = NamedSharding(explicit[0].mesh, spec)
    automatic: Callable[..., Any] = jax.sharding.auto_axes(function, out_sharding=sharding)
    return automatic(x, *others)


def same_varying(*arrays: Array) -> list[Array]:
    """Cast arrays inside `jax.shard_map` so that they vary over the same axes, as JAX's operations do."""
    varying = [varying_axes(jax.typeof(array)) for array in arrays]
    every = frozenset().union(*varying)
    return [
        lax.pcast(array, tuple(sorted(every - own)), to="varying") if every - own else array
        for array, own in zip(arrays, varying, strict=True)
    ]


def varying_axes(aval: Any) -> frozenset[str]:
    """Return the mesh axes of `jax.shard_map` over which an array of this type varies."""
    axes = getattr(aval, "manual_axis_type", None)
    return getattr(aval, "vma", frozenset()) if axes is None else axes.varying
