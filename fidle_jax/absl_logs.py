"""What libraries log by absl."""

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def only_errors() -> Iterator[None]:
    """Within it, absl's warnings, which tell a user nothing, are left out."""
    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.ERROR)
    try:
        yield
    finally:
        absl.setLevel(level)
