"""Prepares the course's data sets of traffic signs (GTSRB), and draws a page of what is in them."""

import contextlib
import errno
import importlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fidle_jax.cli.settings import as_flags, read_settings
from fidle_jax.cli.terminal import exit_with, parse_flags, set_up_output
from fidle_jax.data import CROPS, SIGN_SETS
from fidle_jax.data.load import archives_folder
from fidle_jax.data.treatments import parse_name
from fidle_jax.errors import InputError, check_name
from fidle_jax.files import write_atomically
from fidle_jax.report.claims import Claim, read_claims
from fidle_jax.train.signals import Stop

COURSE = tuple(
    f"{size}x{size}-{treatment}"
    for treatments in (("L", "RGB"), ("L-LHE", "RGB-HE"))
    for size in (24, 48)
    for treatment in treatments
)


@dataclass(frozen=True)
class Flags:
    """Which sets to prepare, from what, and where the page goes."""

    datasets: tuple[str, ...] = COURSE
    """Sets to prepare: SIZExSIZE-TREATMENT of 24, 32 and 48 pixels; none: the page alone."""
    crop: str = "full"
    """Prepare full photographs, or roi for the sign alone."""
    archives: Path | None = None
    """Folder of the three official archives, for machines without network (or FIDLE_JAX_ARCHIVES)."""
    data_dir: Path | None = None
    """Where prepared data lives (default: that of TFDS, ~/tensorflow_datasets)."""
    report: Path = Path("runs/gtsrb.html")
    """Where the page is written."""
    runs: tuple[Path, ...] = ()
    """Finished runs of gtsrb_cnn.py, of which the page compares what validation claimed with the test."""
    progress: bool = True
    """Show progress bars; only ever where stderr is a terminal."""
    debug: bool = False
    """Show the traceback of an error."""


def main(stop: Stop) -> int:
    """Prepares what is not prepared yet, a line for each set, and writes the page."""
    flags = parse_flags(__doc__, Flags())
    for name in flags.datasets:
        parse_name(name)
    check_name("value of --crop", flags.crop, CROPS)
    set_up_output()
    # An interrupt that rises within an import may be swallowed there.
    with stop.defer():
        gtsrb = importlib.import_module("fidle_jax.data.gtsrb")
        page = importlib.import_module("_gtsrb_page")
    stop.check()
    claims = _read_claims(flags.runs)
    _check_writable(flags.report)
    folder = gtsrb.find_archives(archives_folder("gtsrb", flags.archives), flags.data_dir)
    for name in flags.datasets:
        print(_prepare(name, folder, flags))
        stop.check()
    start = time.monotonic()
    _write(flags.report, page.draw(folder, claims, flags.progress))
    print(f"page: {flags.report} ({time.monotonic() - start:.0f} s)")
    return 0


def _read_claims(runs: tuple[Path, ...]) -> list[Claim]:
    """Those of runs that can stand side by side: on signs, and in a row those that differ by their seed."""
    claims = read_claims(runs)
    first: dict[str, tuple[Path, dict[str, Any]]] = {}
    for run, claim in zip(runs, claims, strict=True):
        settings = read_settings(run)
        if settings["dataset"] not in SIGN_SETS:
            raise InputError(f"{run} is of {claim.dataset}; give --runs of traffic signs")
        other, same = first.setdefault(claim.setting, (run, settings))
        if differ := [name for name in settings if settings[name] != same[name]]:
            raise InputError(
                f"{run} ({as_flags(settings, differ)}) and {other} ({as_flags(same, differ)}) would share a "
                "row; give --runs that differ in seed, model, set, crop, epochs or hold-out alone"
            )
    return claims


def _prepare(name: str, folder: Path, flags: Flags) -> str:
    from fidle_jax.data import gtsrb

    where = flags.data_dir, flags.crop
    said = "prepared already"
    if not gtsrb.is_prepared(name, *where):
        start = time.monotonic()
        gtsrb.prepare_from(folder, name, *where, progress=flags.progress)
        said = f"prepared in {time.monotonic() - start:.1f} s"
    files = gtsrb.prepared_folder(name, *where).iterdir()
    size = sum(path.stat().st_size for path in files) / 1e6
    start = time.monotonic()
    signs = gtsrb.load_gtsrb(name, flags.data_dir, folder, flags.crop)
    for split in ("train", "test"):
        signs.read(split)
    return f"{name}: {said}, {size:.0f} MB, read in {time.monotonic() - start:.1f} s"


def _check_writable(report: Path) -> None:
    """Before all the work, rather than after it."""
    with _named(report):
        report.parent.mkdir(parents=True, exist_ok=True)
        if report.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not os.access(report.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _write(report: Path, page: str) -> None:
    with _named(report):
        write_atomically(report, page)


@contextlib.contextmanager
def _named(report: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"the page {report} cannot be written ({error.strerror}); name another file with --report"
        ) from error


if __name__ == "__main__":
    exit_with(main, "interrupted; the same command goes on, with the set that it was at")
