"""A network as StableHLO: one file, weights inside, that JAX alone runs on a CPU, a GPU or a TPU."""

import jax
import numpy as np
from flax import linen as nn
from jax import export
from jaxtyping import PyTree

from fidle_jax.inference.agreement import Predict
from fidle_jax.inference.load import Trained
from fidle_jax.nn.intermediates import unfused
from fidle_jax.train.evaluation import apply_model

PLATFORMS = ("cpu", "cuda", "tpu")


def to_stablehlo(trained: Trained) -> bytes:
    """The network from uint8 images (batch, height, width, channel) to probabilities (batch, class).

    The batch may have any size. The bytes are `jax.export`'s own, for each of `PLATFORMS`.
    """
    probabilities = plain_predict(trained.model, trained.variables)
    shape = export.symbolic_shape(f"batch, {', '.join(map(str, trained.image_shape))}")
    # Accelerators would else round what they multiply, each in its own way, and so would differ.
    with jax.default_matmul_precision("highest"):
        exported = export.export(probabilities, platforms=PLATFORMS)(
            jax.ShapeDtypeStruct(shape, np.uint8)
        )
    return bytes(exported.serialize())


def plain_predict(model: nn.Module, variables: PyTree) -> jax.stages.Wrapped:
    """From images to probabilities, by XLA's own convolutions.

    A method that "auto" takes is the fastest to train with on the machine it is taken on. The file is for
    others too, and is not trained with.
    """
    model = unfused(model)
    return jax.jit(lambda images: jax.nn.softmax(apply_model(model, variables, images)))


def from_stablehlo(data: bytes) -> Predict:
    """The function that `to_stablehlo` wrote, compiled for the backend in use."""
    return jax.jit(export.deserialize(bytearray(data)).call)
