"""The directory of a run: made once, never overwritten, read back to go on. Light to import."""

import contextlib
import dataclasses
import datetime
import errno
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fidle_jax.errors import InputError
from fidle_jax.files import write_json
from fidle_jax.train.config import Config, check, from_json

LOCK = ".lock"


def default_run_dir(experiment: str) -> Path:
    """``runs/EXPERIMENT/UTC time``, to the millisecond: runs are begun by scripts, side by side."""
    now = datetime.datetime.now(datetime.UTC)
    time = now.strftime("%Y-%m-%dT%H-%M-%S") + f".{now.microsecond // 1000:03d}Z"
    return Path("runs") / experiment / time


def check_new(run_dir: Path) -> None:
    """Raises InputError where a new run cannot be written in ``run_dir``; touches nothing."""
    with _as_input_error(run_dir):
        if run_dir.is_dir() and not all(_is_leftover(path) for path in run_dir.iterdir()):
            what = "another run" if (run_dir / "config.json").exists() else "other files"
            raise InputError(
                f"the run directory {run_dir} holds {what}; "
                "give --resume to go on with a run, or another --run-dir"
            )
        ancestor = next(path for path in (run_dir, *run_dir.absolute().parents) if path.exists())
        if not ancestor.is_dir():
            raise InputError(f"the run directory {run_dir} cannot be made: {ancestor} is a file")
        if not os.access(ancestor, os.W_OK):
            raise PermissionError(errno.EACCES, f"no permission in {ancestor}")


def _is_leftover(path: Path) -> bool:
    """What a run leaves that was killed before its config.json, which makes it a run, was there."""
    return path.name in (LOCK, "model.json") or path.suffix == ".part"


@contextlib.contextmanager
def _as_input_error(run_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"the run directory {run_dir} cannot be used: {error.strerror}; take another --run-dir"
        ) from error


@contextlib.contextmanager
def hold(run_dir: Path) -> Iterator[None]:
    """Makes ``run_dir`` where it is not, and keeps it to this process for as long as it is held.

    Raises:
        InputError: another process holds it, or it cannot be made or written.
    """
    with _as_input_error(run_dir):
        run_dir.mkdir(parents=True, exist_ok=True)
        lock = (run_dir / LOCK).open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another process is writing the run in {run_dir}; wait for it, or take another --run-dir"
            ) from None
        for leftover in run_dir.glob(".*.part"):
            leftover.unlink()
        yield


def begin(run_dir: Path, config: dict[str, Any], model: dict[str, Any]) -> None:
    """Writes model.json and config.json of a new run in ``run_dir``, which must be held.

    Raises:
        InputError: they cannot be written, or another run was begun there in the meantime.
    """
    check_new(run_dir)
    with _as_input_error(run_dir):
        write_json(run_dir / "model.json", model)
        write_json(run_dir / "config.json", config)


def read_config(run_dir: Path, experiment: str) -> Config:
    """The config of the run of ``experiment`` in ``run_dir``.

    The archives are not taken over: once the data is prepared, nobody needs them.

    Raises:
        InputError: there is no such run, or its config.json cannot be read.
    """
    path = run_dir / "config.json"
    with _as_input_error(run_dir):
        if not path.exists():
            raise InputError(f"no run to go on with in {run_dir}: it has no config.json")
        text = path.read_text()
    try:
        fields = json.loads(text)
        config = dataclasses.replace(from_json(fields), archives=None)
        check(config)
        begun_by = fields.get("experiment", experiment)
    except (ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} cannot be read as a run's config: {reason}") from error
    if begun_by != experiment:
        raise InputError(
            f"the run in {run_dir} is one of {begun_by}.py; go on with it by that file"
        )
    return config


def finished_result(run_dir: Path) -> dict[str, Any] | None:
    """The result of a finished run: its report, written last, is there; else None.

    Raises:
        InputError: its result.json cannot be read.
    """
    if not (run_dir / "report.html").exists() or not (run_dir / "result.json").exists():
        return None
    try:
        return json.loads((run_dir / "result.json").read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{run_dir / 'result.json'} cannot be read ({error}); delete it to have it made again"
        ) from error
