"""Small archives in GTSRB's format: two classes, three tracks, and three test images."""

import io
import zipfile

import numpy as np
from PIL import Image

from fidle_jax.data import gtsrb, gtsrb_archives

TRACKS = (1, 2) + (0,) * 41
TEST_COUNTS = (2, 1) + (0,) * 41
SHORT_TRACK = (1, 1)
EXAMPLES = {"train": 89, "test": 3}
HEADER = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"
SIZE = (20, 16)  # width and height of each image


def install(monkeypatch):
    """Make `fidle_jax.data` expect these archives."""
    for name in ("TRACKS", "TEST_COUNTS", "SHORT_TRACK"):
        monkeypatch.setattr(gtsrb_archives, name, globals()[name])
    monkeypatch.setattr(gtsrb, "EXAMPLES", EXAMPLES)


def image(seed, size=SIZE):
    """Return random pixels."""
    width, height = size
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def ppm(pixels):
    """Encode pixels as a PPM file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PPM")
    return file.getvalue()


def row(name, label):
    """Return a line of a CSV file. The original is twice as large as the copy here."""
    return f"{name};40;32;4;2;35;29;{label}"


def members():
    """Map archives to members to bytes."""
    train, test = {}, {}
    for label, tracks in enumerate(TRACKS[:2]):
        folder, lines = f"GTSRB/Final_Training/Images/{label:05d}", [HEADER]
        for track in range(tracks):
            for frame in range(30 - ((label, track) == SHORT_TRACK)):
                name = f"{track:05d}_{frame:05d}.ppm"
                train[f"{folder}/{name}"] = ppm(image((label, track, frame)))
                lines.append(row(name, label))
        train[f"{folder}/GT-{label:05d}.csv"] = "\r\n".join(lines).encode()
    lines = [HEADER]
    for number, label in enumerate((1, 0, 0)):
        test[f"GTSRB/Final_Test/Images/{number:05d}.ppm"] = ppm(image((9, number)))
        lines.append(row(f"{number:05d}.ppm", label))
    labels = {"GT-final_test.csv": "\r\n".join(lines).encode()}
    return {
        gtsrb_archives.TRAIN_IMAGES: train,
        gtsrb_archives.TEST_IMAGES: test,
        gtsrb_archives.TEST_LABELS: labels,
    }


def write(folder, archives):
    """Write the archives to ``folder``."""
    for name, content in archives.items():
        with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in content.items():
                archive.writestr(member, data)
