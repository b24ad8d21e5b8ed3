"""Run directories: creating, locking, reading and writing. Imports neither JAX nor Flax.

config.json      the configuration, the experiment and the command (`begin`)
model.json       class of the network, class names, image shape and the table of layers (`begin`)
metrics.csv      one row per epoch (`run_logger.py`)
checkpoints/     weights and state (`checkpoints.py`)
tensorboard/     events for TensorBoard (`run_logger.py`)
evaluation.npz   test images, labels and probabilities (`outcome.py`)
layers.npz       kernels of the convolutions, and feature maps of one test image (`outcome.py`)
augmented.npz    an augmented training image, if the run augments (`outcome.py`)
near_duplicates.npz   groups of similar training images, if there are any (`near_duplicates.py`)
result.json      the results (`run.py`)
figures/ report.html   written last by `fidle_jax.report`; they mark a run as finished
SHA256SUMS       digests of the files of a finished run; ``sha256sum -c`` checks them
"""

import contextlib
import csv
import dataclasses
import datetime
import errno
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer, UInt8

from fidle_jax.errors import InputError
from fidle_jax.files import (
    as_input_error,
    check_types,
    open_lock,
    read_json,
    reading,
    require,
    require_names,
    sealed,
    write_json,
)
from fidle_jax.train.config import Config, check, from_json
from fidle_jax.train.near_duplicates import NearDuplicates, read_near_duplicates

PYTHON = "python"  # experiment of the runs that `fidle_jax.train` starts
LOCK = ".lock"
LARGEST_NUMBER = 1e18  # of a result
LARGEST_SIDE = 2**14  # of an image, in pixels
MAX_ARRAY_BYTES = 4 * 2**30  # of all arrays of a file, uncompressed
MAX_NAME = 80  # characters of a class name; matplotlib takes minutes for very long ones

METRICS = ("epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
_NUMBER = int | float | None  # null if the run has no validation or no epochs
RESULT: dict[str, Any] = {
    **dict.fromkeys(("experiment", "dataset", "variant", "recipe", "platform"), str),
    **dict.fromkeys(("train_examples", "validation_examples", "test_examples"), int),
    **dict.fromkeys(("parameters", "epochs", "steps", "seed", "devices", "processes"), int),
    **dict.fromkeys(("test_loss", "best_validation_accuracy", "best_epoch"), _NUMBER),
    **dict.fromkeys(("compile_seconds", "transfer_seconds", "train_seconds"), _NUMBER),
    **dict.fromkeys(("images_per_second", "step_milliseconds", "peak_memory_bytes"), _NUMBER),
    "test_accuracy": int | float,
    "versions": dict,
}
MODEL: dict[str, Any] = {
    **dict.fromkeys(("class_names", "image_shape", "layers"), list),
    **{"name": str, "class_groups": dict | None, "parameters": int},
}
OWN_IMAGES: dict[str, Any] = {
    **dict.fromkeys(("path", "kind", "sizes", "held_out", "text"), str),
    **dict.fromkeys(("skipped_count", "groups", "grouped_images", "largest_group"), int),
    "skipped": list,
}
LAYER = {"name": str, "kind": str, "output_shape": list, "parameters": int, "formula": str}


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


def resume_command(experiment: str, run_dir: Path) -> str:
    """Return the command that resumes a run."""
    if experiment == PYTHON:
        return f"call fidle_jax.train with the same arguments and run_dir={str(run_dir)!r}, resume=True"
    return f"python experiments/{experiment}.py --run-dir {run_dir} --resume"


def default_run_dir(experiment: str) -> Path:
    """Return ``runs/EXPERIMENT/UTC time`` with milliseconds, because scripts start many runs."""
    now = datetime.datetime.now(datetime.UTC)
    time = now.strftime("%Y-%m-%dT%H-%M-%S") + f".{now.microsecond // 1000:03d}Z"
    return Path("runs") / experiment / time


def check_new(run_dir: Path) -> None:
    """Raise InputError if a new run cannot be written to ``run_dir``. Write nothing."""
    if str(run_dir).encode("utf-8", "replace").decode() != str(run_dir):  # Orbax cannot write there
        raise InputError(f"--run-dir {run_dir} is not UTF-8; choose another name")
    with as_input_error(run_dir, "--run-dir"):
        files = list(run_dir.iterdir()) if run_dir.is_dir() else []
        # A killed run without config.json may have left these.
        if any(path.name not in (LOCK, "model.json") and path.suffix != ".part" for path in files):
            what = "other files; expected a new or empty directory; choose another --run-dir"
            if (run_dir / "config.json").exists():
                what = "another run; give --resume to resume it, or choose another --run-dir"
            raise InputError(f"the run directory {run_dir} holds {what}")
        ancestor = next(path for path in (run_dir, *run_dir.absolute().parents) if path.exists())
        if not ancestor.is_dir():
            raise InputError(
                f"cannot create the run directory {run_dir}: {ancestor} is a file; "
                "choose another --run-dir"
            )
        if not os.access(ancestor, os.W_OK):
            raise PermissionError(errno.EACCES, f"no permission in {ancestor}")


@contextlib.contextmanager
def hold(run_dir: Path) -> Iterator[None]:
    """Create ``run_dir`` if necessary, and lock it for this process.

    Raise InputError if another process holds the lock, or the directory cannot be created or written.
    """
    with as_input_error(run_dir, "--run-dir"):
        run_dir.mkdir(parents=True, exist_ok=True)
        lock = open_lock(run_dir / LOCK)
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another process is writing the run in {run_dir}; wait for it, or choose another "
                "--run-dir"
            ) from None
        for leftover in run_dir.glob(".*.part"):
            leftover.unlink()
        yield


def begin(
    run_dir: Path, config: dict[str, Any], model: dict[str, Any], *, resumed: bool = False
) -> None:
    """Write model.json, and config.json of a new run. The caller must `hold` the directory.

    Raise InputError if the files cannot be written, or another run has started there since.
    """
    if not resumed:
        check_new(run_dir)
    with as_input_error(run_dir, "--run-dir"):
        write_json(run_dir / "model.json", model)
        if not resumed:
            write_json(run_dir / "config.json", sealed(config))


def read_config(run_dir: Path, experiment: str | None = None) -> Config:
    """Read the config of a run. Set ``archives`` to None.

    Raise InputError if there is no run, it belongs to another ``experiment``, or config.json is invalid.
    """
    path = run_dir / "config.json"
    with as_input_error(run_dir, "--run-dir"):
        if not path.exists():
            advice = "give the directory of a run, or leave --resume out to start one"
            raise InputError(
                f"there is no run in {run_dir}, because it has no config.json; {advice}"
            )
    fields = read_json(path, {})
    with reading(path):
        config = from_json(fields).replace(archives=None)
        check(config)
        started_by = fields.get("experiment")
    if experiment and started_by not in (experiment, None):
        how = resume_command(started_by, run_dir)
        raise InputError(f"the run in {run_dir} belongs to {started_by}; to resume it: {how}")
    return config


def read_objects(run_dir: Path) -> dict[str, Any]:
    """Return the names of the Python objects that replaced settings (`fidle_jax.train.custom`)."""
    return read_json(run_dir / "config.json", {}).get("objects") or {}


def identity(run_dir: Path) -> str:
    """Return the checksum of the first config.json, or "" without one.

    Results and checkpoints depend on it. An extension stores it as "identity" in the new config.json.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        content = json.loads((run_dir / "config.json").read_text("utf-8"))
        return content.get("identity") or content.get("checksum", "")
    return ""


def read_result(run_dir: Path, *names: str) -> dict[str, Any]:
    """Return result.json. Raise InputError if it is missing, damaged, or wrong in the entries "
    "``names``."""
    path = run_dir / "result.json"
    if not path.exists():
        raise InputError(f"{run_dir} is not a finished run: {path} is missing; give a finished run")
    result = read_json(path, {name: RESULT[name] for name in names}, identity(run_dir))
    with reading(path):
        for name, value in result.items():
            finite = not isinstance(value, int | float) or abs(value) <= LARGEST_NUMBER
            require(finite, f"{name} is larger than {LARGEST_NUMBER:g}")
        accuracy = result.get("test_accuracy", 0)
        require(0 <= accuracy <= 1, f"test_accuracy is {accuracy}, not in [0, 1]")
    return result


def finished_result(run_dir: Path, *names: str) -> dict[str, Any] | None:
    """Return the result as `read_result`, or None if the run has no report.html and is not finished."""
    path = run_dir / "result.json"
    if not (run_dir / "report.html").exists() or not path.exists():
        return None
    return read_result(run_dir, *names)


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


def read_model(run_dir: Path) -> dict[str, Any]:
    """Return the content of model.json. Raise InputError if it is missing or invalid."""
    path = run_dir / "model.json"
    model = read_json(path, MODEL)
    with reading(path):
        for row in model["layers"]:
            check_types(row, LAYER)
        shape, names = model["image_shape"], model["class_names"]
        require(names and all(isinstance(name, str) for name in names), "class_names are not text")
        whole = len(shape) == 3 and all(type(size) is int for size in shape)
        require(whole, "image_shape is not (h, w, c)")
        possible = min(shape) > 0 and max(shape) <= LARGEST_SIDE and shape[2] in (1, 3)
        require(
            possible, f"image_shape is {shape}; expected at most {LARGEST_SIDE} and 1 or 3 channels"
        )
        groups = model["class_groups"] or {}
        indices = [index for group in groups.values() for index in group]
        require(all(type(index) is int for index in indices), "class_groups are not whole numbers")
        members = sorted(index for group in groups.values() for index in group)
        require(
            not groups or members == list(range(len(names))),
            "class_groups do not contain every class once",
        )
    return model


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
