"""Arrays that are sharded over explicit mesh axes.

With explicit axes (the default of `jax.make_mesh`) every operation must say how its output is
sharded. The kernels consist of reshapes and slices, for which XLA's partitioner does that. So they
run with automatic axes and return an output whose batch axis is sharded like the images'.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from fidle_jax.kernels.arrays import Array


def automatically_sharded(function: Callable[..., Array], x: Array, *others: Array) -> Array:
    """Call ``function(x, *others)``, with automatic axes if an argument is sharded explicitly.

    The batch axis of the result is sharded like that of ``x``, its other axes are replicated.
    """
    types = [jax.typeof(array) for array in (x, *others)]
    explicit = [aval.sharding for aval in types if any(aval.sharding.spec)]
    if not explicit:
        return function(x, *others)
    spec = PartitionSpec(*types[0].sharding.spec[:1])
    sharding = NamedSharding(explicit[0].mesh, spec)
    automatic: Callable[..., Any] = jax.sharding.auto_axes(function, out_sharding=sharding)
    return automatic(x, *others)
