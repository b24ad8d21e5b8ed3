"""The test, once, at the end of a run, and what the report needs besides."""

import functools
import io
import operator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from fidle_jax.data import Dataset, Split, StoredSplit
from fidle_jax.data.augment import NO_AUGMENTATION, Augmentation, augment, scale
from fidle_jax.nn import Conv, layer_table
from fidle_jax.train.evaluation import predict
from fidle_jax.train.objectives import example_losses
from fidle_jax.train.run_dir import write_beside
from fidle_jax.train.step import step_keys

VERSIONS = 32  # that are kept of an augmented image
CANDIDATES = 1000  # that this image is chosen from


def evaluate_test(
    model: nn.Module, variables: dict[str, Any], dataset: Dataset, run_dir: Path
) -> dict[str, Any]:
    """Tests ``variables``, once; writes evaluation.npz and layers.npz; returns loss and accuracy.

    evaluation.npz holds the test images (uint8), labels, the probabilities of each class and the
    classes' names; the names of their groups and the place of each class's among these, where there
    are such; layers.npz the convolutions' kernels, and each layer's output for one image.
    """
    split = dataset.read("test")
    logits = jax.jit(lambda v, x: predict(model, v, x))(variables, split.images)
    losses = example_losses(logits, split.labels)
    right = int(jnp.sum(jnp.argmax(logits, -1) == split.labels))
    probabilities = np.asarray(jax.nn.softmax(logits))
    _save_arrays(
        run_dir / "evaluation.npz",
        images=split.images,
        labels=split.labels,
        probabilities=probabilities,
        class_names=np.array(dataset.class_names),
        **_groups(dataset),
    )
    _save_arrays(run_dir / "layers.npz", **_look_inside(model, variables, split.images))
    return {"test_loss": float(losses.mean()), "test_accuracy": right / len(split.labels)}


def _groups(dataset: Dataset) -> dict[str, np.ndarray]:
    if dataset.class_groups is None:
        return {}
    group_of_class = np.full(len(dataset.class_names), -1)
    for place, classes in enumerate(dataset.class_groups.values()):
        group_of_class[list(classes)] = place
    return {"group_names": np.array(list(dataset.class_groups)), "class_groups": group_of_class}


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
    key, _ = step_keys(jnp.uint32(seed), 0)
    versions, labels = jax.jit(augment, static_argnames="ranges")(
        images, train.labels[chosen], key, jnp.arange(VERSIONS), ranges=ranges
    )
    _save_arrays(
        run_dir / "augmented.npz",
        image=images[0],
        label=train.labels[chosen[0]],
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
    sharpness = sum(np.abs(np.diff(middle, axis=axis)).mean(axis=(1, 2, 3)) for axis in (1, 2))
    brightness = middle.mean(axis=(1, 2, 3))
    bright = brightness >= np.quantile(brightness, 0.75)
    clear = bright & (sharpness >= np.quantile(sharpness[bright], 0.75))
    return int(rows[np.argmax(np.where(clear, middle.std(axis=(1, 2, 3)), -1))])


def _look_inside(model, variables, images, digit: int = 0) -> dict[str, np.ndarray]:
    """Kernels and feature maps, named "kernel/LAYER" and "map/NUMBER LAYER"."""
    # One image, uncompiled: a single operation for each convolution is there long before the hundreds of
    # others that a method of this project's takes.
    plain = {"fuse": False} | ({"method": "xla"} if hasattr(model, "method") else {})
    _, captured = model.clone(**plain).apply(
        variables, scale(images[digit : digit + 1]), capture_intermediates=True
    )
    outputs = captured["intermediates"]
    arrays = {"digit": np.array(digit), "map/00 input": np.asarray(scale(images[digit]))}
    for row in layer_table(model, images.shape[1:]):
        name, kind = row.layer.removesuffix(")").split(" (")
        if kind == Conv.__name__:
            arrays[f"kernel/{name}"] = np.asarray(_within(variables["params"], name)["kernel"])
        if kind != "Dropout":
            number = sum(key.startswith("map/") for key in arrays)
            arrays[f"map/{number:02d} {name}"] = np.asarray(
                _within(outputs, name)["__call__"][0][0]
            )
    return arrays


def _within(tree: dict[str, Any], name: str) -> dict[str, Any]:
    """What a layer has there, by its name in the table of layers."""
    return functools.reduce(operator.getitem, name.split("/"), tree)


def _save_arrays(path: Path, **arrays: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_beside(path, buffer.getvalue())
