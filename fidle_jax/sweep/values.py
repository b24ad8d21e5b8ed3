"""Values of flags in the types that a config has them in. Light to import."""

import types
import typing
from pathlib import Path
from typing import Any

from fidle_jax.errors import InputError
from fidle_jax.train.config import Config

_HINTS = typing.get_type_hints(Config)
_EXPECTED = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def kind_of(name: str) -> Any:
    """The type of a config's field, where it is not None."""
    hint = _HINTS[name]
    if isinstance(hint, types.UnionType):
        hint = next(kind for kind in typing.get_args(hint) if kind is not types.NoneType)
    return hint


def typed(name: str, value: Any) -> Any:
    """``value`` as the field of that name has it: whole numbers become numbers, lists tuples.

    Raises:
      InputError: it is of another kind.
    """
    kind = kind_of(name)
    if value is None:
        return None
    if typing.get_origin(kind) is tuple:
        values = value if isinstance(value, list | tuple) else [value]
        return tuple(_one(name, float, each) for each in values)
    return _one(name, kind, value)


def _one(name: str, kind: type, value: Any) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        expected = _EXPECTED.get(kind, "a path")
        raise InputError(f"{name.replace('_', '-')}={value}: expected {expected}")
    return value
