"""Calls of command lines inside the test process."""

import logging
import warnings
from typing import NamedTuple

import pytest


class Done(NamedTuple):
    """Result of a command."""

    status: int
    out: str
    err: str

    def error(self) -> str:
        """Return the single line of the error message."""
        (line,) = self.err.splitlines()
        assert line.startswith("error: "), line
        return line.removeprefix("error: ")


@pytest.fixture
def call(capsys, monkeypatch):
    """``call(main, *words)`` calls a command and returns its status, output and errors."""
    logger = logging.getLogger("fidle_jax")
    handlers, propagate = logger.handlers.copy(), logger.propagate
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.delenv("FIDLE_JAX_ARCHIVES", raising=False)

    def call(main, *words) -> Done:
        try:
            with pytest.raises(SystemExit) as caught:
                main([*map(str, words)])
        finally:
            logger.handlers[:], logger.propagate = handlers, propagate
        return Done(caught.value.code, *capsys.readouterr())

    return call


def files_of(folder):
    """Return all files of a folder with their times of modification."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
