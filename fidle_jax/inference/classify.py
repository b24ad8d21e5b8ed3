"""The probabilities of many images, by a program that is compiled in a moment."""

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from fidle_jax.inference.load import Trained
from fidle_jax.nn.intermediates import unfused
from fidle_jax.train.evaluation import apply_model

LARGEST_BATCH = 256


def classify(
    trained: Trained, images: UInt8[np.ndarray, "n height width channel"]
) -> Float[np.ndarray, "n class"]:
    """Of each class, of one image at least: what ``trained.predict`` gives, but for rounding.

    XLA's own convolutions, unfused, are slower than this project's, and compiled in a fraction of the time.
    """
    model = unfused(trained.model)

    @jax.jit
    def probabilities(variables, batch):
        return jax.nn.softmax(apply_model(model, variables, batch))

    # Of few sizes, so that programs that were kept will do.
    size = min(LARGEST_BATCH, 1 << (len(images) - 1).bit_length())
    padded = np.pad(images, [(0, -len(images) % size), (0, 0), (0, 0), (0, 0)])
    batches = padded.reshape(-1, size, *images.shape[1:])
    answers = [np.asarray(probabilities(trained.variables, batch)) for batch in batches]
    return np.concatenate(answers)[: len(images)]


def likeliest(
    probabilities: Float[np.ndarray, "n class"], top: int
) -> tuple[Int[np.ndarray, "n top"], Float[np.ndarray, "n top"]]:
    """The labels of the likeliest classes, the likeliest first, and their probabilities."""
    labels = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    return labels, np.take_along_axis(probabilities, labels, axis=1)
