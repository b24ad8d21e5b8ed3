"""Small archives in MNIST's format, and the project made to take them for the official ones."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
from tensorflow_datasets.core.download.checksums import UrlInfo

from fidle_jax.data import archives, load, mnist

EXAMPLES = {"train": 60, "test": 20}
_PREFIX = {"train": "train", "test": "t10k"}


def idx(values: np.ndarray, magic: int | None = None) -> bytes:
    """An uncompressed idx file of unsigned bytes."""
    header = [0x0800 + values.ndim if magic is None else magic, *values.shape]
    return np.array(header, dtype=">i4").tobytes() + values.astype(np.uint8).tobytes()


def arrays(split: str) -> tuple[np.ndarray, np.ndarray]:
    """The images and labels of a split."""
    count = EXAMPLES[split]
    images = np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    return images, (np.arange(count) % 10).astype(np.uint8)


def write(folder: Path) -> None:
    """Writes the four archives."""
    folder.mkdir(exist_ok=True)
    for split, prefix in _PREFIX.items():
        for kind, values in zip(("images-idx3", "labels-idx1"), arrays(split), strict=True):
            compressed = gzip.compress(idx(values), mtime=0)
            (folder / f"{prefix}-{kind}-ubyte.gz").write_bytes(compressed)


def install(folder: Path, base_url: str = "https://unreachable.invalid", setattr=setattr) -> None:
    """Registers the archives in ``folder`` as the official ones, at ``base_url``."""
    table = {path.name: _describe(path, base_url) for path in sorted(folder.iterdir())}
    for module in (archives, load, mnist):
        setattr(module, "official_archives", lambda: table)
    url_infos = {a.url: UrlInfo(a.size, a.sha256, a.filename) for a in table.values()}
    setattr(mnist.FidleMnist, "url_infos", url_infos)
    setattr(mnist, "EXAMPLES", EXAMPLES)
    checksums = {
        split: hashlib.sha256(b"".join(part.tobytes() for part in arrays(split))).hexdigest()
        for split in EXAMPLES
    }
    setattr(mnist, "_SHA256", checksums)


def _describe(path: Path, base_url: str) -> archives.Archive:
    content = path.read_bytes()
    count = EXAMPLES["train" if path.name.startswith("train") else "test"]
    return archives.Archive(
        filename=path.name,
        url=f"{base_url}/{path.name}",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        dimensions=(count, 28, 28) if "images" in path.name else (count,),
    )
