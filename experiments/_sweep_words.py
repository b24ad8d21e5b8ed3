"""The axes of a sweep, from words to values of the config's own types; and words from a TOML file."""

import dataclasses
import tomllib
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from fidle_jax.errors import InputError, check_name
from fidle_jax.sweep.plan import Range
from fidle_jax.sweep.values import kind_of, typed
from fidle_jax.train.config import Config

_TRUTH = {"true": True, "false": False}


class Words(NamedTuple):
    """What a file says, as one would type it: flags of the sweep, its axes, flags of every run."""

    flags: list[str]
    axes: list[str]
    fixed: list[str]


def parse_axes(texts: Iterable[str]) -> dict[str, tuple[Any, ...] | Range]:
    """Axes of words FLAG=VALUE,VALUE or FLAG=LOW..HIGH; three dots: by logarithm.

    Raises:
      InputError: a word is no axis, or names no flag, or a value is not of its type.
    """
    axes: dict[str, tuple[Any, ...] | Range] = {}
    for text in texts:
        flag, equals, values = text.partition("=")
        if not equals:
            raise InputError(f"--grid {text}: expected FLAG=VALUE,VALUE, as in model=v1,v2")
        name = flag.strip().removeprefix("--").replace("-", "_")
        check_name("flag", name, [field.name for field in dataclasses.fields(Config)])
        if name in axes:
            raise InputError(f"--grid has {flag} twice; give all its values at once")
        axes[name] = _range(name, values) or tuple(
            _value(name, value) for value in values.split(",") if value
        )
    return axes


def _range(name: str, text: str) -> Range | None:
    dots = "..." if "..." in text else ".."
    low, found, high = text.partition(dots)
    if not found or not low or not high or kind_of(name) not in (int, float):
        return None
    return Range(_value(name, low), _value(name, high), log=dots == "...")


def _value(name: str, text: str) -> Any:
    """``text`` as the field has it; several numbers of one value are joined by colons."""
    kind = kind_of(name)
    if typing.get_origin(kind) is tuple:
        return tuple(typed(name, _read(part, float))[0] for part in text.split(":"))
    return typed(name, _read(text, kind))


def _read(text: str, kind: type) -> Any:
    """The value that ``text`` is, or, where it is none of that kind, ``text``."""
    try:
        return _TRUTH[text] if kind is bool else kind(text)
    except (ValueError, KeyError):
        return text


def read_file(path: Path) -> Words:
    """The words of a TOML file: flags of the sweep by name, axes in [grid] as lists of values or as
    {low, high, log}, flags of every run in [flags].

    Raises:
      InputError: it cannot be read, or an axis is neither.
    """
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise InputError(f"--file {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"--file {path} is no TOML: {error}") from error
    axes, fixed = content.pop("grid", {}), content.pop("flags", {})
    for name, table in (("grid", axes), ("flags", fixed)):
        if not isinstance(table, dict):
            raise InputError(f"--file {path}: {name} is {table}; expected a table [{name}]")
    return Words(
        flags=[word for item in content.items() for word in _flag(*item)],
        axes=[f"{name}={_axis(name, values)}" for name, values in axes.items()],
        fixed=[word for item in fixed.items() for word in _flag(*item)],
    )


def _flag(name: str, value: Any) -> list[str]:
    name = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}", *map(str, value if isinstance(value, list) else [value])]


def _axis(name: str, values: Any) -> str:
    if isinstance(values, dict):
        if not {"low", "high", "log"} >= set(values) >= {"low", "high"}:
            raise InputError(f"the axis {name} is {values}; expected low and high, and perhaps log")
        return f"{values['low']}{'...' if values.get('log') else '..'}{values['high']}"
    return ",".join(map(_text, values if isinstance(values, list) else [values]))


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ":".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
