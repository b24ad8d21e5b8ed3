"""Which examples make which batch."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer, UInt8

from fidle_jax.kernels import permutation

# uint8 images or float features, and class indices or regression targets.
Inputs = UInt8[Array, "example *shape"] | Float[Array, "example *shape"]
Targets = Int[Array, "example"] | Float[Array, "example"]


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Batches that hold every example once; the last may not be full."""
    return -(-examples // batch_size)


def padded_order(
    order: Int[Array | np.ndarray, "example"], batch_size: int
) -> Int[Array, "step batch"]:
    """``order`` cut into batches, the last one filled up with -1: no example."""
    steps = steps_per_epoch(order.shape[0], batch_size)
    padding = steps * batch_size - order.shape[0]
    return jnp.pad(order, (0, padding), constant_values=-1).reshape(steps, batch_size)


def epoch_order(
    seed: Integer[Array, ""] | int, epoch: Int[Array, ""] | int, examples: int, batch_size: int
) -> Int[Array, "step batch"]:
    """The batches of one epoch, shuffled by (seed, epoch) alone; -1 where the last is not full."""
    shuffling, _ = jax.random.split(jax.random.key(seed))
    key = jax.random.fold_in(shuffling, epoch)
    return padded_order(permutation(key, examples), batch_size)


def rows_at(rows: Int[Array, " batch"], places: Int[Array, "*shape"]) -> Int[Array, "*shape"]:
    """The rows at those places of a batch; -1, no example, past its end."""
    batch = rows.shape[0]
    return jnp.where(places < batch, rows[jnp.minimum(places, batch - 1)], -1)


def gather_batch(
    images: Inputs,
    labels: Targets,
    rows: Int[Array, "*batch"],
) -> tuple[
    UInt8[Array, "..."] | Float[Array, "..."],
    Int[Array, "*batch"] | Float[Array, "*batch"],
    Float[Array, "*batch"],
]:
    """Images, labels and weights of the examples ``rows``: weight 0 where a row is -1."""
    weights = (rows >= 0).astype(jnp.float32)
    rows = jnp.maximum(rows, 0)
    return images[rows], labels[rows], weights
