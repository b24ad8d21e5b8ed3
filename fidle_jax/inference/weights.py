"""A network's weights in the safetensors format: plain arrays by name, no code."""

import jax
import numpy as np
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PyTree

from fidle_jax.inference.load import Trained
from fidle_jax.inference.metadata import metadata


def to_safetensors(trained: Trained) -> bytes:
    """The weights, and the statistics of batch norms, under names like ``params/dense_1/kernel``.

    The file carries what `fidle_jax.inference.metadata.metadata` gives.
    """
    arrays = jax.tree.map(np.asarray, flatten_dict(trained.variables, sep="/"))
    return safetensors.numpy.save(arrays, metadata(trained))


def from_safetensors(data: bytes) -> PyTree:
    """The variables that `to_safetensors` wrote, as ``model.apply`` takes them."""
    return unflatten_dict(safetensors.numpy.load(data), sep="/")
