"""One door to every data set: the full one where it can be had, the embedded sample elsewhere."""

import logging
import os
from pathlib import Path

from fidle_jax.data.archives import check_archives, official_archives
from fidle_jax.data.dataset import Dataset
from fidle_jax.data.network import reachable
from fidle_jax.data.sample import load_sample
from fidle_jax.data.splits import check_seed
from fidle_jax.errors import InputError, check_name

DATA_CHOICES = ("auto", "full", "sample")
ARCHIVES_VARIABLE = "FIDLE_JAX_ARCHIVES"
TFDS_PREFIX = "tfds:"

_log = logging.getLogger("fidle_jax")


def load_dataset(
    name: str,
    *,
    data: str = "auto",
    archives: Path | None = None,
    data_dir: Path | None = None,
    seed: int = 0,
) -> Dataset:
    """Finds the data set ``name``. MNIST is prepared, where that has not been done, when first read.

    Args:
      name: ``"mnist"``, or ``"tfds:NAME"`` for an image classification set that TFDS knows.
      data: ``"full"``, ``"sample"`` (MNIST only: 5,000 digits, 4,000 to train on), or ``"auto"``:
        the full set if it is prepared, or its archives are given, or the network answers within
        3 s; else the sample, with a warning.
      archives: folder with the official archives of MNIST, checked whenever it is given; the
        environment variable FIDLE_JAX_ARCHIVES stands in for it.
      data_dir: where prepared data lives (default: TFDS's own folder, ``~/tensorflow_datasets``).
      seed: picks the sample's test digits; the full sets come with a test split.

    Raises:
      InputError: where the set is unknown, cannot be had or read, or the archives are not the
        official ones. Nothing has been written then, unless a download or the disk failed.
    """
    check_name("data", data, DATA_CHOICES)
    check_seed(seed)
    if name.startswith(TFDS_PREFIX):
        return _load_tfds(name, data, archives, data_dir)
    check_name("dataset", name, ["mnist", f"{TFDS_PREFIX}NAME"])
    return _load_mnist(data, archives or _archives_of_environment(), data_dir, seed)


def _archives_of_environment() -> Path | None:
    folder = os.environ.get(ARCHIVES_VARIABLE)
    return Path(folder) if folder else None


def _load_mnist(data: str, archives: Path | None, data_dir: Path | None, seed: int) -> Dataset:
    if archives is not None:
        archives = archives.expanduser()
        check_archives(archives)
    if data == "sample":
        return load_sample(seed)

    from fidle_jax.data import mnist  # imports TFDS, which takes half a second

    if archives is None and not mnist.is_prepared(data_dir) and not _network():
        return _without_full_set(data, seed)
    return mnist.load_mnist(data_dir, archives)


def _network() -> bool:
    return reachable(next(iter(official_archives().values())).url)


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


def _load_tfds(name: str, data: str, archives: Path | None, data_dir: Path | None) -> Dataset:
    if data == "sample":
        raise InputError(f"{name} has no sample, only mnist has one; use --data full")
    if archives is not None:
        raise InputError(f"archives {archives} are those of mnist, not of {name}; leave them out")

    from fidle_jax.data import tfds_sets  # imports TFDS, which takes half a second

    return tfds_sets.load_tfds_set(name.removeprefix(TFDS_PREFIX), data_dir)
