"""Files: atomic writes, so that readers see the complete old file or the complete new file, and locks."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from fidle_jax.errors import InputError


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write ``data`` to a temporary file in the same directory, then rename it to ``path``."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` atomically as indented JSON."""
    write_atomically(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def open_lock(path: Path) -> IO[str]:
    """Open a file for `fcntl.flock`, and create it if necessary. Raise OSError if it is a symbolic link.

    The target of a link may be any file of the user, so it must neither be created nor changed.
    """
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+")


@contextlib.contextmanager
def as_input_error(path: Path, flag: str) -> Iterator[None]:
    """Convert an OSError to an InputError that names ``path`` and suggests another value of ``flag``."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path} cannot be used: {error.strerror}; choose another {flag}"
        ) from error
