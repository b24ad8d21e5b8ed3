"""The directory of a run: made once, never overwritten, read back to go on. Light to import."""

import datetime
import json
import os
from pathlib import Path
from typing import Any

from fidle_jax.errors import InputError
from fidle_jax.train.config import Config, from_json


def write_beside(path: Path, content: str | bytes) -> None:
    """Writes ``content`` under another name, then renames: ``path`` is the old file or the new one."""
    data = content.encode() if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any) -> None:
    """Writes ``content`` as indented JSON, by `write_beside`."""
    write_beside(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def default_run_dir(experiment: str) -> Path:
    """``runs/EXPERIMENT/UTC time``, with a number behind it where that is taken."""
    time = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    base = Path("runs") / experiment / time
    number, path = 1, base
    while path.exists():
        number += 1
        path = base.with_name(f"{time}-{number}")
    return path


def check_new(run_dir: Path) -> None:
    """Raises InputError where a new run cannot be written in ``run_dir``; touches nothing."""
    if run_dir.is_dir() and any(run_dir.iterdir()):
        what = "another run" if (run_dir / "config.json").exists() else "other files"
        raise InputError(
            f"the run directory {run_dir} holds {what}; "
            "give --resume to go on with a run, or another --run-dir"
        )
    ancestor = next(path for path in (run_dir, *run_dir.absolute().parents) if path.exists())
    if not ancestor.is_dir():
        raise InputError(f"the run directory {run_dir} cannot be made: {ancestor} is a file")
    if not os.access(ancestor, os.W_OK):
        raise InputError(
            f"the run directory {run_dir} cannot be written: no permission in {ancestor}"
        )


def create(run_dir: Path, config: dict[str, Any], model: dict[str, Any]) -> None:
    """Makes ``run_dir`` with config.json and model.json in it.

    Raises:
        InputError: it cannot be written.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        write_json(run_dir / "model.json", model)
        write_json(run_dir / "config.json", config)
    except OSError as error:
        raise InputError(
            f"the run directory {run_dir} cannot be written: {error.strerror}"
        ) from error


def read_config(run_dir: Path) -> Config:
    """The config of the run in ``run_dir``.

    Raises:
        InputError: there is no run, or its config.json cannot be read.
    """
    path = run_dir / "config.json"
    if not path.exists():
        raise InputError(f"no run to go on with in {run_dir}: it has no config.json")
    try:
        return from_json(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} cannot be read as a run's config: {error}") from error


def finished_result(run_dir: Path) -> dict[str, Any] | None:
    """The result of a finished run: its report, written last, is there; else None."""
    if not (run_dir / "report.html").exists() or not (run_dir / "result.json").exists():
        return None
    return json.loads((run_dir / "result.json").read_text())
