"""Labels of image files in class folders, and the accuracy on them."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from fidle_jax.data import SIGN_SETS
from fidle_jax.data.sources import SPLIT_NAMES
from fidle_jax.errors import printable
from fidle_jax.inference.load import Run
from fidle_jax.report.lesson import Table, text_table
from fidle_jax.report.style import short

MOST_CLASSES = (
    10  # in a confusion matrix; with more classes, only the commonest confusions are shown
)
MOST_CONFUSIONS = 10
MOST_LETTERS = 24  # of a class name
NAMED = 3  # unknown classes that are named in a message


class Label(NamedTuple):
    """The true class of an image."""

    text: str | None  # name of the class folder; None if the image is in none
    index: int | None  # of the class; None if the network does not know it
    counts: bool  # part of the accuracy


NO_LABEL = Label(None, None, False)


def find_labels(folder: Path, files: Sequence[Path], trained: Run) -> list[Label]:
    """Return the labels of the image files in ``folder``, from the names of its subfolders.

    If no image counts, none has a label. If there are folders such as
    train/ and test/ with class folders, only the images of test/ count. Folders of traffic signs may also
    have the index of the class as their name, as in the archives of GTSRB.
    """
    index = {_normal(name): i for i, name in enumerate(trained.class_names)}
    if trained.config.data.dataset in SIGN_SETS:
        numbers = {f"{i:0{width}d}": i for i in range(len(index)) for width in (1, 2, 5)}
        index = numbers | index
    parts = [path.relative_to(folder).parts[:-1] for path in files]
    splits = [SPLIT_NAMES.get(part[0].lower()) if len(part) > 1 else None for part in parts]
    has_splits = all(splits) and not any(_normal(part[0]) in index for part in parts)
    labels = []
    for part, split in zip(parts, splits, strict=True):
        text = part[has_splits] if len(part) > has_splits else None
        known = None if text is None else index.get(_normal(text))
        counts = known is not None and (not has_splits or "test" not in splits or split == "test")
        labels.append(Label(text, known, counts))
    return labels if any(label.counts for label in labels) else [NO_LABEL] * len(files)


def _normal(name: str) -> str:
    # macOS decomposes accents in the names of files.
    return unicodedata.normalize("NFC", name)


def summarise(
    labels: Sequence[Label], predicted: Int[np.ndarray, " example"], class_names: Sequence[str]
) -> str:
    """Return the accuracy, its confidence interval, and the confusions as text for a terminal."""
    # These imports take seconds.
    from fidle_jax.inference.evaluate import accuracy_interval
    from fidle_jax.report.confusion import commonest_confusions

    counted, classes = np.array([label.counts for label in labels]), len(class_names)
    truth = np.array([label.index for label in labels if label.counts], int)
    counts = np.bincount(classes * truth + predicted[counted], minlength=classes**2)
    counts = counts.reshape(classes, classes)
    correct, total = int(np.trace(counts)), len(truth)
    low, high = accuracy_interval(correct, total)
    lines = [
        f"\naccuracy: {100 * correct / total:.2f} % ({correct:,} of {total:,} images; 95 % confidence "
        f"interval {100 * low:.2f} % to {100 * high:.2f} %)"
    ]
    names = [short(name, MOST_LETTERS) for name in class_names]
    shown = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    confusions = commonest_confusions(counts, MOST_CONFUSIONS)
    if confusions and len(shown) <= MOST_CLASSES:
        rows = [[names[i], *(f"{n:,}" for n in counts[i, shown])] for i in shown]
        lines.append("\nconfusion matrix (rows: true classes, columns: predicted classes)")
        lines.append(text_table(Table(["", *(names[i] for i in shown)], rows)))
    elif confusions:
        rows = [[names[i], names[j], f"{n:,}"] for i, j, n in confusions]
        lines.append("\ncommonest confusions")
        lines.append(text_table(Table(["true class", "predicted class", "images"], rows, (0, 1))))
    unknown = [label.text for label in labels if label.text is not None and label.index is None]
    known = sum(label.index is not None and not label.counts for label in labels)
    named = ", ".join(printable(short(each, MOST_LETTERS)) for each in sorted(set(unknown))[:NAMED])
    others = {
        f"in folders that are no classes of the network ({named})": len(unknown),
        "outside of test/": known,
        "in no class folder": sum(label.text is None for label in labels),
    }
    if any(others.values()):
        parts = ", ".join(f"{count:,} {where}" for where, count in others.items() if count)
        lines.append(f"\nimages that are not counted: {parts}")
    return "\n".join(lines)
