"""The test of a run, the content of model.json and result.json, and the arrays for the report."""

import dataclasses
import importlib.metadata
import math
import platform
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import fidle_jax
from fidle_jax.data import AnySplit, Dataset
from fidle_jax.data.augment import NO_AUGMENTATION, Augmentation, augment, scale
from fidle_jax.files import Parts, write_arrays
from fidle_jax.kernels.auto import cpu_cores
from fidle_jax.nn import Row
from fidle_jax.nn.intermediates import compute_intermediates
from fidle_jax.train.evaluation import (
    EVAL_BATCH_SIZE,
    PerExample,
    example_losses,
    finite_means,
    predict,
)
from fidle_jax.train.loop import Loop
from fidle_jax.train.parallel import peak_memory_bytes
from fidle_jax.train.step import step_keys

AUGMENTED_VERSIONS = 31  # four rows with the original
TEST_BYTES = 2**26  # test images that are in memory at a time
CANDIDATES = 1000  # images from which the augmented one is chosen
SETTINGS = ("crop", "hold_out", "recipe", "epochs", "seed", "parallel")  # in result.json
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def describe_model(model: nn.Module, dataset: Dataset, table: list[Row]) -> dict[str, Any]:
    """Return the content of model.json."""
    groups = dataset.class_groups
    return {
        "name": type(getattr(model, "module", model)).__name__,  # without `Adapted`
        "class_names": list(dataset.class_names),
        "class_groups": groups and {name: list(classes) for name, classes in groups.items()},
        "image_shape": list(dataset.image_shape),
        "layers": [dataclasses.asdict(row) for row in table],
        "parameters": sum(row.parameters for row in table),
    }


def describe_result(
    experiment: str, dataset: Dataset, devices: int, loop: Loop, measured: dict[str, Any]
) -> dict[str, Any]:
    """Return the content of result.json: settings, training statistics, and the entries of
    ``measured``.
    """
    settings, record, compiled = loop.config.settings(), loop.record, loop.compiled
    steps, seconds = int(loop.state.step), record.all_step_seconds
    images = loop.examples * len(record.rows)
    versions = {"python": platform.python_version(), "fidle-jax": fidle_jax.__version__}
    return {
        "experiment": experiment,
        "dataset": dataset.name,
        "variant": dataset.variant,
        **{name: settings[name] for name in SETTINGS},
        "test_examples": dataset.test_examples,
        "devices": devices,
        "cpu": cpu_cores(),
        "processes": jax.process_count(),
        "platform": jax.default_backend(),
        "train_examples": loop.examples,
        "available_examples": dataset.train_examples,  # with those that are held out or not used
        "steps": steps,
        "best_epoch": record.best_epoch,
        "best_validation_accuracy": record.best_accuracy,
        "transfer_seconds": round(compiled.transfer_seconds, 3),
        "compile_seconds": round(compiled.compile_seconds, 3),
        "train_seconds": round(sum(row["seconds"] for row in record.rows), 3),
        "images_per_second": round(images / seconds, 1) if seconds else None,
        "step_milliseconds": round(1e3 * seconds / steps, 3) if steps else None,
        "peak_memory_bytes": peak_memory_bytes(),
        **measured,
        "versions": versions | {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def evaluate_test(
    model: nn.Module,
    variables: dict[str, Any],
    dataset: Dataset,
    run_dir: Path,
    metrics: Mapping[str, PerExample] = types.MappingProxyType({}),
) -> dict[str, Any]:
    """Read and evaluate the test split. Write evaluation.npz and layers.npz.

    Return the loss, the accuracy and the mean of each metric.
    """
    shape = (dataset.test_examples, *dataset.image_shape)
    # A large test set is not in memory as a whole.
    split = dataset.read("test") if math.prod(shape) <= TEST_BYTES else dataset.open("test")
    size = EVAL_BATCH_SIZE * max(TEST_BYTES // (EVAL_BATCH_SIZE * math.prod(shape[1:])), 1)
    rows = [np.arange(shape[0])[start : start + size] for start in range(0, shape[0], size)]
    compute = jax.jit(lambda v, x: predict(model, v, x))
    computed = [jax.device_get(compute(variables, split.read_images(some))) for some in rows]
    logits = jnp.concatenate(computed)
    losses = example_losses(logits, split.labels)
    correct = int(jnp.sum(jnp.argmax(logits, -1) == split.labels))
    write_arrays(
        run_dir / "evaluation.npz",
        images=Parts(shape, map(split.read_images, rows)),
        labels=split.labels,
        probabilities=np.asarray(jax.nn.softmax(logits)),
    )
    intermediates = compute_intermediates(
        model, variables, scale(split.read_images(rows[0][:1])[0])
    )
    write_arrays(
        run_dir / "layers.npz",
        digit=np.array(0),
        **{f"kernel/{name}": kernel for name, kernel in intermediates.kernels.items()},
        **{f"map/{name}": values for name, values in intermediates.maps.items()},
    )
    labels = jnp.asarray(split.labels)
    found = finite_means({f"test_{name}": f(logits, labels) for name, f in metrics.items()})
    return {
        "test_loss": float(losses.mean()),
        "test_accuracy": correct / len(split.labels),
        **found,
    }


def write_augmented(train: AnySplit, ranges: Augmentation, seed: int, run_dir: Path) -> None:
    """Write augmented.npz if images are augmented: a training image, its label, and augmented versions.

    The first step would train on these versions if its batch contained only this image.
    """
    if ranges == NO_AUGMENTATION:
        return
    chosen = np.full(AUGMENTED_VERSIONS, _clearest(train, ranges.mirrored))
    images = train.read_images(chosen)
    key, _ = step_keys(jnp.uint32(seed), jnp.int32(0))
    versions, labels = jax.jit(augment, static_argnames="ranges")(
        images, train.labels[chosen], key, jnp.arange(AUGMENTED_VERSIONS), ranges=ranges
    )
    write_arrays(
        run_dir / "augmented.npz",
        image=images[0],
        label=np.asarray(train.labels[chosen[0]]),
        versions=np.asarray(jnp.round(255 * versions).astype(jnp.uint8)),
        labels=np.asarray(labels),
    )


def _clearest(train: AnySplit, mirrored: tuple[int, ...]) -> int:
    """Return the index of the image with the highest contrast in its centre among bright and sharp ones.

    With ``mirrored``, prefer images whose label changes if they are flipped.
    """
    rows = np.arange(len(train.labels))
    if mirrored:
        others = np.array(mirrored)[train.labels]
        changed = np.flatnonzero((others >= 0) & (others != train.labels))
        rows = changed if len(changed) else rows
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), CANDIDATES)).astype(int)]
    images = train.read_images(rows)
    top, left = images.shape[1] // 4, images.shape[2] // 4
    centre = images[:, top : images.shape[1] - top, left : images.shape[2] - left]
    centre = centre.astype(np.float32)
    down, right = (np.abs(np.diff(centre, axis=axis)).mean(axis=(1, 2, 3)) for axis in (1, 2))
    sharpness = down + right
    brightness = centre.mean(axis=(1, 2, 3))
    bright = brightness >= np.quantile(brightness, 0.75)
    clear = bright & (sharpness >= np.quantile(sharpness[bright], 0.75))
    return int(rows[np.argmax(np.where(clear, centre.std(axis=(1, 2, 3)), -1))])
