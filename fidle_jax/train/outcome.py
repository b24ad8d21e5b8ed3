"""The test, once, at the end of a run, and what the report needs besides."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from fidle_jax.data import Dataset, Split, StoredSplit
from fidle_jax.data.augment import NO_AUGMENTATION, Augmentation, augment, scale
from fidle_jax.nn.intermediates import compute_intermediates
from fidle_jax.train.evaluation import predict
from fidle_jax.train.objectives import example_losses
from fidle_jax.train.run_dir import save_arrays
from fidle_jax.train.step import step_keys

VERSIONS = 32  # that are kept of an augmented image
CANDIDATES = 1000  # that this image is chosen from


def evaluate_test(
    model: nn.Module, variables: dict[str, Any], dataset: Dataset, run_dir: Path
) -> dict[str, Any]:
    """Tests ``variables``, once; writes evaluation.npz and layers.npz; returns loss and accuracy.

    evaluation.npz contains the test images (uint8), the labels, and the probability of each class.
    layers.npz contains the kernels of the convolutions, and the output of each layer for one image.
    """
    split = dataset.read("test")
    logits = jax.jit(lambda v, x: predict(model, v, x))(variables, split.images)
    losses = example_losses(logits, split.labels)
    right = int(jnp.sum(jnp.argmax(logits, -1) == split.labels))
    probabilities = np.asarray(jax.nn.softmax(logits))
    save_arrays(
        run_dir / "evaluation.npz",
        images=split.images,
        labels=split.labels,
        probabilities=probabilities,
    )
    inside = compute_intermediates(model, variables, scale(split.images[0]))
    save_arrays(
        run_dir / "layers.npz",
        digit=np.array(0),
        **{f"kernel/{name}": kernel for name, kernel in inside.kernels.items()},
        **{f"map/{name}": values for name, values in inside.maps.items()},
    )
    return {"test_loss": float(losses.mean()), "test_accuracy": right / len(split.labels)}


def write_augmented(
    train: Split | StoredSplit, ranges: Augmentation, seed: int, run_dir: Path
) -> None:
    """Writes augmented.npz, if anything is augmented: a training image, and what the first step makes of it.

    It holds the image (uint8), its label, and the versions (uint8) that it would have at the first
    places of that step's batch, with their labels.
    """
    if ranges == NO_AUGMENTATION:
        return
    chosen = np.full(VERSIONS, _clearest(train, ranges.mirrored))
    images = train.read_images(chosen)
    key, _ = step_keys(jnp.uint32(seed), jnp.int32(0))
    versions, labels = jax.jit(augment, static_argnames="ranges")(
        images, train.labels[chosen], key, jnp.arange(VERSIONS), ranges=ranges
    )
    save_arrays(
        run_dir / "augmented.npz",
        image=images[0],
        label=np.asarray(train.labels[chosen[0]]),
        versions=np.asarray(jnp.round(255 * versions).astype(jnp.uint8)),
        labels=np.asarray(labels),
    )


def _clearest(train: Split | StoredSplit, mirrored: tuple[int, ...]) -> int:
    """Of a thousand images, evenly spaced, the one whose middle is bright, sharp and of most contrast.

    The greatest contrast, that is, in the sharpest quarter of the brightest quarter; with ``mirrored``,
    as of `Augmentation`, of those alone whose label a flip changes, if there are any.
    """
    rows = np.arange(len(train.labels))
    if mirrored:
        others = np.array(mirrored)[train.labels]
        changed = np.flatnonzero((others >= 0) & (others != train.labels))
        rows = changed if len(changed) else rows
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), CANDIDATES)).astype(int)]
    images = train.read_images(rows)
    top, left = images.shape[1] // 4, images.shape[2] // 4
    middle = images[:, top : images.shape[1] - top, left : images.shape[2] - left]
    middle = middle.astype(np.float32)
    down, right = (np.abs(np.diff(middle, axis=axis)).mean(axis=(1, 2, 3)) for axis in (1, 2))
    sharpness = down + right
    brightness = middle.mean(axis=(1, 2, 3))
    bright = brightness >= np.quantile(brightness, 0.75)
    clear = bright & (sharpness >= np.quantile(sharpness[bright], 0.75))
    return int(rows[np.argmax(np.where(clear, middle.std(axis=(1, 2, 3)), -1))])
