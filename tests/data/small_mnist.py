"""Small archives in MNIST's format, and their checksums as the official ones."""

import gzip
import hashlib

import numpy as np

from fidle_jax.data import mnist

EXAMPLES = {"train": 60, "test": 20}


def arrays(split):
    """The images and labels of a split."""
    count = EXAMPLES[split]
    images = np.random.default_rng(count).integers(0, 256, (count, 28, 28), np.uint8)
    return images, (np.arange(count) % 10).astype(np.uint8)


def write(folder):
    """Write the four archives."""
    for split, prefix in (("train", "train"), ("test", "t10k")):
        for kind, values in zip(("images-idx3", "labels-idx1"), arrays(split), strict=True):
            header = np.array([0x800 + values.ndim, *values.shape], ">i4").tobytes()
            compressed = gzip.compress(header + values.tobytes(), mtime=0)
            (folder / f"{prefix}-{kind}-ubyte.gz").write_bytes(compressed)


def install(monkeypatch, folder):
    """Make `fidle_jax.data.mnist` expect the archives in ``folder``."""
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    contents = {split: b"".join(part.tobytes() for part in arrays(split)) for split in EXAMPLES}
    digests = {split: hashlib.sha256(content).hexdigest() for split, content in contents.items()}
    monkeypatch.setattr(mnist, "SHA256", sums)
    monkeypatch.setattr(mnist, "SPLIT_SHA256", digests)
    monkeypatch.setattr(mnist, "EXAMPLES", EXAMPLES)
