"""All photographs of GTSRB's archives in turn, decoded and worked on by a process for each core."""

import contextlib
import functools
import os
import threading
import time
import warnings
import zipfile
from collections.abc import Callable, Generator, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from fidle_jax.data import gtsrb_archives
from fidle_jax.data.gtsrb_archives import Photo
from fidle_jax.data.zip_archives import open_archive
from fidle_jax.errors import InputError

CHUNK = 256  # photographs that a process works on at a time
IDLE_SECONDS = 10  # after which a process ends that has nothing to do
WATCH_SECONDS = 1  # how often it looks whether its parent is there

Work = Callable[[UInt8[np.ndarray, "height width 3"]], Any]


def each_photo(
    folder: Path, split: str, work: Work, *, crop: bool = False, title: str, progress: bool = True
) -> Generator[tuple[Photo, Any], None, None]:
    """Each photograph of a split, as `gtsrb_archives.read_photos` orders them, and what ``work`` makes of it.

    Args:
      folder: that of the archives.
      split: "train" or "test".
      work: a function of a photograph's pixels that can be pickled.
      crop: give it the region of interest alone.
      title: what the bar is called.
      progress: show a bar, where stderr is a terminal.

    Raises:
      InputError: the archives do not hold the photographs of the benchmark, or a process is killed.
    """
    photos = gtsrb_archives.read_photos(folder, split)
    path = folder / gtsrb_archives.image_archive(split)
    chunks = [photos[start : start + CHUNK] for start in range(0, len(photos), CHUNK)]
    run = joblib.Parallel(
        n_jobs=joblib.cpu_count(), return_as="generator", idle_worker_timeout=IDLE_SECONDS
    )
    with (
        open_archive(path) as archive,
        tqdm(
            total=len(photos), desc=title, unit="image", disable=None if progress else True
        ) as bar,
        _closing_quietly(run(_later(archive, chunk, crop, work) for chunk in chunks)) as done,
    ):
        try:
            for chunk, results in zip(chunks, done, strict=True):
                yield from zip(chunk, results, strict=True)
                bar.update(len(chunk))
        except BrokenProcessPool as error:
            raise InputError(
                f"a process that read {path} was killed, perhaps for want of memory; run again"
            ) from error


@contextlib.contextmanager
def _closing_quietly(done: Generator) -> Iterator[Generator]:
    """Ends the processes' work where it is not wanted any more, of which joblib would warn."""
    try:
        yield done
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            done.close()


def _later(archive: zipfile.ZipFile, photos: list[Photo], crop: bool, work: Work):
    """What a worker has to do: it gets the bytes, since to open the archive takes a second."""
    contents = [gtsrb_archives.read_photo(archive, photo) for photo in photos]
    return joblib.delayed(_work_on)(
        contents, photos, str(archive.filename), crop, work, os.getpid()
    )


def _work_on(
    contents: list[bytes], photos: list[Photo], archive: str, crop: bool, work: Work, parent: int
) -> list[Any]:
    if os.getpid() != parent:
        _end_with(parent)
    return [
        work(gtsrb_archives.decode(content, photo, crop, archive))
        for content, photo in zip(contents, photos, strict=True)
    ]


@functools.cache
def _end_with(parent: int) -> None:
    """Has this process end soon after its parent: one that is killed cannot tell joblib's workers."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
