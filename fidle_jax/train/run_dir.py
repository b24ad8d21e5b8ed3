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
import datetime
import errno
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fidle_jax.errors import InputError
from fidle_jax.files import (
    as_input_error,
    check_types,
    open_lock,
    read_json,
    reading,
    require,
    sealed,
    write_json,
)
from fidle_jax.train.config import Config, check
from fidle_jax.train.config_json import from_json

PYTHON = "python"  # experiment of the runs that `fidle_jax.train` starts
LOCK = ".lock"
LARGEST_NUMBER = 1e18  # of a result
LARGEST_SIDE = 2**14  # of an image, in pixels
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
LAYER = {"name": str, "kind": str, "output_shape": list, "parameters": int, "formula": str}


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
    """Return result.json. Raise InputError if it is missing, damaged, or wrong in the entries
    ``names``.
    """
    path = run_dir / "result.json"
    if not path.exists():
        raise InputError(f"{run_dir} is not a finished run: {path} is missing; give a finished run")
    result = read_json(path, {name: RESULT[name] for name in names}, identity(run_dir))
    with reading(path):
        check_result(result)
    return result


def check_result(result: dict[str, Any]) -> None:
    """Raise ValueError if a number of a result is too large, or its accuracy is impossible."""
    for name, value in result.items():
        finite = not isinstance(value, int | float) or abs(value) <= LARGEST_NUMBER
        require(finite, f"{name} is larger than {LARGEST_NUMBER:g}")
    accuracy = result.get("test_accuracy", 0)
    require(0 <= accuracy <= 1, f"test_accuracy is {accuracy}, not in [0, 1]")


def finished_result(run_dir: Path, *names: str) -> dict[str, Any] | None:
    """Return the result as `read_result`, or None if the run has no report.html and is not finished."""
    path = run_dir / "result.json"
    if not (run_dir / "report.html").exists() or not path.exists():
        return None
    return read_result(run_dir, *names)


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
