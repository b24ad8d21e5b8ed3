"""Apply a function to chunks of images, in one process per core."""

import contextlib
import functools
import os
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import joblib
from tqdm import tqdm

from fidle_jax.errors import InputError

IDLE_SECONDS = 10  # a worker ends after this time without a task
WATCH_SECONDS = 1  # interval at which a worker checks that its parent is alive
FEW = 512  # fewer images are processed here, because workers take a second to start


def map_chunks(
    work: Callable[[Any], list[Any]],
    chunks: Iterable[Any],
    total: int,
    title: str,
    progress: bool = True,
) -> Generator[list[Any], None, None]:
    """Yield ``work(chunk)`` for each of ``chunks``, in order. ``work`` returns one result per image.

    ``work`` must be picklable. ``total`` is the number of images. With ``progress``, a bar with this title is
    shown if stderr is a terminal. Raise InputError if a process was killed.
    """
    jobs = 1 if total < FEW else joblib.cpu_count()
    run = joblib.Parallel(n_jobs=jobs, return_as="generator", idle_worker_timeout=IDLE_SECONDS)
    with tqdm(total=total, desc=title, unit="image", disable=None if progress else True) as bar:
        done = run(joblib.delayed(_work)(work, chunk, os.getpid()) for chunk in chunks)
        try:
            for results in done:
                yield results
                bar.update(len(results))
        except BrokenProcessPool as error:
            raise InputError(
                f"a process for {title} was killed, possibly for lack of memory; run again"
            ) from error
        finally:
            with warnings.catch_warnings(), contextlib.suppress(BrokenProcessPool):
                # joblib warns about unfinished tasks.
                warnings.simplefilter("ignore", UserWarning)
                done.close()


def _work(work: Callable[[Any], list[Any]], chunk: Any, parent: int) -> list[Any]:
    if os.getpid() != parent:
        _exit_after(parent)
    return work(chunk)


@functools.cache
def _exit_after(parent: int) -> None:
    """Exit this process soon after its parent. joblib's workers survive a parent that is killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
