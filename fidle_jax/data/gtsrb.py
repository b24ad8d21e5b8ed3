"""GTSRB's traffic signs in the course's sizes and treatments, prepared from the official archives."""

import contextlib
import functools
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from fidle_jax.data import gtsrb_archives, prepared, signs
from fidle_jax.data.dataset import AnySplit, Dataset
from fidle_jax.data.gtsrb_archives import open_archive, process_photos
from fidle_jax.data.signs import SET_NAMES, parse_name, treat

URL = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/"
# The publisher provides only MD5 checksums.
MD5 = {
    gtsrb_archives.TRAIN_IMAGES: "f33fd80ac59bff73c82d25ab499e03a3",
    gtsrb_archives.TEST_IMAGES: "c7e4e6327067d32654124b0fe9e82185",
    gtsrb_archives.TEST_LABELS: "fe31e9c9270bbcd7b84b7f21a9d9d9e5",
}
EXAMPLES = {"train": 39_209, "test": 12_630}

_log = logging.getLogger("fidle_jax")


class FidleGtsrb(prepared.RawBuilder):
    """The photographs by class and track, in one size and treatment."""

    BUILDER_CONFIGS = [  # noqa: RUF012 - a class attribute of TFDS
        tfds.core.BuilderConfig(name=name + suffix)
        for name, suffix in itertools.product(SET_NAMES, ("", "-roi"))
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        shape = _image_shape(self.builder_config.name.removesuffix("-roi"))
        return self.raw_info(shape, gtsrb_archives.CLASSES, "track")


def _image_shape(name: str) -> tuple[int, int, int]:
    size, treatment = parse_name(name)
    return size, size, 3 if treatment.startswith("RGB") else 1


def load_gtsrb(
    name: str, data_dir: Path | None, archives: Path | None = None, crop: str = "full"
) -> Dataset:
    """Return the set ``name``, e.g. "48x48-RGB-HE". ``crop`` is "full" or "roi".

    The group of a training image is its track: consecutive frames of the same sign. Reading raises what
    `prepare` raises, and InputError if the set is damaged.
    """
    return prepared.make_dataset(
        lambda: prepare(name, data_dir, lambda: find_archives(archives, data_dir), crop),
        f"GTSRB {name}",
        is_intact=lambda split, content: _counts(content) == gtsrb_archives.expected_counts(split),
        group="track",
        name=name,
        class_names=signs.NAMES,
        image_shape=_image_shape(name),
        train_examples=EXAMPLES["train"],
        test_examples=EXAMPLES["test"],
        mirrored=signs.MIRRORED,
        class_groups=signs.GROUPS,
    )


def _counts(content: AnySplit) -> Counter:
    if content.groups is None:
        return Counter(content.labels.tolist())
    return Counter(zip(content.labels.tolist(), content.groups.tolist(), strict=True))


def prepare(
    name: str,
    data_dir: Path | None,
    find_archives: Callable[[], Path],
    crop: str = "full",
    progress: bool = True,
) -> FidleGtsrb:
    """Return the builder of the set ``name``. If it is missing, write it from the archives.

    Raise what ``find_archives`` and `process_photos` raise, and InputError if the folder cannot be written.
    """
    size, treatment = parse_name(name)
    work = functools.partial(treat, size=size, treatment=treatment)
    with contextlib.ExitStack() as resources:

        def examples(folder: Path, split: str) -> Iterator[dict[str, Any]]:
            title = f"{name}, {split}"
            photos = process_photos(
                folder, split, work, crop=crop == "roi", title=title, progress=progress
            )
            resources.enter_context(contextlib.closing(photos))
            for photo, image in photos:
                track = -1 if photo.track is None else photo.track
                yield {"image": image, "label": photo.label, "track": track}

        def open_() -> FidleGtsrb:
            return open_set(name, data_dir, crop)

        return prepared.write_set(open_, f"GTSRB {name}", find_archives, examples, progress=False)


def open_set(name: str, data_dir: Path | None, crop: str = "full") -> FidleGtsrb:
    """Return the builder of the set ``name``. Its ``data_path`` is the folder of the prepared set."""
    config = name if crop == "full" else f"{name}-roi"
    return prepared.open_builder(FidleGtsrb, f"GTSRB {name}", data_dir, config)


def find_archives(archives: Path | None, data_dir: Path | None) -> Path:
    """Return the folder of the archives: ``archives``, or one in ``data_dir`` after a download.

    Raise InputError if the download failed, or an archive is missing or damaged. Log a warning for copies
    that differ from the published files.
    """
    checksums = {name: f"md5:{checksum}" for name, checksum in MD5.items()}
    folder = archives or prepared.download("GTSRB", FidleGtsrb.name, URL, checksums, data_dir)
    copies = []
    for name, checksum in MD5.items():
        open_archive(folder / name).close()
        if prepared.pooch.file_hash(str(folder / name), alg="md5") != checksum:
            copies.append(name)
    if copies:
        _log.warning(
            "%s in %s: not identical to the published files; classes, tracks and images are checked "
            "individually instead",
            ", ".join(copies),
            folder,
        )
    return folder
