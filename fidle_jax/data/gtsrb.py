"""GTSRB's traffic signs in any of the course's sizes and treatments: a TFDS builder over the archives."""

import contextlib
import functools
import hashlib
import itertools
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pooch
import requests
import tensorflow_datasets as tfds

from fidle_jax.data import gtsrb_archives as archives_
from fidle_jax.data import prepared, signs
from fidle_jax.data.dataset import Dataset, Split, StoredSplit, checked
from fidle_jax.data.gtsrb_photos import each_photo
from fidle_jax.data.treatments import SET_NAMES, parse_name, treat
from fidle_jax.data.zip_archives import open_archive
from fidle_jax.errors import InputError

URL = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/"
# The published files': no other sum than MD5 is published with them.
MD5 = {
    archives_.TRAIN_IMAGES: "f33fd80ac59bff73c82d25ab499e03a3",
    archives_.TEST_IMAGES: "c7e4e6327067d32654124b0fe9e82185",
    archives_.TEST_LABELS: "fe31e9c9270bbcd7b84b7f21a9d9d9e5",
}
EXAMPLES = {"train": 39_209, "test": 12_630}

_log = logging.getLogger("fidle_jax")


class FidleGtsrb(tfds.core.GeneratorBasedBuilder):
    """The photographs by class and track, of one size and treatment, as raw bytes.

    Attributes:
        archives: the folder that a set is prepared from.
        progress: show a bar, where stderr is a terminal.
        opened: closes, in the end, what the builder opened, whatever ended it.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012 - TFDS's own
        tfds.core.BuilderConfig(name=name + suffix)
        for name, suffix in itertools.product(SET_NAMES, ("", "-roi"))
    ]
    archives: Path
    progress: bool
    opened: contextlib.ExitStack

    def _info(self) -> tfds.core.DatasetInfo:
        size, treatment, _ = _settings(self.builder_config.name)
        shape = (size, size, treat(np.zeros((2, 2, 3), np.uint8), size, treatment).shape[-1])
        features = {
            "image": tfds.features.Tensor(shape=shape, dtype=np.uint8, encoding="bytes"),
            "label": tfds.features.ClassLabel(num_classes=archives_.CLASSES),
            "track": tfds.features.Scalar(dtype=np.int64),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="The German Traffic Sign Recognition Benchmark.",
            homepage="https://benchmark.ini.rub.de",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        return {split: self._generate_examples(split) for split in EXAMPLES}

    def _generate_examples(self, split: str) -> Iterator:
        size, treatment, crop = _settings(self.builder_config.name)
        photos = each_photo(
            self.archives,
            split,
            functools.partial(treat, size=size, treatment=treatment),
            crop=crop,
            title=f"{self.builder_config.name}, {split}",
            progress=self.progress,
        )
        self.opened.enter_context(contextlib.closing(photos))
        for key, (photo, image) in enumerate(photos):
            track = -1 if photo.track is None else photo.track
            yield key, {"image": image, "label": photo.label, "track": track}


def _settings(config: str) -> tuple[int, str, bool]:
    """Size, treatment and whether photographs are cropped."""
    name = config.removesuffix("-roi")
    return *parse_name(name), name != config


def load_gtsrb(
    name: str, data_dir: Path | None, archives: Path | None = None, crop: str = "full"
) -> Dataset:
    """The set ``name``, e.g. "48x48-RGB-HE", in ``data_dir``, prepared there when first read.

    Its images of a track, frames of the same sign as a car drives by, have that track's number as
    their group.

    Args:
      name: as `fidle_jax.data.treatments.parse_name` takes it.
      data_dir: the folder of all TFDS data (default: TFDS's own).
      archives: the folder with the three archives, or with copies of the same photographs.
      crop: "full", or "roi" for the region of interest alone.

    Reading raises what `prepare` raises, and InputError where the prepared data is damaged.
    """

    title = f"GTSRB {name}"

    def builder() -> FidleGtsrb:
        prepare(name, data_dir, archives, crop)
        return _builder(name, data_dir, crop)

    def read(split: str, part: tuple[int, int]) -> Split:
        images, numbers = prepared.read(builder(), title, split, part)
        return Split(images, numbers["label"], _groups(split, numbers))

    def open_(split: str, part: tuple[int, int]) -> StoredSplit:
        numbers, read_images = prepared.open_split(builder(), title, split, part)
        return StoredSplit(numbers["label"], _groups(split, numbers), read_images)

    def check(split: str, content: Split | StoredSplit) -> None:
        if _counts(content) != archives_.expected_counts(split):
            raise prepared.damaged(title, _builder(name, data_dir, crop).data_path)

    size, treatment = parse_name(name)
    return Dataset(
        name=name,
        variant="full",
        class_names=signs.NAMES,
        image_shape=(size, size, 3 if treatment.startswith("RGB") else 1),
        train_examples=EXAMPLES["train"],
        test_examples=EXAMPLES["test"],
        read=checked(read, check),
        open=checked(open_, check),
        check=check,
        mirrored=signs.mirror_table(),
        class_groups=signs.GROUPS,
    )


def _groups(split: str, numbers: dict[str, np.ndarray]) -> np.ndarray | None:
    return numbers["track"] if split == "train" else None


def _counts(content: Split | StoredSplit) -> Counter:
    if content.groups is None:
        return Counter(content.labels.tolist())
    return Counter(zip(content.labels.tolist(), content.groups.tolist(), strict=True))


def is_prepared(name: str, data_dir: Path | None, crop: str = "full") -> bool:
    """Whether ``data_dir`` holds the whole set; what a killed preparation left does not count."""
    return prepared.is_prepared(_builder(name, data_dir, crop))


def prepared_folder(name: str, data_dir: Path | None, crop: str = "full") -> Path:
    """Where the set lies once it is prepared."""
    return Path(_builder(name, data_dir, crop).data_path)


def prepare(name: str, data_dir: Path | None, archives: Path | None, crop: str = "full") -> None:
    """Writes the set ``name`` to ``data_dir``, at once: it appears there whole, or not at all.

    Args:
      name: as of `load_gtsrb`.
      data_dir: the folder of all TFDS data.
      archives: the folder with the archives; None downloads them into ``data_dir``.
      crop: as of `load_gtsrb`.

    Raises:
      InputError: the folder cannot be written, the download fails, or the archives do not hold the
        photographs of the benchmark.
    """
    if not is_prepared(name, data_dir, crop):
        prepare_from(find_archives(archives, data_dir), name, data_dir, crop)


def prepare_from(
    folder: Path, name: str, data_dir: Path | None, crop: str = "full", progress: bool = True
) -> None:
    """As `prepare`, from a folder that `find_archives` gave; ``progress`` shows a bar on a terminal."""
    with contextlib.ExitStack() as opened:

        def builder():
            made = _builder(name, data_dir, crop)
            made.archives, made.progress, made.opened = folder, progress, opened
            return made

        how = tfds.download.DownloadConfig()
        prepared.prepare(builder, f"GTSRB {name}", how, progress=False)


def _builder(name: str, data_dir: Path | None, crop: str) -> FidleGtsrb:
    config = name if crop == "full" else f"{name}-roi"
    return prepared.open_builder(FidleGtsrb, f"GTSRB {name}", data_dir, config)


def find_archives(archives: Path | None, data_dir: Path | None) -> Path:
    """The folder of the archives: ``archives``, or one in ``data_dir`` to which they are downloaded.

    Warns where they are not the published files, byte for byte.

    Raises:
      InputError: the download fails, or an archive is missing, or no whole archive.
    """
    folder = archives or download(data_dir)
    _check_archives(folder)
    return folder


def _check_archives(folder: Path) -> None:
    copies = []
    for filename, md5 in MD5.items():
        open_archive(folder / filename).close()
        with (folder / filename).open("rb") as file:
            if hashlib.file_digest(file, "md5").hexdigest() != md5:
                copies.append(filename)
    if copies:
        _log.warning(
            "%s in %s: other than the published files; their classes, tracks and images are verified "
            "one by one instead",
            ", ".join(copies),
            folder,
        )


def download(data_dir: Path | None) -> Path:
    """The folder of the published archives, downloaded into ``data_dir`` where they are not there.

    Raises:
      InputError: the download fails.
    """
    root = Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()
    folder = root / "downloads" / FidleGtsrb.name
    pooch.get_logger().setLevel(logging.WARNING)
    try:
        for filename, md5 in MD5.items():
            bar = sys.stderr.isatty()
            pooch.retrieve(URL + filename, f"md5:{md5}", filename, folder, progressbar=bar)
    except (OSError, ValueError, requests.RequestException) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"GTSRB could not be downloaded ({reason}); try again, or give --archives DIR"
        ) from error
    return folder
