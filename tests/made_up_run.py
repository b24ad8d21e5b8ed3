"""A run directory as a training leaves it, with one convolution and one dense layer."""

import csv
import json

import numpy as np

from fidle_jax.data import Split
from fidle_jax.train.near_duplicates import write_near_duplicates

METRICS = (
    "epoch,step,learning_rate,train_loss,train_accuracy,validation_loss,validation_accuracy,"
    "seconds,images_per_second"
)

OWN_IMAGES = {
    "path": "photos",
    "kind": "class folders",
    "sizes": "40x30 to 80x60 (median 50x50)",
    "text": "found: photos: class folders",
    "held_out": "test: 40 images, held out for testing\nnear-duplicates: 2 groups with 5 images",
    "skipped": ["photos/a.txt: not the name of an image"],
    "skipped_count": 1,
    "groups": 2,
    "grouped_images": 5,
    "largest_group": 3,
    "neighbour_accuracy": [0.5, 0.9],
}


def _layer(name, kind, shape, parameters=0, formula=""):
    return {
        "name": name,
        "kind": kind,
        "output_shape": [None, *shape],
        "parameters": parameters,
        "formula": formula,
    }


def write_run(
    path,
    classes=3,
    channels=1,
    epochs=4,
    errors=True,
    validation=True,
    kernels=True,
    groups=False,
    augmented=False,
    own_images=False,
):
    rng = np.random.default_rng(0)
    labels = np.arange(40, dtype=np.int32) % classes
    guess = labels.copy()
    if errors:
        guess[:5] = (guess[:5] + 1) % classes
    probabilities = np.full((40, classes), 0.1 / classes, np.float32)
    probabilities[np.arange(40), guess] += 0.9
    np.savez(
        path / "evaluation.npz",
        images=rng.integers(0, 256, (40, 8, 8, channels), dtype=np.uint8),
        labels=labels,
        probabilities=probabilities,
    )
    if augmented:
        np.savez(
            path / "augmented.npz",
            image=rng.integers(0, 256, (8, 8, channels), dtype=np.uint8),
            label=1,
            versions=rng.integers(0, 256, (32, 8, 8, channels), dtype=np.uint8),
            labels=np.array([1, 2] * 16, dtype=np.int32),
        )
    arrays = {
        "map/01 conv_1": rng.normal(size=(6, 6, 4)).astype(np.float32),
        "map/00 input": rng.random((8, 8, channels)).astype(np.float32),
        "map/02 flatten": rng.random(144).astype(np.float32),
        "map/03 dense_1": rng.normal(size=classes).astype(np.float32),
    }
    if kernels:
        arrays["kernel/conv_1"] = rng.normal(size=(3, 3, channels, 4)).astype(np.float32)
    np.savez(path / "layers.npz", digit=7, **arrays)

    rows = [
        [e, 10 * e, 1e-3, 1 / e, 1 - 0.5 / e, *((1 / e, 1 - 0.4 / e) if validation else "  ")]
        for e in range(1, epochs + 1)
    ]
    with (path / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(METRICS.split(","))
        writer.writerows([*(str(x).strip() for x in row), 1.5, 1000] for row in rows)

    has_best = validation and epochs > 0
    write_json(
        path / "result.json",
        {
            "experiment": "mnist_cnn",
            "dataset": "mnist",
            "variant": "full",
            "recipe": "course",
            "train_examples": 54000,
            "validation_examples": 6000 if validation else 0,
            "test_examples": 40,
            "parameters": 42358,
            "epochs": epochs,
            "steps": 10 * epochs,
            "seed": 0,
            "parallel": "jit",
            "devices": 1,
            "processes": 1,
            "platform": "cpu",
            "test_accuracy": 0.875 if errors else 1.0,
            "test_loss": 0.1234,
            "best_validation_accuracy": 0.9 if has_best else None,
            "best_epoch": epochs,
            "compile_seconds": 2.0,
            "transfer_seconds": 0.25,
            "step_milliseconds": 8.04,
            "peak_memory_bytes": 600 * 2**20,
            "train_seconds": 27.8,
            "images_per_second": 33000.4,
            "versions": {"jax": "0.10.2"},
        },
    )
    config = {"dataset": "mnist", "batch_size": 512, "command": "python experiments/mnist_cnn.py"}
    if own_images:
        images = rng.integers(0, 256, (40, 8, 8, channels), dtype=np.uint8)
        groups_of_images = np.array([0, 0, 0, 1, 1, *range(2, 37)])
        split = Split(images, np.zeros(40, np.int32), groups_of_images.astype(np.int32))
        write_near_duplicates(split, path)
        config["own_images"] = OWN_IMAGES
    write_json(path / "config.json", config)
    layers = [
        _layer("conv_1", "Conv", (6, 6, 4), 40, "4·(1·3·3 + 1) = 40"),
        _layer("flatten", "Flatten", (144,)),
        _layer("dense_1", "Dense", (classes,), 145 * classes),
    ]
    write_json(
        path / "model.json",
        {
            "name": "MnistCNN",
            "class_names": [f"class {i}" for i in range(classes)],
            "class_groups": {"first": [0], "others": list(range(1, classes))} if groups else None,
            "image_shape": [8, 8, channels],
            "layers": layers,
            "parameters": 42358,
        },
    )
    return path


def write_json(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")
