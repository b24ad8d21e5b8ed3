"""Batches read from disk while the steps before them run, by grain."""

from collections.abc import Callable
from typing import Any, NamedTuple

import grain
import numpy as np
from jaxtyping import Float32, Int, Int32, UInt8

from fidle_jax.data.dataset import StoredSplit

# Each batch is read by one thread. So many are in hand, as arrays of the host and then of the devices.
THREADS = 4
READ_AHEAD = 4
ON_DEVICE = 2


class Batch(NamedTuple):
    """Some places of a batch; those of weight 0 fill it up."""

    images: UInt8[np.ndarray, "part place height width channel"]
    labels: Int32[np.ndarray, "part place"]
    weights: Float32[np.ndarray, "part place"]


class Batches:
    """Batches of the examples of a split by their step, as grain takes a source.

    Args:
      split: the examples.
      order: which of them make which batch; -1 where the last one is not full.
      places: of each batch that are wanted, part by part; past its end they are filled up.
    """

    def __init__(
        self,
        split: StoredSplit,
        order: Int[np.ndarray, "step batch"],
        places: Int[np.ndarray, "part place"],
    ):
        self._split, self._order, self._places = split, order, places

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, step: int) -> Batch:
        """As `fidle_jax.data.batches.gather_batch` of the same rows; raises InputError of damage."""
        rows = np.append(self._order[step], -1)[np.minimum(self._places, self._order.shape[1])]
        weights = (rows >= 0).astype(np.float32)
        rows = np.maximum(rows, 0)
        # In the order of the files, and what fills up, the first example, no more than once.
        wanted, found = np.unique(rows, return_inverse=True)
        images = self._split.read_images(wanted)[found]
        return Batch(images, self._split.labels[rows], weights)


def stream(
    batches: Batches, put: Callable[[Batch], Any], start: int = 0
) -> grain.DatasetIterator[Any]:
    """What ``put`` makes of the batches from step ``start`` on, in order, ahead of who asks for them.

    ``put`` brings a batch to the devices. What reading raises is raised by the iterator's ``next``;
    its ``close`` ends all threads.
    """
    read = grain.MapDataset.source(batches)[start:].to_iter_dataset(
        grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=READ_AHEAD)
    )
    on_devices = grain.experimental.ThreadPrefetchIterDataset(
        read.map(put), prefetch_buffer_size=ON_DEVICE
    )
    return iter(on_devices)
