"""The page of all test errors of a setting, over its seeds."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Integer, UInt8
from PIL import Image

from fidle_jax.errors import InputError
from fidle_jax.report.html import load_template
from fidle_jax.report.tables import TEST, average_over_seeds, percent
from fidle_jax.train.run_content import Evaluation, read_evaluation


@dataclass(frozen=True)
class Guess:
    """A wrong class that is predicted for a test image."""

    name: str
    seeds: int  # number of seeds that predict it
    probability: float  # mean over these seeds


@dataclass(frozen=True)
class Error:
    """A test image that at least one seed classifies wrongly."""

    index: int
    png: bytes
    label: str
    label_probability: float  # mean over all seeds
    seeds: int  # number of seeds that make the error
    guesses: Sequence[Guess]  # the most frequent one first
    remark: str


def render_errors(runs: pd.DataFrame, remarks: Mapping[int, str], command: str) -> str:
    """Return the page as one HTML file.

    Args:
        runs: Rows of `read_runs` with the same setting.
        remarks: Maps indices of test images to remarks of a person.
        command: The command that creates the page.

    Raises:
        InputError: A run has no predictions, or the runs or the remarks belong to different test images.
    """
    first, probabilities = _read(runs)
    if wrong := [index for index in remarks if index >= len(first.labels)]:
        raise InputError(
            f"--remarks has test image {wrong[0]}, but there are only {len(first.labels):,}; "
            "give the remarks on this test set"
        )
    errors = find_errors(first, probabilities, remarks)
    counts = [error.seeds for error in errors]
    (row,) = average_over_seeds(runs).to_dict("records")
    facts = {
        "Test accuracy": f"{percent(pd.Series(row), TEST)} %",
        "Test images": f"{len(first.labels):,}",
        "Wrong in any seed": f"{len(errors):,}",
        "Wrong in all seeds": f"{counts.count(len(runs)):,}",
        "With a remark": f"{sum(bool(error.remark) for error in errors):,}",
    }
    return load_template("error_page.html.j2").render(
        title=f"Test errors: {Path(row['dataset']).name}, recipe {row['recipe']}",
        facts=facts,
        errors=errors,
        seeds=len(runs),
        parameters=row["parameters"],
        command=command,
    )


def _read(runs: pd.DataFrame) -> tuple[Evaluation, np.ndarray]:
    """Return the first run's test set, and the probabilities of all runs (seed, example, class)."""
    if files := [path for path in runs["run"] if path.is_file()]:
        raise InputError(f"{files[0]} has no predictions; --errors expects run directories")
    first, *others = (read_evaluation(path) for path in runs["run"])
    for path, other in zip(runs["run"][1:], others, strict=True):
        same = np.array_equal(first.labels, other.labels)
        if not (same and np.array_equal(first.images, other.images)):
            raise InputError(
                f"{path} has other test images than {runs['run'].iloc[0]}; --errors expects runs with the "
                "same test set"
            )
    return first, np.stack([each.probabilities for each in (first, *others)])


def find_errors(
    test: Evaluation, probabilities: np.ndarray, remarks: Mapping[int, str]
) -> list[Error]:
    """Return the errors, those of most seeds first, then those with the least probable label."""
    predicted = probabilities.argmax(axis=2)
    wrong = predicted != test.labels
    of_label = probabilities[:, np.arange(len(test.labels)), test.labels].mean(axis=0)
    order = np.lexsort((of_label, -wrong.sum(axis=0)))
    return [
        Error(
            index=int(i),
            png=_png(test.images[i]),
            label=test.class_names[test.labels[i]],
            label_probability=float(of_label[i]),
            seeds=int(wrong[:, i].sum()),
            guesses=_guesses(test, predicted[wrong[:, i], i], probabilities[wrong[:, i], i]),
            remark=remarks.get(int(i), ""),
        )
        for i in order[: wrong.any(axis=0).sum()]
    ]


def _guesses(
    test: Evaluation, predicted: Integer[np.ndarray, "seed"], probabilities: np.ndarray
) -> list[Guess]:
    found = []
    for k, count in zip(*np.unique(predicted, return_counts=True), strict=True):
        mean = float(probabilities[predicted == k, k].mean())
        found.append(Guess(test.class_names[k], int(count), mean))
    return sorted(found, key=lambda guess: (-guess.seeds, -guess.probability))


def _png(image: UInt8[np.ndarray, "height width channel"]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze(axis=2) if image.shape[2] == 1 else image).save(buffer, "PNG")
    return buffer.getvalue()
