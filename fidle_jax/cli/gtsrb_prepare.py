"""Prepare the course's data sets of traffic signs (GTSRB), and draw a page about them."""

import contextlib
import dataclasses
import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import numpy as np

from fidle_jax.cli.parse import parse_flags
from fidle_jax.cli.terminal import exit_with, start
from fidle_jax.data import SIGN_SETS, Crop
from fidle_jax.data.load import archives_folder
from fidle_jax.data.signs import SET_NAMES, parse_name
from fidle_jax.errors import InputError
from fidle_jax.files import as_input_error, write_atomically
from fidle_jax.train.config import described
from fidle_jax.train.signals import Stop

if TYPE_CHECKING:
    import pandas as pd

    from fidle_jax.report.signs import Photographs

COURSE = tuple(
    f"{size}x{size}-{treatment}"
    for treatments in (("L", "RGB"), ("L-LHE", "RGB-HE"))
    for size in (24, 48)
    for treatment in treatments
)
SIDE = 32  # pixels of the photographs on the page
TREATED = 8  # signs that the page shows in each treatment
COMMANDS = """\
for seed in 0 1 2; do for way in examples groups; do
  python experiments/gtsrb_cnn.py --model v1 --dataset 24x24-L \\
    --hold-out $way --seed $seed --run-dir runs/hold-out/$way-$seed
done; done
python experiments/gtsrb_prepare.py --runs runs/hold-out/*"""


@dataclasses.dataclass(frozen=True)
class Flags:
    """The data sets, their source, and the page."""

    datasets: tuple[str, ...] = COURSE
    """Data sets SIZExSIZE-TREATMENT with 24, 32 or 48 pixels. If this is empty, only the page is drawn."""
    crop: Crop = "full"
    """full: whole photographs; roi: only the sign."""
    archives: Annotated[Path | None, described("$FIDLE_JAX_ARCHIVES")] = None
    """Folder of the three official archives, for machines without internet."""
    data_dir: Annotated[Path | None, described("~/tensorflow_datasets")] = None
    """Folder of prepared data."""
    report: Path = Path("runs/gtsrb.html")
    """File of the page."""
    runs: tuple[Path, ...] = ()
    """Finished runs of gtsrb_cnn.py. The page compares their validation and test accuracy."""
    progress: bool = True
    """Show progress bars if stderr is a terminal."""
    debug: bool = False
    """Show the traceback of an error."""


def main(argv: list[str] | None = None) -> NoReturn:
    """Prepare the missing data sets, print one line for each, write the page, and exit."""
    exit_with(
        lambda stop: _main(stop, argv),
        "interrupted; the same command resumes with the interrupted data set",
    )


def _main(stop: Stop, argv: list[str] | None) -> int:
    flags = parse_flags(__doc__ or "", Flags(), argv)
    for name in flags.datasets:
        parse_name(name)
    start(stop, "fidle_jax.data.gtsrb", "fidle_jax.report.signs")
    from fidle_jax.data import gtsrb

    runs = _read_runs(flags.runs)
    with as_input_error(flags.report, "--report"):  # before the long work
        flags.report.parent.mkdir(parents=True, exist_ok=True)
        existed = flags.report.exists()
        flags.report.open("ab").close()
        if not existed:
            flags.report.unlink()
    folder = gtsrb.find_archives(archives_folder("gtsrb", flags.archives), flags.data_dir)
    for name in flags.datasets:
        print(_prepare(name, folder, flags))
        stop.check()
    began = time.monotonic()
    with as_input_error(flags.report, "--report"):
        write_atomically(flags.report, _draw(folder, runs, flags.progress))
    print(f"page: {flags.report} ({time.monotonic() - began:.0f} s)")
    return 0


def _read_runs(run_dirs: tuple[Path, ...]) -> "pd.DataFrame":
    """Return a table of the runs, which must be on traffic signs with a hold-out set."""
    import pandas as pd

    from fidle_jax.report.tables import VALIDATION, read_runs

    runs = read_runs(run_dirs)
    for _, run in runs.iterrows():
        run_dir = run["run"]
        if run["dataset"] not in SIGN_SETS:
            raise InputError(
                f"{run_dir} is a run on {run['dataset']}; give --runs on traffic signs"
            )
        if pd.isna(run[VALIDATION]) or run["flags"]["hold_out"] == "test":
            raise InputError(
                f"{run_dir} has no hold-out set; give runs of gtsrb_cnn.py that have one"
            )
    return runs


def _prepare(name: str, folder: Path, flags: Flags) -> str:
    """Prepare a data set, read it, and return a line about it."""
    from fidle_jax.data import gtsrb, prepared

    place = flags.data_dir, flags.crop
    done, builder = "already prepared", gtsrb.open_set(name, *place)
    if not prepared.is_prepared(builder):
        began = time.monotonic()
        gtsrb.prepare(name, flags.data_dir, lambda: folder, flags.crop, flags.progress)
        done = f"prepared in {time.monotonic() - began:.1f} s"
    size = sum(path.stat().st_size for path in Path(builder.data_path).iterdir()) / 1e6
    began = time.monotonic()
    signs = gtsrb.load_gtsrb(name, flags.data_dir, folder, flags.crop)
    for split in ("train", "test"):
        signs.read(split)
    return f"{name}: {done}, {size:.0f} MB, read in {time.monotonic() - began:.1f} s"


def _draw(folder: Path, runs: "pd.DataFrame", progress: bool) -> str:
    """Read all photographs once, and return the page about them."""
    from fidle_jax.data import signs
    from fidle_jax.report.signs import Signs, render_signs

    (train, groups), (test, _) = (_read(folder, split, progress) for split in ("train", "test"))
    return render_signs(
        Signs(
            names=signs.NAMES,
            mirrored=signs.MIRRORED,
            train=train,
            groups=groups,
            test=test,
            treated=_treat(folder, train),
            runs=runs,
            commands=COMMANDS,
        )
    )


def _read(folder: Path, split: str, progress: bool) -> tuple["Photographs", np.ndarray]:
    """Return the photographs of a split, and their tracks."""
    from fidle_jax.data.gtsrb_archives import process_photos
    from fidle_jax.report.signs import Photographs

    title = f"reading {split}"
    iterator = process_photos(folder, split, _shrink, title=title, progress=progress)
    with contextlib.closing(iterator):
        photos, found = zip(*iterator, strict=True)
    tracks = [(photo.label, photo.track if split == "train" else 0) for photo in photos]
    photographs = Photographs(
        images=np.stack([image for image, _ in found]),
        labels=np.array([photo.label for photo in photos]),
        sizes=np.array([photo.size for photo in photos]),
        digests=np.array([digest for _, digest in found]),
    )
    return photographs, np.unique(tracks, axis=0, return_inverse=True)[1]


def _shrink(pixels: np.ndarray) -> tuple[np.ndarray, str]:
    """Scale a photograph to the size of the page. Return it with a digest of the original pixels."""
    from fidle_jax.data.signs import treat

    digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
    return treat(pixels, SIDE, "RGB"), digest


def _treat(folder: Path, train: "Photographs") -> dict[str, np.ndarray]:
    """Return large signs, from bright to dark, in every size and treatment."""
    from fidle_jax.data import gtsrb_archives
    from fidle_jax.data.gtsrb_archives import open_archive
    from fidle_jax.data.signs import treat
    from fidle_jax.report.signs import evenly_spaced

    order = np.argsort(-train.brightness, kind="stable")
    side = train.sizes.min(axis=1)[order]
    chosen = evenly_spaced(order[side >= np.percentile(side, 75)], TREATED)
    photos = gtsrb_archives.read_photos(folder, "train")
    with open_archive(folder / gtsrb_archives.TRAIN_IMAGES) as archive:
        pixels = [gtsrb_archives.read_image(archive, photos[k], crop=False) for k in chosen]
    return {
        name: np.stack([treat(image, *parse_name(name)) for image in pixels]) for name in SET_NAMES
    }
