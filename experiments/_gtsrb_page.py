"""The page of `gtsrb_prepare.py`: reads every photograph once, and has the report draw what it finds."""

import contextlib
import hashlib
from pathlib import Path

import numpy as np

from fidle_jax.data import gtsrb_archives, signs
from fidle_jax.data.gtsrb_photos import each_photo
from fidle_jax.data.treatments import SET_NAMES, parse_name, treat
from fidle_jax.data.zip_archives import open_archive
from fidle_jax.report.claims import Claim
from fidle_jax.report.sign_data import Photographs, Signs, TrackedPhotographs
from fidle_jax.report.traffic_signs import render_signs

SIDE = 32  # pixels; of what the page shows
TREATED = 8  # signs that are shown in each treatment
COMMANDS = """\
for seed in 0 1 2; do for way in examples groups; do
  python experiments/gtsrb_cnn.py --model v1 --dataset 24x24-L \\
    --hold-out $way --seed $seed --run-dir runs/hold-out/$way-$seed
done; done
python experiments/gtsrb_prepare.py --runs runs/hold-out/*"""


def draw(folder: Path, claims: list[Claim], progress: bool) -> str:
    """The page about the archives in ``folder``, as HTML."""
    train, test = (_photographs(folder, split, progress) for split in ("train", "test"))
    return render_signs(
        Signs(
            names=signs.NAMES,
            mirrored=signs.mirror_table(),
            train=train,
            test=test,
            treated=_treated(folder, train),
            claims=claims,
            commands=COMMANDS,
        )
    )


def _photographs(folder: Path, split: str, progress: bool) -> Photographs:
    title = f"looking at {split}"
    each = each_photo(folder, split, _look, title=title, progress=progress)
    with contextlib.closing(each):
        photos, seen = zip(*each, strict=True)
    found = Photographs(
        images=np.stack([image for image, _ in seen]),
        labels=np.array([photo.label for photo in photos]),
        sizes=np.array([photo.size for photo in photos]),
        digests=np.array([digest for _, digest in seen]),
    )
    if split == "test":
        return found
    tracks = [(photo.label, photo.track) for photo in photos]
    groups = np.unique(tracks, axis=0, return_inverse=True)[1]
    return TrackedPhotographs(**vars(found), groups=groups)


def _look(pixels: np.ndarray) -> tuple[np.ndarray, str]:
    """The photograph at the page's size, and a digest of all its pixels."""
    digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
    return treat(pixels, SIDE, "RGB"), digest


def _treated(folder: Path, train: Photographs) -> dict[str, np.ndarray]:
    """Signs from bright to dark in every size and treatment."""
    light = train.images.mean(axis=(1, 2, 3))
    order = np.argsort(-light, kind="stable")
    side = train.sizes.min(axis=1)
    large = order[side[order] >= np.percentile(side, 75)]
    chosen = large[((np.arange(TREATED) + 0.5) * len(large) / TREATED).astype(int)]
    photos = gtsrb_archives.read_photos(folder, "train")
    with open_archive(folder / gtsrb_archives.TRAIN_IMAGES) as archive:
        pixels = [gtsrb_archives.read_image(archive, photos[k], crop=False) for k in chosen]
    return {
        name: np.stack([treat(image, *parse_name(name)) for image in pixels]) for name in SET_NAMES
    }
