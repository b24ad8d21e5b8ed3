"""The directory of a sweep: its plan, a run directory for each trial, and what is known of each.

    sweep.json  runs/TRIAL/  logs/TRIAL.log  failures/TRIAL.json  locks/TRIAL  results.sqlite

The run directories are the truth; the table is made of them, and may be deleted.
"""

import contextlib
import fcntl
import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pandas as pd

from fidle_jax.errors import InputError
from fidle_jax.files import write_atomically, write_json
from fidle_jax.train.run_dir import finished_result

VERSION = 1
FOLDERS = ("runs", "logs", "failures", "locks")


def check_free(sweep_dir: Path, plan: dict[str, Any]) -> None:
    """Sees that the directory is new, or that of this sweep; writes nothing.

    Raises:
      InputError: it holds another sweep, or other files, or cannot be read.
    """
    if (sweep_dir / "sweep.json").exists():
        _check_same(sweep_dir, plan)
        return
    with _usable(sweep_dir):
        found = list(sweep_dir.iterdir()) if sweep_dir.is_dir() else []
    # One that was killed as it began may have left these.
    if any(path.name not in FOLDERS and path.suffix != ".part" for path in found):
        raise InputError(f"{sweep_dir} holds other files; take another --sweep-dir")


def begin(sweep_dir: Path, plan: dict[str, Any]) -> None:
    """Makes the directory of a new sweep, or sees that it is that of this one.

    Raises:
      InputError: it holds another sweep, or other files, or cannot be written.
    """
    check_free(sweep_dir, plan)
    with _usable(sweep_dir):
        for name in FOLDERS:
            (sweep_dir / name).mkdir(parents=True, exist_ok=True)
        with _alone(sweep_dir / "locks" / "plan"):
            if (sweep_dir / "sweep.json").exists():
                _check_same(sweep_dir, plan)
            else:
                write_json(sweep_dir / "sweep.json", {"version": VERSION} | plan)


@contextlib.contextmanager
def _usable(sweep_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"the sweep's directory {sweep_dir} cannot be used: {error.strerror}; take another --sweep-dir"
        ) from error


def _check_same(sweep_dir: Path, plan: dict[str, Any]) -> None:
    wanted = json.loads(json.dumps({"version": VERSION} | plan))
    if differ := _unlike(wanted, read_plan(sweep_dir)):
        raise InputError(
            f"{sweep_dir} holds another sweep, of other {', '.join(differ)}; give the flags that began "
            "it, or take another --sweep-dir"
        )


def _unlike(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names of what differs, within objects too."""
    names = []
    for name in one | other:
        a, b = one.get(name), other.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            names += [inner for inner in _unlike(a, b) if inner not in names]
        elif a != b:
            names.append(name)
    return names


def read_plan(sweep_dir: Path) -> dict[str, Any]:
    """What sweep.json holds.

    Raises:
      InputError: there is none, it is damaged, or of a version that this one does not know.
    """
    path = sweep_dir / "sweep.json"
    try:
        plan = json.loads(path.read_text())
        version = plan["version"]
    except FileNotFoundError:
        raise InputError(f"{sweep_dir} is no sweep's directory: it has no sweep.json") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read as a sweep's plan: {error!r}") from None
    if version != VERSION:
        raise InputError(
            f"{path} is of version {version}, expected {VERSION}; go on with the version that began it"
        )
    return plan


def axes_of(sweep_dir: Path) -> list[str]:
    """The fields of a config that tell the sweep's settings apart; raises as `read_plan`."""
    plan = read_plan(sweep_dir)
    return [*plan["axes"], *(["epochs"] if plan["search"] == "halving" else [])]


def result_of(sweep_dir: Path, trial: str) -> dict[str, Any] | None:
    """The result of a trial that is finished."""
    return finished_result(sweep_dir / "runs" / trial)


def log_of(sweep_dir: Path, trial: str) -> Path:
    """The file that has what a trial prints."""
    return sweep_dir / "logs" / f"{trial}.log"


def failure_of(sweep_dir: Path, trial: str) -> dict[str, Any] | None:
    """The status and the reason of a trial that failed."""
    try:
        return json.loads((sweep_dir / "failures" / f"{trial}.json").read_text())
    except FileNotFoundError:
        return None


def all_failures(sweep_dir: Path) -> list[tuple[str, str]]:
    """Name and reason of each trial that failed."""
    names = sorted(path.stem for path in (sweep_dir / "failures").glob("*.json"))
    found = ((name, failure_of(sweep_dir, name)) for name in names)
    return [(name, failure["reason"]) for name, failure in found if failure is not None]


def outcome_of(sweep_dir: Path, trial: str) -> str | None:
    """How a trial ended, in words; None where it has not."""
    if (result := result_of(sweep_dir, trial)) is not None:
        return f"test accuracy {100 * result['test_accuracy']:.2f} %"
    failure = failure_of(sweep_dir, trial)
    return None if failure is None else f"failed: {failure['reason']}"


def write_failure(sweep_dir: Path, trial: str, status: int, reason: str) -> None:
    """Has `failure_of` say so."""
    write_json(
        sweep_dir / "failures" / f"{trial}.json",
        {"trial": trial, "status": status, "reason": reason},
    )


def forget_failures(sweep_dir: Path) -> int:
    """Has the failed trials tried again; returns how many."""
    failures = list((sweep_dir / "failures").glob("*.json"))
    for path in failures:
        path.unlink(missing_ok=True)
    return len(failures)


def claim(sweep_dir: Path, trial: str) -> IO[str] | None:
    """The trial's lock, for as long as the file is open, here or in a process that has it; or None."""
    lock = (sweep_dir / "locks" / trial).open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    except OSError as error:
        lock.close()
        raise OSError(
            error.errno, f"{error.strerror}: a sweep needs a disk with locks", lock.name
        ) from error
    _look_again(sweep_dir / "failures", sweep_dir / "runs", sweep_dir / "runs" / trial)
    return lock


def _look_again(*folders: Path) -> None:
    """Has a network's file system look again at what other machines may have changed."""
    for path in folders:
        with contextlib.suppress(OSError):
            path.chmod(path.stat().st_mode)


def wait_for_runs(sweep_dir: Path, seconds: float) -> None:
    """Returns when no run is under way any more, or after so many seconds."""
    deadline = time.monotonic() + seconds
    for path in (sweep_dir / "locks").iterdir():
        while (lock := claim(sweep_dir, path.name)) is None and time.monotonic() < deadline:
            time.sleep(0.1)
        if lock is not None:
            lock.close()


def read_table(sweep_dir: Path) -> pd.DataFrame:
    """A row for each finished run, in order of their names: its folder, the setting that it shares with its
    other seeds, and all of config.json and result.json."""
    rows = []
    for run_dir in sorted((sweep_dir / "runs").iterdir()):
        if result := finished_result(run_dir):
            config = json.loads((run_dir / "config.json").read_text())
            setting = run_dir.name.rpartition("-seed")[0]
            rows.append({"run": run_dir.name, "setting": setting} | config | result)
    return pd.json_normalize(rows)


def write_table(sweep_dir: Path) -> None:
    """Writes `read_table` to results.sqlite, table "runs"; of several processes, one after the other.

    A reader, who opens the file once, has the one before or the one after, whole.
    """
    with _alone(sweep_dir / "locks" / "table"):
        _look_again(sweep_dir / "runs")
        table = read_table(sweep_dir)
        if table.empty:
            return
        lists = [name for name in table if table[name].map(lambda x: isinstance(x, list)).any()]
        table[lists] = table[lists].map(lambda x: json.dumps(x) if isinstance(x, list) else x)
        with contextlib.closing(sqlite3.connect(":memory:")) as database:
            table.to_sql("runs", database, index=False)
            write_atomically(sweep_dir / "results.sqlite", database.serialize())


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
