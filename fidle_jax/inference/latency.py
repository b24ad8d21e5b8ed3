"""How long a trained network takes to answer."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

BATCH_SIZES = (1, 8, 64, 512)
SECONDS = 1.0  # that one size is measured for
FEWEST, MOST = 5, 200  # calls


class Latency(NamedTuple):
    """Of batches of one size, from images in host memory to probabilities there.

    Attributes:
        batch_size: images a call.
        seconds: a call takes: the median.
        slow_seconds: what 19 calls in 20 stay below.
        calls: that were measured.
    """

    batch_size: int
    seconds: float
    slow_seconds: float
    calls: int

    def images_per_second(self) -> float:
        """The throughput at the median."""
        return self.batch_size / self.seconds


def measure_latency(
    predict: Callable[[UInt8[np.ndarray, "batch height width channel"]], Float],
    image_shape: tuple[int, int, int],
    batch_size: int,
) -> Latency:
    """Calls ``predict`` with noise: once to have it compiled, once to warm up, then for a second."""
    shape = (batch_size, *image_shape)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for _ in range(2):
        np.asarray(predict(images))
    times: list[float] = []
    while len(times) < FEWEST or (sum(times) < SECONDS and len(times) < MOST):
        began = time.perf_counter()
        np.asarray(predict(images))
        times.append(time.perf_counter() - began)
    median, slow = np.quantile(times, [0.5, 0.95])
    return Latency(batch_size, float(median), float(slow), len(times))
