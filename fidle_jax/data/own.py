"""A user's own images as a data set, and the test split that is held out of them."""

import functools
import itertools
import logging
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fidle_jax.data.chunks import chunks_of, decode_chunk
from fidle_jax.data.dataset import Dataset, Split, StoredSplit, stratified_split
from fidle_jax.data.duplicates import nearest_neighbour_accuracy
from fidle_jax.data.own_images import Records, Settings, check_skipped, count_of, prepare
from fidle_jax.data.sources import check_classes, find_source
from fidle_jax.data.workers import map_chunks
from fidle_jax.errors import InputError, printable
from fidle_jax.files import expand_user

TEST_FRACTION = 0.2
NAMED = 3  # classes that are named in a message

_log = logging.getLogger("fidle_jax")


def load_own(
    path: Path,
    data_dir: Path | None = None,
    settings: Settings | None = None,
    *,
    hold_out: str = "groups",
    seed: int = 0,
    announce: Callable[[str], None] = lambda text: None,
) -> Dataset:
    """Return the data set of the images in ``path``. Prepare them first if necessary.

    Without a test split, hold out a fifth of every class, chosen by ``seed``: whole groups of
    near-duplicates, or with ``hold_out`` "examples" random images. ``announce`` receives lines that describe
    what was found.

    Raises:
        InputError: There are no labelled images, too many files are damaged, or the files changed while they
            were read. Nothing was prepared.
    """
    path = expand_user(path).absolute()
    shown = printable(str(path))
    source = find_source(path, (settings or Settings()).crop == "roi")
    class_names = check_classes(path, source)
    if "test" not in source.splits:
        rare, images = min(Counter(source.splits["train"].labels).items(), key=lambda item: item[1])
        if images < 2:
            raise InputError(
                f"the class {printable(rare)!r} in {shown} has one image; expected at least 2, one for "
                "training and one for testing; add images, or remove the class"
            )
    found = prepare(path, source, class_names, settings or Settings(), data_dir, announce)
    info, arrays = found.info, found.arrays
    shape = tuple(info["image_shape"])
    rows = {split: np.arange(len(arrays[f"labels/{split}"])) for split in info["splits"]}
    grouped = hold_out != "examples"
    labels, groups = arrays["labels/train"], arrays["groups/train"]
    if given := "test" in rows:
        files = {split: split for split in rows}
    else:
        try:
            kept, held = stratified_split(labels, TEST_FRACTION, seed, groups if grouped else None)
        except InputError:
            reason = "all images of a class are near-duplicates; use --hold-out examples"
            reason = reason if grouped else "the classes are too small; add images"
            raise InputError(
                f"{shown} has no test split, and none can be held out, because {reason}, or give "
                "folders train and test"
            ) from None
        rows |= {"train": kept, "test": held}
        files = {split: "validation" if split == "validation" else "train" for split in rows}

    def open_(split: str) -> StoredSplit:
        chosen, file = rows[split], files[split]
        records = Records(found.folder, file, shape)
        some = arrays[f"groups/{file}"][chosen]
        has_groups = grouped and len(
            set(zip(arrays[f"labels/{file}"][chosen], some, strict=True))
        ) < len(some)
        return StoredSplit(
            arrays[f"labels/{file}"][chosen],
            some if has_groups else None,
            lambda wanted: records.read(chosen[wanted]),
        )

    def read(split: str) -> Split:
        stored = open_(split)
        return Split(
            stored.read_images(np.arange(len(stored.labels))), stored.labels, stored.groups
        )

    facts = _facts(found, class_names, rows, given, grouped, seed)
    announce(facts["held_out"])
    return Dataset(
        name=str(path),
        variant="full",
        class_names=class_names,
        image_shape=shape,
        train_examples=len(rows["train"]),
        test_examples=len(rows["test"]),
        validation_examples=len(rows.get("validation", ())),
        read=read,
        open=open_,
        class_counts=tuple(np.bincount(labels, minlength=len(class_names)).tolist()),
        facts=facts,
    )


def read_labelled(
    path: Path, class_names: tuple[str, ...], shape: tuple[int, int, int], settings: Settings
) -> Split:
    """Return the test split of a user's images, or all of them if there is none.

    The images are decoded for a network of these classes and image shape, and not stored.

    Raises:
        InputError: As `load_own`, or an image has a class that is not in ``class_names``.
    """
    path = expand_user(path).absolute()
    source = find_source(path, settings.crop == "roi")
    test = source.splits.get("test")
    splits = [test] if test and test.labels else list(source.splits.values())
    names = [label for split in splits for label in split.labels]
    index = {unicodedata.normalize("NFC", name): i for i, name in enumerate(class_names)}
    try:
        known = [index[unicodedata.normalize("NFC", name)] for name in names]
    except KeyError as error:
        raise InputError(
            f"{path} has the class {printable(error.args[0])!r}, which the network does not know; "
            f"expected classes of {printable(', '.join(class_names))[:300]}"
        ) from None
    images, labels, skipped = [], [], list(source.skipped)
    work = functools.partial(decode_chunk, shape, settings.resize)
    chunks = itertools.chain.from_iterable(map(chunks_of, splits))
    done = map_chunks(work, chunks, len(known), "reading images")
    for label, result in zip(known, itertools.chain.from_iterable(done), strict=True):
        if isinstance(result, str):
            skipped.append(result)
        else:
            images.append(result.pixels)
            labels.append(label)
    check_skipped(path, skipped, len(known) + len(source.skipped), settings.allow_skipped)
    if skipped:
        _log.warning("%d files are skipped, for example %s", len(skipped), printable(skipped[0]))
    return Split(np.stack(images), np.array(labels, np.int32))


def _facts(found, class_names, rows, given, grouped, seed) -> dict[str, Any]:
    """Return the description of the data for the report."""
    info, arrays = found.info, found.arrays
    labels, groups = arrays["labels/train"], arrays["groups/train"]
    pairs, counts = np.unique(np.stack([labels, groups]), axis=1, return_counts=True)
    several = counts > 1
    held = "the test split of the data" if given else "held out for testing"
    how = "whole groups of near-duplicates" if grouped else "random images"
    text = f"test: {count_of(len(rows['test']), 'image')}, {held}"
    facts: dict[str, Any] = found.facts | {
        "digest": info["key"],
        # Number of training images if groups could be split. Unlike the true number, it does not depend on
        # the seed, so all seeds have the same recipe.
        "planned_examples": len(labels) if given else round((1 - TEST_FRACTION) * len(labels)),
        "image_shape": info["image_shape"],
        "groups": int(several.sum()),
        "grouped_images": int(counts[several].sum()),
        "largest_group": int(counts.max(initial=0)),
    }
    if given:
        test = np.stack([arrays["labels/test"], arrays["groups/test"]])
        known = {tuple(pair) for pair in pairs.T.tolist()}
        facts["test_duplicates"] = sum(tuple(pair) in known for pair in test.T.tolist())
        text += f"; near-duplicates of training images among them: {facts['test_duplicates']:,}"
    else:
        text += f" ({100 * TEST_FRACTION:.0f} % of every class, {how}, seed {seed})"
        missing = set(range(len(class_names))) - set(labels[rows["test"]].tolist())
        if missing:
            names = ", ".join(printable(class_names[i]) for i in sorted(missing)[:NAMED])
            names += ", ..." if len(missing) > NAMED else ""
            text += f"; no test images of {names}: too few images, or only near-duplicates"
        if facts["groups"]:
            prints = arrays["fingerprints/train"]
            random = stratified_split(labels, TEST_FRACTION, seed)
            facts["neighbour_accuracy"] = [
                nearest_neighbour_accuracy(prints, labels, test, train)
                for train, test in ((rows["train"], rows["test"]), random)
            ]
    if facts["groups"]:
        text += (
            f"\nnear-duplicates: {count_of(facts['groups'], 'group')} with "
            f"{facts['grouped_images']:,} images, the largest with {facts['largest_group']:,}"
        )
    return facts | {"held_out": text}
