"""A batch in chunks, one after the other, so that what lies between fits into the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
from jax import lax
from jax.ad_checkpoint import checkpoint_name

if TYPE_CHECKING:
    from jaxtyping import Array

# A chunk's intermediate arrays are kept below this: within the last level of a server core's caches.
CHUNK_BYTES = 24 * 2**20

# But not below this many times what they share, the weights: each chunk reads all of it, and in the
# backward pass adds to its gradient. Measured on Winograd's method with 64 to 256 channels.
SHARED_TIMES = 20

_KEPT = "kept from the forward pass"


def in_chunks(
    function: Callable[[Array], Array], x: Array, bytes_of_one: float, bytes_shared: float = 0
) -> Array:
    """``function(x)`` for a function that treats each example of the batch alone.

    The backward pass computes each chunk's intermediate arrays again, but for what `kept` marks.

    Args:
        function: (part of the batch, ...) -> (part of the batch, ...).
        x: of (batch, ...).
        bytes_of_one: what the intermediate arrays of one example take.
        bytes_shared: what all examples take from outside, where that is worth larger chunks.
    """
    batch = x.shape[0]
    fitting = max(1, int(max(CHUNK_BYTES, SHARED_TIMES * bytes_shared) // bytes_of_one))
    if not isinstance(batch, int) or batch <= fitting:
        return function(x)
    size = max(n for n in range(1, fitting + 1) if batch % n == 0)
    policy = jax.checkpoint_policies.save_only_these_names(_KEPT)
    parts = x.reshape(batch // size, size, *x.shape[1:])
    y = lax.map(jax.checkpoint(function, policy=policy), parts)
    return y.reshape(batch, *y.shape[2:])


def kept(x: Array) -> Array:
    """``x``, marked as worth keeping for the backward pass."""
    return checkpoint_name(x, _KEPT)
