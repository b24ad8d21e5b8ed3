"""Errors that users can act on, and the checks that raise them."""

import difflib
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

# Larger limits are not worth mentioning in a message.
MANY = 10**9


class InputError(ValueError):
    """A wrong flag, argument or data file.

    The message is one line with three short parts: what is wrong, what was expected, what to do.
    """


class Range(NamedTuple):
    """Smallest and largest allowed value of a flag (inclusive)."""

    low: float
    high: float = MANY


def printable(text: str) -> str:
    """Escape characters that a terminal does not show but may obey, such as those of a file name."""
    return "".join(
        each.encode("unicode_escape").decode()
        if unicodedata.category(each)[0] == "C" or each in "\u2028\u2029"
        else each
        for each in text
    )


def check_name(kind: str, name: str, known: Iterable[str]) -> None:
    """Raise InputError, with the closest names, if ``name`` is not in ``known``."""
    known = list(known)
    if name in known:
        return
    known.sort()
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise InputError(f"unknown {kind} {name!r}; {hint}(known: {', '.join(known)})")


def check_range(name: str, value: float, low: float, high: float = MANY) -> None:
    """Raise InputError, naming the flag, if ``value`` is outside [low, high] or not a number."""
    if low <= value <= high:
        return
    expected = f"between {low} and {high}"
    if high >= MANY:
        expected = f"at most {high:g}" if value > high else f"at least {low}"
    raise InputError(f"--{name.replace('_', '-')} is {value}; it must be {expected}")
