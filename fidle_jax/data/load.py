"""One door to every data set: the full one where it can be had, the embedded sample elsewhere."""

import logging
import os
from pathlib import Path

from fidle_jax.data.archives import check_archives, official_archives
from fidle_jax.data.dataset import Dataset
from fidle_jax.data.network import reachable
from fidle_jax.data.sample import load_sample
from fidle_jax.data.splits import check_seed
from fidle_jax.data.treatments import SET_NAMES
from fidle_jax.errors import InputError, check_name

DATA_CHOICES = ("auto", "full", "sample")
CROPS = ("full", "roi")
ARCHIVES_VARIABLE = "FIDLE_JAX_ARCHIVES"
TFDS_PREFIX = "tfds:"

_log = logging.getLogger("fidle_jax")


def load_dataset(
    name: str,
    *,
    data: str = "auto",
    archives: Path | None = None,
    data_dir: Path | None = None,
    crop: str = "full",
    seed: int = 0,
) -> Dataset:
    """Finds the data set ``name``. MNIST and GTSRB are prepared, where they are not, when first read.

    Args:
      name: ``"mnist"``; one of the course's sets of traffic signs, e.g. ``"48x48-RGB-HE"`` (see
        `fidle_jax.data.treatments`); or ``"tfds:NAME"`` for an image classification set that TFDS
        knows.
      data: ``"full"``, ``"sample"`` (MNIST only: 5,000 digits, 4,000 to train on), or ``"auto"``:
        the full set if it is prepared, or its archives are given, or the network answers within
        3 s; else the sample, with a warning.
      archives: folder with the official archives of the set, or one with a folder ``mnist`` or
        ``gtsrb`` that has them; those of MNIST are checked whenever they are given. The environment
        variable FIDLE_JAX_ARCHIVES stands in for it.
      data_dir: where prepared data lives (default: TFDS's own folder, ``~/tensorflow_datasets``).
      crop: of traffic signs: ``"full"`` photographs, or ``"roi"`` for their region of interest.
      seed: picks the sample's test digits; the full sets come with a test split.

    Raises:
      InputError: where the set is unknown, cannot be had or read, or the archives are not the
        official ones. Nothing has been written then, unless a download or the disk failed.
    """
    check_name("data", data, DATA_CHOICES)
    check_seed(seed)
    if name.startswith(TFDS_PREFIX):
        return _load_tfds(name, data, archives, data_dir)
    if name == "mnist":
        return _load_mnist(data, archives_folder("mnist", archives), data_dir, seed)
    check_name("dataset", name, ["mnist", *SET_NAMES, f"{TFDS_PREFIX}NAME"])
    return _load_gtsrb(name, data, archives_folder("gtsrb", archives), data_dir, crop)


def archives_folder(name: str, folder: Path | None) -> Path | None:
    """The folder of the archives of ``name``, "mnist" or "gtsrb": as given, or as the environment has it.

    Where the folder has one of that name within it, that one; None where there is neither.
    """
    if folder is None and os.environ.get(ARCHIVES_VARIABLE):
        folder = Path(os.environ[ARCHIVES_VARIABLE])
    if folder is None:
        return None
    folder = folder.expanduser()
    return folder / name if (folder / name).is_dir() else folder


def _load_mnist(data: str, archives: Path | None, data_dir: Path | None, seed: int) -> Dataset:
    if archives is not None:
        check_archives(archives)
    if data == "sample":
        return load_sample(seed)
    if archives is None and not _mnist_can_be_had(data_dir):
        return _without_full_set(data, seed)

    from fidle_jax.data import mnist

    return mnist.load_mnist(data_dir, archives)


def mnist_variant(data: str, archives: Path | None, data_dir: Path | None) -> str:
    """What `load_dataset` would find of MNIST, "full" or "sample"; nothing is prepared."""
    if data == "auto" and archives_folder("mnist", archives) is None:
        return "full" if _mnist_can_be_had(data_dir) else "sample"
    return "sample" if data == "sample" else "full"


def _mnist_can_be_had(data_dir: Path | None) -> bool:
    from fidle_jax.data import mnist  # imports TFDS, which takes half a second

    official = next(iter(official_archives().values()))
    return mnist.is_prepared(data_dir) or reachable(official.url)


def _without_full_set(data: str, seed: int) -> Dataset:
    if data == "full":
        raise InputError(
            "the full MNIST set is not prepared, and no network answers; give the folder with its "
            f"four .gz files as --archives DIR or in {ARCHIVES_VARIABLE}"
        )
    _log.warning(
        "MNIST is not prepared, and no network answers: using the embedded sample of 5,000 digits "
        "(for the full set, give the folder with its four .gz files: --archives DIR)"
    )
    return load_sample(seed)


def _load_gtsrb(
    name: str, data: str, archives: Path | None, data_dir: Path | None, crop: str
) -> Dataset:
    check_name("value of --crop", crop, CROPS)
    if data == "sample":
        raise InputError(f"{name} has no sample, only mnist has one; use --data full")

    from fidle_jax.data import gtsrb  # imports TFDS, which takes half a second

    if (
        archives is None
        and not gtsrb.is_prepared(name, data_dir, crop)
        and not reachable(gtsrb.URL)
    ):
        raise InputError(
            f"GTSRB {name} is not prepared, and no network answers; give the folder with its three "
            f".zip files as --archives DIR or in {ARCHIVES_VARIABLE}"
        )
    return gtsrb.load_gtsrb(name, data_dir, archives, crop)


def _load_tfds(name: str, data: str, archives: Path | None, data_dir: Path | None) -> Dataset:
    if data == "sample":
        raise InputError(f"{name} has no sample, only mnist has one; use --data full")
    if archives is not None:
        raise InputError(f"archives {archives} are those of mnist, not of {name}; leave them out")

    from fidle_jax.data import tfds_sets  # imports TFDS, which takes half a second

    return tfds_sets.load_tfds_set(name.removeprefix(TFDS_PREFIX), data_dir)
