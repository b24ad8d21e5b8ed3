"""The content of a run directory, as read for the report. Imports neither JAX nor Flax."""

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer, UInt8

from fidle_jax.files import check_types, read_json, reading, require, require_names
from fidle_jax.train.near_duplicates import NearDuplicates, read_near_duplicates
from fidle_jax.train.run_dir import RESULT, read_model, read_result

MAX_ARRAY_BYTES = 4 * 2**30  # of all arrays of a file, uncompressed
MAX_NAME = 80  # characters of a class name; matplotlib takes minutes for very long ones

METRICS = ("epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
OWN_IMAGES: dict[str, Any] = {
    **dict.fromkeys(("path", "kind", "sizes", "held_out", "text"), str),
    **dict.fromkeys(("skipped_count", "groups", "grouped_images", "largest_group"), int),
    "skipped": list,
}


@dataclasses.dataclass(frozen=True)
class Groups:
    """Groups of similar classes: their names, and the index of the group of each class."""

    names: list[str]
    of_class: Integer[np.ndarray, "class"]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The test split, and the probabilities that the model assigns to each class."""

    images: UInt8[np.ndarray, "example height width channel"]
    labels: Integer[np.ndarray, "example"]
    probabilities: Float[np.ndarray, "example class"]
    class_names: list[str]
    groups: Groups | None = None

    @property
    def predicted(self) -> Integer[np.ndarray, "example"]:
        """Most probable class of each example."""
        return self.probabilities.argmax(axis=1)


@dataclasses.dataclass(frozen=True)
class Augmented:
    """A training image and its augmented versions, with their labels."""

    image: UInt8[np.ndarray, "height width channel"]
    label: int
    versions: UInt8[np.ndarray, "version height width channel"]
    labels: Integer[np.ndarray, "version"]


@dataclasses.dataclass(frozen=True)
class Run:
    """The content of a run directory."""

    config: dict
    result: dict
    model: dict
    metrics: dict[str, Float[np.ndarray, "epoch"]]  # columns, with NaN for empty cells
    evaluation: Evaluation
    kernels: dict[str, Float[np.ndarray, "k1 k2 c_in c_out"]]  # in the order of the network
    maps: dict[str, np.ndarray]  # feature maps by position and name of the layer: "01 conv_1"
    digit: int  # index of the test example of the feature maps
    augmented: Augmented | None = None
    near_duplicates: NearDuplicates = dataclasses.field(default_factory=list)

    @property
    def chosen_epoch(self) -> int | None:
        """Epoch with the best validation result, or None without validation."""
        validated = self.result["best_validation_accuracy"] is not None
        return self.result["best_epoch"] if validated else None

    @property
    def chosen_on_test(self) -> bool:
        """True if the test set was used for validation."""
        return self.config.get("hold_out") == "test"


def read_run(run_dir: Path) -> Run:
    """Read a run directory. If a file is missing, damaged or inconsistent, InputError names it."""
    model = read_model(run_dir)
    result = read_result(run_dir, *RESULT)
    evaluation = read_evaluation(run_dir)
    kernels, maps, digit = _read_layers(run_dir / "layers.npz", len(evaluation.labels))
    order = [row["name"] for row in model["layers"]]
    return Run(
        config=_read_described(run_dir / "config.json"),
        result=result,
        model=model,
        metrics=read_metrics(run_dir / "metrics.csv"),
        evaluation=evaluation,
        kernels={name: kernels[name] for name in order if name in kernels},
        maps=maps,
        digit=digit,
        augmented=_read_augmented(run_dir / "augmented.npz", len(evaluation.class_names)),
        near_duplicates=read_near_duplicates(run_dir, len(evaluation.class_names)),
    )


def _read_described(path: Path) -> dict[str, Any]:
    config = read_json(path, {"command": str})
    with reading(path):
        if config.get("own_images") is not None:
            check_types(config["own_images"], OWN_IMAGES)
    return config


def read_evaluation(run_dir: Path) -> Evaluation:
    """Return the content of evaluation.npz, with the names of model.json, or raise InputError.

    Names are for figures and pages, so long ones are shortened.
    """
    model, path = read_model(run_dir), run_dir / "evaluation.npz"
    names, groups = [_shorten(name) for name in model["class_names"]], model["class_groups"]
    with reading(path):
        arrays = _load_arrays(path, "images", "labels", "probabilities")
        examples = np.size(arrays.get("labels", ()))
        types = {
            "images": UInt8[np.ndarray, " ".join(map(str, (examples, *model["image_shape"])))],
            "labels": Integer[np.ndarray, f"{examples}"],
            "probabilities": Float[np.ndarray, f"{examples} {len(names)}"],
        }
        check_types(arrays, types)
        _check_images(arrays["images"])
        _check_range("labels", arrays["labels"], len(names))
        require(np.isfinite(arrays["probabilities"]).all(), "probabilities are not finite")
    if groups is not None:
        of_class = np.empty(len(names), int)
        for index, members in enumerate(groups.values()):
            of_class[members] = index
        groups = Groups([_shorten(name) for name in groups], of_class)
    return Evaluation(**arrays, class_names=names, groups=groups)


def _load_arrays(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Load the arrays with these names, or with names that start with "kernel/" and the like."""
    with np.load(path, allow_pickle=False) as file:
        size = sum(info.file_size for info in file.zip.infolist())
        require(size <= MAX_ARRAY_BYTES, f"its arrays need {size:,} bytes of memory")
        wanted = [name for name in file.files if name in names or f"{name.split('/')[0]}/" in names]
        return {name: file[name] for name in wanted}


def _shorten(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"


def _read_augmented(path: Path, classes: int) -> Augmented | None:
    if not path.exists():
        return None
    with reading(path):
        arrays = _load_arrays(path, "image", "label", "versions", "labels")
        shape = " ".join(map(str, np.shape(arrays.get("image", ()))))
        versions = np.size(arrays.get("labels", ()))
        types = {
            "image": UInt8[np.ndarray, "height width channel"],
            "label": Integer[np.ndarray, ""],
            "versions": UInt8[np.ndarray, f"{versions} {shape}"],
            "labels": Integer[np.ndarray, f"{versions}"],
        }
        check_types(arrays, types)
        _check_images(arrays["versions"])
        _check_range("labels", np.append(arrays["labels"], arrays["label"]), classes)
        label = int(arrays.pop("label"))
        return Augmented(label=label, **arrays)


def _read_layers(path: Path, examples: int) -> tuple[dict, dict, int]:
    with reading(path):
        arrays = _load_arrays(path, "digit", "kernel/", "map/")
        check_types(arrays, {"digit": Integer[np.ndarray, ""]})
        kernels = {
            k.removeprefix("kernel/"): a for k, a in arrays.items() if k.startswith("kernel/")
        }
        maps = {k.removeprefix("map/"): arrays[k] for k in sorted(arrays) if k.startswith("map/")}
        for name, kernel in kernels.items():
            require(kernel.ndim == 4, f"the kernel of {name} is not (k, k, c_in, c_out)")
        for name, values in maps.items():
            require(values.ndim in (1, 3), f"the map of {name} is not (h, w, c) or (n,)")
        require(maps, "the feature maps are missing")
        _check_range("digit", arrays["digit"], examples)
        return kernels, maps, int(arrays["digit"])


def read_metrics(path: Path) -> dict[str, Float[np.ndarray, "epoch"]]:
    """Return the columns `METRICS` of metrics.csv, with NaN for empty cells, or raise InputError."""
    with reading(path), path.open(newline="", encoding="utf-8") as file:
        table = csv.DictReader(file)
        rows = list(table)
        require_names(METRICS, table.fieldnames or ())
        return {name: np.array([float(row[name] or "nan") for row in rows]) for name in METRICS}


def _check_images(images: np.ndarray) -> None:
    valid = images.size > 0 and images.shape[-1] in (1, 3)
    require(valid, f"images have shape {images.shape}; expected at least one with 1 or 3 channels")


def _check_range(name: str, values: np.ndarray, end: int) -> None:
    valid = values.min() >= 0 and values.max() < end
    require(valid, f"{name} must be between 0 and {end - 1}")
