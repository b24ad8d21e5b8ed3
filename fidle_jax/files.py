"""Files: atomic writes, so that readers see the complete old file or the complete new one; reads; locks.

The readers validate what they read, and name the file in one line if it is damaged.
"""

import contextlib
import errno
import hashlib
import json
import os
import stat
import zipfile
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from fidle_jax.errors import InputError

DIGESTS = "SHA256SUMS"
MAX_TEXT_BYTES = 64 * 2**20
MAX_REASON = 300  # characters of a message; damaged values may be long


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write ``data`` to a temporary file in the same directory, then rename it to ``path``."""
    content = data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data
    with _replacing(path) as file:
        file.write(content)


class Parts(NamedTuple):
    """A uint8 array whose parts along the first axis are read one after the other."""

    shape: tuple[int, ...]
    parts: Iterable[np.ndarray]


def write_arrays(path: Path, **arrays: np.ndarray | Parts) -> None:
    """Write a compressed .npz file atomically."""
    with _replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                if isinstance(array, Parts):
                    header = {"descr": "|u1", "fortran_order": False, "shape": array.shape}
                    np.lib.format.write_array_header_1_0(member, header)
                    for part in array.parts:
                        member.write(np.ascontiguousarray(part))
                else:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file in the same directory, which replaces ``path`` at the end of the block."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` atomically as indented JSON."""
    write_atomically(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def sealed(content: dict[str, Any], owner: str = "") -> dict[str, Any]:
    """Return a JSON object with an entry ``checksum`` of the others and of the ``owner``.

    `read_json` verifies it.
    """
    text = owner + json.dumps(content, sort_keys=True)
    return content | {"checksum": hashlib.sha256(text.encode()).hexdigest()}


def read_json(path: Path, types: dict[str, Any], owner: str = "") -> dict[str, Any]:
    """Read a JSON object, without its ``checksum`` if it is `sealed`. NaN and Infinity become None.

    Raises:
        InputError: The file is damaged, or an entry of ``types`` does not have its type.
    """
    with reading(path):
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
        check_types(content, types)
        if (checksum := content.pop("checksum", None)) is not None:
            changed = (
                "its content does not match its checksum, so it was changed after it was written"
            )
            require(checksum == sealed(content, owner)["checksum"], changed)
        return content


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Convert every error in the block to an InputError that names ``path``.

    Damaged files raise errors of JSON, csv, zipfile, its decompressors, and NumPy.
    """
    try:
        require(path.is_file() or not path.exists(), "it is not a regular file")
        size = path.stat().st_size if path.suffix != ".npz" else 0
        require(
            size <= MAX_TEXT_BYTES, f"it has {size:,} bytes; expected at most {MAX_TEXT_BYTES:,}"
        )
        yield
    except Exception as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or repr(error)
        raise InputError(
            f"{path} cannot be read ({' '.join(reason.split())[:MAX_REASON]}); restore the file that the run "
            "wrote, or run again"
        ) from error


def require(condition: Any, problem: str) -> None:
    """Raise ValueError with the text ``problem`` unless the condition is true."""
    if not condition:
        raise ValueError(problem)


def require_names(names: Iterable[str], found: Container[str]) -> None:
    """Raise ValueError if one of ``names`` is not in ``found``."""
    missing = [name for name in names if name not in found]
    require(not missing, f"{', '.join(missing)} missing")


def check_types(content: Any, types: dict[str, Any]) -> None:
    """Raise ValueError unless ``content`` is a dictionary whose entries have these types."""
    require(isinstance(content, dict), "not a JSON object")
    require_names(types, content)
    for name, kind in types.items():
        value = content[name]
        if not isinstance(value, kind):
            shown = f"{value.dtype}{value.shape}" if hasattr(value, "dtype") else repr(value)
            raise ValueError(f"{name} is {shown}; expected {getattr(kind, '__name__', kind)}")


def write_digests(folder: Path) -> None:
    """Write SHA256SUMS of a finished run: the digests of its files apart from checkpoints and logs."""
    patterns = ("*.json", "*.csv", "*.npz", "report.html", "figures/*.png")
    paths = sorted(path for pattern in patterns for path in folder.glob(pattern))
    lines = [f"{_digest(path)}  {path.relative_to(folder)}\n" for path in paths]
    write_atomically(folder / DIGESTS, "".join(lines))


def changed_files(folder: Path) -> list[str]:
    """Return the files of a finished run that differ from SHA256SUMS, if it exists."""
    path = folder / DIGESTS
    if not path.exists():
        return []
    try:
        with reading(path):
            lines = [line.split("  ", 1) for line in path.read_text("utf-8").splitlines()]
            return [name for digest, name in lines if _digest(folder / name) != digest]
    except InputError:
        return [DIGESTS]


def _digest(path: Path) -> str:
    """Return the SHA-256 digest of a file, or "" if it is missing or cannot be read."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def expand_user(path: str | Path) -> Path:
    """Replace a leading ``~`` or ``~user``. Raise InputError if there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"{path} names no user of this machine; give another path") from error


def open_lock(path: Path) -> IO[str]:
    """Open a file for `fcntl.flock`, and create it if necessary. Raise what `open_own` raises."""
    return open_own(path, "r+")


def open_own(path: Path, mode: str) -> IO[str]:
    """Open a file in ``mode`` "r+" or "a", and create it if necessary.

    Raise OSError if it is not a regular file. The target of a symbolic link may be any file of the
    user, so it must neither be created nor changed. A named pipe would block.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    file = os.open(path, flags | (os.O_APPEND if mode == "a" else 0), 0o666)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(file, mode)


@contextlib.contextmanager
def as_input_error(path: Path, flag: str) -> Iterator[None]:
    """Convert an OSError to an InputError that names ``path`` and suggests another value of ``flag``."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path} cannot be used: {error.strerror}; choose another {flag}"
        ) from error
