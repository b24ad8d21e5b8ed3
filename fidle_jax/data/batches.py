"""Shuffled batches of an epoch, gathered from device memory or prefetched from disk."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Int32, Integer, UInt8

from fidle_jax.data.dataset import StoredSplit
from fidle_jax.kernels import permutation

if TYPE_CHECKING:
    import grain

# uint8 images or float features, and class indices or regression targets.
Inputs = UInt8[Array, "example *shape"] | Float[Array, "example *shape"]
Targets = Int[Array, "example"] | Float[Array, "example"]

THREADS = 4  # each reads a whole batch
READ_AHEAD = 4  # batches in host memory
ON_DEVICE = 2  # batches on the devices


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Return the number of batches per epoch. The last batch may be partial."""
    return -(-examples // batch_size)


def padded_order(
    order: Int[Array | np.ndarray, "example"], batch_size: int
) -> Int[Array, "step batch"]:
    """Cut ``order`` into batches. The last one is padded with -1, which marks no example."""
    steps = steps_per_epoch(order.shape[0], batch_size)
    padding = steps * batch_size - order.shape[0]
    return jnp.pad(order, (0, padding), constant_values=-1).reshape(steps, batch_size)


def epoch_order(
    seed: Integer[Array, ""] | int, epoch: Int[Array, ""] | int, examples: int, batch_size: int
) -> Int[Array, "step batch"]:
    """Return the shuffled batches of an epoch. The order depends only on seed and epoch."""
    shuffling, _ = jax.random.split(jax.random.key(seed))
    key = jax.random.fold_in(shuffling, epoch)
    return padded_order(permutation(key, examples), batch_size)


def rows_at(rows: Int[Array, " batch"], indices: Int[Array, "*shape"]) -> Int[Array, "*shape"]:
    """Return ``rows[indices]``, with -1 for indices beyond the end of the batch."""
    batch = rows.shape[0]
    return jnp.where(indices < batch, rows[jnp.minimum(indices, batch - 1)], -1)


def gather_batch(
    images: Inputs,
    labels: Targets,
    rows: Int[Array, "*batch"],
) -> tuple[
    UInt8[Array, "..."] | Float[Array, "..."],
    Int[Array, "*batch"] | Float[Array, "*batch"],
    Float[Array, "*batch"],
]:
    """Gather the images, labels and mask of ``rows``. The mask of padding (-1) is 0."""
    mask = (rows >= 0).astype(jnp.float32)
    rows = jnp.maximum(rows, 0)
    return images[rows], labels[rows], mask


class Batch(NamedTuple):
    """A batch, or the share of one process, cut into micro-batches. The mask of padding is 0."""

    images: UInt8[np.ndarray, "micro index height width channel"]
    labels: Int32[np.ndarray, "micro index"]
    mask: Float32[np.ndarray, "micro index"]


class Batches:
    """Batches of a split, indexed by step: a random-access source for grain.

    ``order`` has the rows of each batch. ``indices`` selects examples of each batch, one row per
    micro-batch. Indices beyond the end of the batch are padding.
    """

    def __init__(
        self,
        split: StoredSplit,
        order: Int[np.ndarray, "step batch"],
        indices: Int[np.ndarray, "micro index"],
    ):
        self._split, self._order, self._indices = split, order, indices

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, step: int) -> Batch:
        """Read the batch of a step. It equals that of `gather_batch`."""
        rows = np.append(self._order[step], -1)[np.minimum(self._indices, self._order.shape[1])]
        mask = (rows >= 0).astype(np.float32)
        rows = np.maximum(rows, 0)
        # Read in file order. All padding uses one example, which is read once.
        wanted, found = np.unique(rows, return_inverse=True)
        images = self._split.read_images(wanted)[found]
        return Batch(images, self._split.labels[rows], mask)


def stream(
    batches: Batches, put: Callable[[Batch], Any], start: int = 0
) -> "grain.DatasetIterator[Any]":
    """Iterate over ``put(batch)`` from step ``start`` on, reading ahead in threads.

    ``put`` moves a batch to the devices. Errors while reading are raised by ``next``. ``close`` ends all
    threads.
    """
    import grain  # slow to import

    read = grain.MapDataset.source(batches)[start:].to_iter_dataset(
        grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=READ_AHEAD)
    )
    on_devices = grain.experimental.ThreadPrefetchIterDataset(
        read.map(put), prefetch_buffer_size=ON_DEVICE
    )
    return iter(on_devices)
