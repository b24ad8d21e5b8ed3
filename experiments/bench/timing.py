"""Command lines and results of the benchmarks. Import no JAX: `peers` sets its environment first."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from fidle_jax.cli.parse import parse_flags
from fidle_jax.cli.terminal import FAILED, exit_with, fail
from fidle_jax.errors import InputError
from fidle_jax.files import write_json

Flags = TypeVar("Flags")


def save(path: Path, content: dict[str, Any]) -> None:
    """Write the measurements as JSON and print the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content)
    print(f"written: {path}")


def run(main: Callable[[Flags], None], flags: Flags, description: str) -> NoReturn:
    """Parse the command line into a copy of ``flags``, call ``main``, and exit."""

    def body(_):
        try:
            main(parse_flags(description, flags))
        except (OSError, RuntimeError) as error:
            return fail(error, FAILED)
        return 0

    exit_with(body, "interrupted")


def check_positive(flags: Any, *names: str) -> None:
    """Raise InputError unless all values of the named fields are positive."""
    for name in names:
        value = getattr(flags, name)
        for number in value if isinstance(value, tuple) else (value,):
            if not 0 < number < math.inf:
                flag = f"--{name.replace('_', '-')}"
                raise InputError(f"{flag} is {number}; it must be positive")
