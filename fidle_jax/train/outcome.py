"""The test, once, at the end of a run, and what the report needs besides."""

import io
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from fidle_jax.data import Dataset
from fidle_jax.data.augment import scale
from fidle_jax.nn import Conv, layer_table
from fidle_jax.train.run_dir import write_beside
from fidle_jax.train.step import example_losses, predict


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


def _look_inside(model, variables, images, digit: int = 0) -> dict[str, np.ndarray]:
    """Kernels and feature maps, named "kernel/LAYER" and "map/NUMBER LAYER"."""
    open_model = model.clone(fuse=False)
    _, captured = open_model.apply(
        variables, scale(images[digit : digit + 1]), capture_intermediates=True
    )
    outputs = captured["intermediates"]
    arrays = {"digit": np.array(digit), "map/00 input": np.asarray(scale(images[digit]))}
    for row in layer_table(model, images.shape[1:]):
        name, kind = row.layer.removesuffix(")").split(" (")
        if kind == Conv.__name__:
            arrays[f"kernel/{name}"] = np.asarray(variables["params"][name]["kernel"])
        if kind != "Dropout":
            number = sum(key.startswith("map/") for key in arrays)
            arrays[f"map/{number:02d} {name}"] = np.asarray(outputs[name]["__call__"][0][0])
    return arrays


def _save_arrays(path: Path, **arrays: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_beside(path, buffer.getvalue())
