"""The directory of a sweep: its plan, one run directory per trial, and the outcome of each trial.

    sweep.json  runs/TRIAL/  logs/TRIAL.log  failures/TRIAL.json  locks/TRIAL  results.sqlite

results.sqlite is computed from the run directories and may be deleted.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from fidle_jax.errors import InputError
from fidle_jax.files import (
    as_input_error,
    open_lock,
    read_json,
    reading,
    require,
    write_atomically,
    write_json,
)
from fidle_jax.train.config import Config, hyperparameters
from fidle_jax.train.run_dir import finished_result

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger("fidle_jax")

VERSION = 2
PLAN: dict[str, Any] = {
    **dict.fromkeys(("axes", "defaults", "variants"), dict),
    **dict.fromkeys(("experiment", "baseline"), str),
    **{"columns": list, "runs": int},
}
NEEDED = ("test_accuracy", "best_validation_accuracy", "train_seconds", "parameters")
TRAINING = tuple(name for name in hyperparameters(Config()) if name != "seed")
FOLDERS = ("runs", "logs", "failures", "locks")


def check_free(sweep_dir: Path, plan: dict[str, Any]) -> None:
    """Check that the directory is new or belongs to this plan. Write nothing.

    Raises:
        InputError: It contains another sweep or other files, or cannot be read.
    """
    if (sweep_dir / "sweep.json").exists():
        _check_same(sweep_dir, plan)
        return
    with as_input_error(sweep_dir, "--sweep-dir"):
        if os.path.lexists(sweep_dir) and not sweep_dir.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "Not a directory")
        found = list(sweep_dir.iterdir()) if sweep_dir.is_dir() else []
    # A sweep that was killed at its start may have left these.
    if any(path.name not in FOLDERS and path.suffix != ".part" for path in found):
        raise InputError(f"{sweep_dir} contains other files; choose another --sweep-dir")


def begin(sweep_dir: Path, plan: dict[str, Any]) -> None:
    """Create the directory of a new sweep, or check that it belongs to this plan.

    Raises:
        InputError: It contains another sweep or other files, or cannot be written.
    """
    check_free(sweep_dir, plan)
    with as_input_error(sweep_dir, "--sweep-dir"):
        for name in FOLDERS:
            (sweep_dir / name).mkdir(parents=True, exist_ok=True)
        with _exclusive(sweep_dir / "locks" / "plan"):
            if (sweep_dir / "sweep.json").exists():
                _check_same(sweep_dir, plan)
            else:
                write_json(sweep_dir / "sweep.json", {"version": VERSION} | plan)


def _check_same(sweep_dir: Path, plan: dict[str, Any]) -> None:
    wanted, found = json.loads(json.dumps({"version": VERSION} | plan)), read_plan(sweep_dir)
    pairs = [(wanted.pop(name, {}), found.pop(name, {})) for name in ("axes", "defaults")]
    names = [
        name for a, b in (*pairs, (wanted, found)) for name in a | b if a.get(name) != b.get(name)
    ]
    if names:
        raise InputError(
            f"{sweep_dir} contains another sweep; these settings differ: {', '.join(dict.fromkeys(names))}; "
            "repeat the flags that started it, or choose another --sweep-dir"
        )


def read_plan(sweep_dir: Path) -> dict[str, Any]:
    """Read sweep.json.

    Raises:
        InputError: It is missing or damaged, or has another version.
    """
    path = sweep_dir / "sweep.json"
    if not path.exists():
        raise InputError(
            f"{sweep_dir} is not a sweep directory, because it has no sweep.json; "
            "give the --sweep-dir of a sweep"
        )
    plan = read_json(path, {"version": int})
    if plan["version"] != VERSION:
        raise InputError(
            f"{path} has version {plan['version']}, expected {VERSION}; "
            "start the sweep in a new directory"
        )
    plan = read_json(path, PLAN)
    with reading(path):
        columns = [*(["variant"] if plan["variants"] else []), *plan["axes"]]
        known = columns and plan["columns"] == columns
        require(known, f"columns is {plan['columns']}; expected {columns or 'at least one axis'}")
        variants = ("", *plan["variants"].values())
        require(plan["baseline"] in variants, f"the baseline {plan['baseline']!r} is no variant")
    return plan


def mean_seconds(sweep_dir: Path) -> float | None:
    """Return the mean training time of the finished runs, or None if there are none."""
    results = map(_result, (sweep_dir / "runs").glob("*"))
    seconds = [result["train_seconds"] for result in results if result]
    return sum(seconds) / len(seconds) if seconds else None


def outcome(sweep_dir: Path, trial: str) -> str | None:
    """Describe how a trial ended: "test accuracy 98.70 %", "failed: ...", or None if it has not.

    A damaged run has not ended: resuming repairs it, or fails with the reason.
    """
    if (result := _result(sweep_dir / "runs" / trial)) is not None:
        return f"test accuracy {100 * result['test_accuracy']:.2f} %"
    reason = failures(sweep_dir, trial).get(trial)
    return None if reason is None else f"failed: {reason}"


def _result(run_dir: Path) -> dict[str, Any] | None:
    """Return the result of a run, or None if it is unfinished or damaged."""
    try:
        return finished_result(run_dir, *NEEDED)
    except InputError:
        return None


def failures(sweep_dir: Path, pattern: str = "*") -> dict[str, str]:
    """Map the trials that failed to their reasons."""
    found = {}
    for path in sorted((sweep_dir / "failures").glob(f"{pattern}.json")):
        with contextlib.suppress(InputError):  # deleted meanwhile, or damaged: the trial runs again
            found[path.stem] = read_json(path, {"reason": str})["reason"]
    return found


def write_failure(sweep_dir: Path, trial: str, status: int, reason: str) -> None:
    """Record that a trial failed."""
    content = {"trial": trial, "status": status, "reason": reason}
    write_json(sweep_dir / "failures" / f"{trial}.json", content)


def forget_failures(sweep_dir: Path) -> int:
    """Delete all recorded failures, so that these trials run again. Return their number."""
    paths = list((sweep_dir / "failures").glob("*.json"))
    for path in paths:
        path.unlink(missing_ok=True)
    return len(paths)


def claim(sweep_dir: Path, trial: str) -> IO[str] | None:
    """Lock a trial. Return the open lock file, or None if another process has the lock.

    The lock is released when all processes that inherited the file have closed it.
    """
    lock = open_lock(sweep_dir / "locks" / trial)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    except OSError as error:
        lock.close()
        message = f"{error.strerror}: a sweep needs a file system with locks"
        raise OSError(error.errno, message, lock.name) from error
    _refresh(sweep_dir / "failures", sweep_dir / "runs", sweep_dir / "runs" / trial)
    return lock


def _refresh(*folders: Path) -> None:
    """Make a network file system read again what other machines may have changed."""
    for path in folders:
        with contextlib.suppress(OSError):
            path.chmod(path.stat().st_mode)


def wait_for_runs(sweep_dir: Path, seconds: float) -> None:
    """Wait until no run is active, at most for ``seconds``."""
    deadline = time.monotonic() + seconds
    for path in (sweep_dir / "locks").iterdir():
        while (lock := claim(sweep_dir, path.name)) is None and time.monotonic() < deadline:
            time.sleep(0.1)
        if lock is not None:
            lock.close()


def read_table(sweep_dir: Path) -> "pd.DataFrame":
    """Return one row per finished run: its name, setting, variant, config.json and result.json.

    Damaged runs are left out, and runs with another recipe than the first run of their setting. A warning
    names them.
    """
    import pandas as pd

    plan = read_plan(sweep_dir)
    variants, axes = plan["variants"], dict.fromkeys(plan["axes"], object)
    rows, flags_of = [], {}
    for run_dir in sorted((sweep_dir / "runs").iterdir()):
        try:
            if not (result := finished_result(run_dir, *NEEDED)):
                continue
            config = read_json(run_dir / "config.json", {"seed": int} | axes)
        except InputError as error:
            logger.warning("a damaged run is left out: %s", error)
            continue
        setting, _, seed = run_dir.name.rpartition("-seed")
        if seed != str(config["seed"]):  # a copy would count as another seed
            logger.warning("%s is not a run of this sweep, and is left out", run_dir)
            continue
        flags = {name: config.get(name) for name in TRAINING}
        first, usual = flags_of.setdefault(setting, (run_dir.name, flags))
        if changed := [name for name, value in flags.items() if value != usual[name]]:
            what = "has" if len(changed) == 1 else "have"
            logger.warning(
                "%s is left out: %s %s changed since %s; start the sweep again in a new --sweep-dir",
                *(run_dir, ", ".join(changed), what, first),
            )
            continue
        row = {"run": run_dir.name, "setting": setting} | config | result
        if variants:
            # In result.json, the variant is that of the data set.
            row["variant"] = variants.get(setting, "")
        rows.append(row)
    return pd.json_normalize(rows)


def write_table(sweep_dir: Path) -> None:
    """Write `read_table` to the table "runs" of results.sqlite, atomically."""
    with _exclusive(sweep_dir / "locks" / "table"):
        _refresh(sweep_dir / "runs")
        table = read_table(sweep_dir)
        if table.empty:
            return
        lists = [name for name in table if table[name].map(lambda x: isinstance(x, list)).any()]
        table[lists] = table[lists].map(lambda x: json.dumps(x) if isinstance(x, list) else x)
        with contextlib.closing(sqlite3.connect(":memory:")) as database:
            table.to_sql("runs", database, index=False)
            write_atomically(sweep_dir / "results.sqlite", database.serialize())


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    with open_lock(path) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
