"""Small data sets of a user's own images, in every format."""

import gzip
import io
import struct

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from fidle_jax.data.load import load_sample


def digits(count=40):
    """Return images and labels by split: the first digits of each class of the sample."""
    sample, found = load_sample(0), {}
    for split in ("train", "test"):
        content = sample.read(split)
        rows = [np.flatnonzero(content.labels == k)[: count // 10] for k in range(10)]
        some = content.take(np.concatenate(rows))
        found[split] = some.images[..., 0], some.labels
    return found


def write_folders(path, splits):
    for split, (images, labels) in splits.items():
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            folder = path / split / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{i}.png")
    return path


def write_rgb_folders(path, splits):
    colour = {k: (np.stack([x] * 3, -1), y) for k, (x, y) in splits.items()}
    return write_folders(path, colour)


def write_csv(path, splits):
    path.mkdir()
    for split, (images, labels) in splits.items():
        lines = ["label," + ",".join(f"pixel{i}" for i in range(images[0].size))]
        for image, label in zip(images, labels, strict=True):
            lines.append(f"{label}," + ",".join(map(str, image.ravel())))
        (path / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return path


def write_npz(path, splits):
    arrays = {f"x_{split}": images for split, (images, _) in splits.items()}
    arrays |= {f"y_{split}": labels for split, (_, labels) in splits.items()}
    np.savez(path.with_suffix(".npz"), **arrays)
    return path.with_suffix(".npz")


def write_idx(path, splits):
    path.mkdir()
    for split, (images, labels) in splits.items():
        name = "t10k" if split == "test" else split
        header = struct.pack(">4B3I", 0, 0, 8, 3, *images.shape)
        (path / f"{name}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = struct.pack(">4BI", 0, 0, 8, 1, len(labels))
        content = gzip.compress(header + labels.astype(np.uint8).tobytes())
        (path / f"{name}-labels-idx1-ubyte.gz").write_bytes(content)
    return path


def write_parquet(path, splits):
    path.mkdir()
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for split, (images, labels) in splits.items():
        rows = []
        for image in images:
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG")
            rows.append({"bytes": buffer.getvalue(), "path": None})
        table = pa.table({"image": pa.array(rows, kind), "label": pa.array(labels, pa.int64())})
        parquet.write_table(table, path / f"{split}-00000-of-00001.parquet")
    return path


def write_named_files(path, splits):
    """Write a table of file names for each split, next to folders of images."""
    for split, (images, labels) in splits.items():
        (path / split).mkdir(parents=True)
        lines = ["Path;ClassId"]
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            Image.fromarray(image).save(path / split / f"{i}.png")
            lines.append(f"{split}/{i}.png;{label}")
        (path / f"{split}.csv").write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    return path


FORMATS = (
    *(write_folders, write_rgb_folders, write_csv, write_npz, write_idx, write_parquet),
    write_named_files,
)


def write_photos(path, classes=("cat", "dog"), count=6, size=(20, 16), seed=0):
    """Write class folders of random colour images."""
    rng = np.random.default_rng(seed)
    for name in classes:
        (path / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path / name / f"{i}.png")
    return path
