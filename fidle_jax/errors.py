"""Errors that a person can act on."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """What was asked for, or the data it was asked of, is wrong.

    The message is one line: the thing, what was expected of it, and what to do.
    """


def check_name(kind: str, name: str, known: Iterable[str]) -> None:
    """Raises InputError, with the nearest names, where ``name`` is not one of ``known``."""
    known = sorted(known)
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise InputError(f"unknown {kind} {name!r}; {hint}(known: {', '.join(known)})")
