"""Reads what a run left in its directory, and says plainly what is missing or broken."""

import csv
import json
from pathlib import Path

import numpy as np
from jaxtyping import Float

from fidle_jax.errors import InputError
from fidle_jax.report.run_data import Augmented, Evaluation, Groups, Run

METRICS = ("epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
RESULT_WORDS = ("experiment", "dataset", "variant", "recipe", "platform")
RESULT_COUNTS = (
    "train_examples",
    "validation_examples",
    "test_examples",
    "parameters",
    "epochs",
    "seed",
    "devices",
)
# a run without validation or without epochs has not all of these: null then
RESULT_MEASURES = (
    "test_accuracy",
    "test_loss",
    "best_validation_accuracy",
    "best_epoch",
    "compile_seconds",
    "train_seconds",
    "images_per_second",
)
# what runs of earlier versions do not tell
RESULT_COSTS = ("transfer_seconds", "step_milliseconds", "peak_memory_bytes", "processes")
LAYER = ("layer", "output_shape", "parameters", "formula")


def read_run(run_dir: Path) -> Run:
    """Reads a run directory.

    Raises InputError, naming the file, where one is missing, damaged, or contradicts itself.
    """
    model = _read_model(run_dir / "model.json")
    evaluation = _read_evaluation(run_dir / "evaluation.npz")
    kernels, maps, digit = _read_layers(run_dir / "layers.npz", len(evaluation.labels))
    order = [row["layer"].split(" ")[0] for row in model["layers"]]
    return Run(
        config=_read_json(run_dir / "config.json", ("command",)),
        result=_read_result(run_dir / "result.json"),
        model=model,
        metrics=_read_metrics(run_dir / "metrics.csv"),
        evaluation=evaluation,
        kernels={name: kernels[name] for name in order if name in kernels},
        maps=maps,
        digit=digit,
        augmented=_read_augmented(run_dir / "augmented.npz", len(evaluation.class_names)),
    )


def _broken(path: Path, why: str) -> InputError:
    why = " ".join(why.split())
    return InputError(
        f"{path}: {why}; expected the file as the run wrote it: restore it or run again"
    )


def _read_json(path: Path, keys: tuple[str, ...]) -> dict:
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text, parse_constant=lambda _: None)  # NaN and Infinity: not known
    except OSError as error:
        raise _broken(path, error.strerror or "cannot be read") from error
    except ValueError as error:
        raise _broken(path, f"not JSON ({error})") from error
    if not isinstance(content, dict):
        raise _broken(path, "not a JSON object")
    if missing := [key for key in keys if key not in content]:
        raise _broken(path, f"lacks {', '.join(missing)}")
    return content


def _read_result(path: Path) -> dict:
    result = _read_json(path, (*RESULT_WORDS, *RESULT_COUNTS, *RESULT_MEASURES, "versions"))
    result |= {key: result.get(key) for key in RESULT_COSTS}
    for key in (*RESULT_COUNTS, *RESULT_MEASURES, *RESULT_COSTS):
        optional = key not in RESULT_COUNTS and result[key] is None
        if not optional and not isinstance(result[key], int | float):
            raise _broken(path, f"{key} is {result[key]!r}, not a number")
    if result["test_accuracy"] is None or not 0 <= result["test_accuracy"] <= 1:
        raise _broken(path, f"test_accuracy is {result['test_accuracy']!r}, not in [0, 1]")
    if not isinstance(result["versions"], dict):
        raise _broken(path, f"versions is {result['versions']!r}, not an object")
    return result


def _read_model(path: Path) -> dict:
    model = _read_json(path, ("name", "layers", "parameters"))
    rows = model["layers"] if isinstance(model["layers"], list) else [None]
    for row in rows:
        if not isinstance(row, dict) or any(key not in row for key in LAYER):
            raise _broken(path, f"layers are not a list of objects with {', '.join(LAYER)}")
        kinds = (str, list, int, str)
        if not all(isinstance(row[key], kind) for key, kind in zip(LAYER, kinds, strict=True)):
            raise _broken(path, f"layer {row['layer']!r} is not text, list, whole number, text")
    if not isinstance(model["parameters"], int):
        raise _broken(path, f"parameters is {model['parameters']!r}, not a whole number")
    return model


def _read_metrics(path: Path) -> dict[str, Float[np.ndarray, "epochs"]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            rows, columns = list(table), table.fieldnames or ()
    except OSError as error:
        raise _broken(path, error.strerror or "cannot be read") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise _broken(path, f"not CSV ({error})") from error
    if missing := [name for name in METRICS if name not in columns]:
        raise _broken(path, f"lacks the columns {', '.join(missing)}")
    try:
        return {name: np.array([float(row[name] or "nan") for row in rows]) for name in METRICS}
    except ValueError as error:
        raise _broken(path, f"holds something that is no number ({error})") from error


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except OSError as error:
        raise _broken(path, error.strerror or "cannot be read") from error
    except Exception as error:
        # damage shows as an error of zipfile, of any of its decompressors, or of NumPy's parser
        raise _broken(path, f"not an archive of arrays ({error})") from error


def _read_evaluation(path: Path) -> Evaluation:
    arrays = _read_npz(path)
    needed = ("images", "labels", "probabilities", "class_names")
    if missing := [name for name in needed if name not in arrays]:
        raise _broken(path, f"lacks {', '.join(missing)}")
    images, labels, probabilities, names = (arrays[name] for name in needed)
    if labels.ndim != 1 or not len(labels) or labels.dtype.kind not in "iu":
        raise _broken(path, f"labels {labels.shape} {labels.dtype} are not (n,) integers, n > 0")
    n, classes = len(labels), len(names) if names.ndim == 1 else 0
    if images.ndim != 4 or len(images) != n or images.shape[3] not in (1, 3):
        raise _broken(path, f"images {images.shape} are not ({n}, h, w, 1 or 3)")
    if images.dtype != np.uint8:
        raise _broken(path, f"images are {images.dtype}, not uint8")
    if probabilities.shape != (n, classes) or not np.isfinite(probabilities).all():
        raise _broken(
            path, f"probabilities {probabilities.shape} are not ({n}, {classes}) finite numbers"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise _broken(path, f"labels outside 0 to {classes - 1}")
    names = [str(name) for name in names]
    return Evaluation(images, labels, probabilities, names, _groups(path, arrays, classes))


def _groups(path: Path, arrays: dict[str, np.ndarray], classes: int) -> Groups | None:
    names, of_class = arrays.get("group_names"), arrays.get("class_groups")
    if names is None and of_class is None:
        return None
    if names is None or names.ndim != 1 or names.dtype.kind != "U":
        raise _broken(path, "group_names are not the names of the groups")
    if of_class is None or of_class.shape != (classes,) or of_class.dtype.kind not in "iu":
        raise _broken(path, f"class_groups are not ({classes},) integers")
    if of_class.min() < 0 or of_class.max() >= len(names):
        raise _broken(path, f"class_groups outside 0 to {len(names) - 1}")
    return Groups([str(name) for name in names], of_class)


def _read_augmented(path: Path, classes: int) -> Augmented | None:
    if not path.exists():
        return None
    arrays = _read_npz(path)
    if missing := [k for k in ("image", "label", "versions", "labels") if k not in arrays]:
        raise _broken(path, f"lacks {', '.join(missing)}")
    image, label, versions, labels = (arrays[k] for k in ("image", "label", "versions", "labels"))
    if image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape:
        raise _broken(path, f"image {image.shape} is not (h, w, 1 or 3)")
    if versions.shape[1:] != image.shape or not len(versions):
        raise _broken(path, f"versions {versions.shape} are not images {image.shape}, one at least")
    if image.dtype != np.uint8 or versions.dtype != np.uint8:
        raise _broken(path, f"images are {image.dtype} and {versions.dtype}, not uint8")
    every = np.append(labels, label)
    if label.shape != () or labels.shape != versions.shape[:1] or every.dtype.kind not in "iu":
        raise _broken(path, "label and labels are not an integer, and one for each version")
    if every.min() < 0 or every.max() >= classes:
        raise _broken(path, f"labels outside 0 to {classes - 1}")
    return Augmented(image, int(label), versions, labels)


def _read_layers(path: Path, examples: int) -> tuple[dict, dict, int]:
    arrays = _read_npz(path)
    kernels = {k.removeprefix("kernel/"): a for k, a in arrays.items() if k.startswith("kernel/")}
    maps = {k.removeprefix("map/"): arrays[k] for k in sorted(arrays) if k.startswith("map/")}
    if any(a.ndim != 4 for a in kernels.values()) or any(
        a.ndim not in (1, 3) for a in maps.values()
    ):
        raise _broken(path, "a kernel is not (k, k, c_in, c_out), or a map not (h, w, c) or (n,)")
    if not maps:
        raise _broken(path, "lacks the maps of a test example")
    digit = arrays.get("digit")
    if digit is None or digit.shape != () or digit.dtype.kind not in "iu":
        raise _broken(path, "lacks the integer digit")
    if not 0 <= digit < examples:
        raise _broken(path, f"digit {digit} is not one of the {examples} test examples")
    return kernels, maps, int(digit)
