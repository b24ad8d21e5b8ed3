"""Read the config of a run from JSON, which is untrusted. `to_json` in `config.py` writes it."""

import math
from pathlib import Path
from typing import Any

from fidle_jax.errors import InputError, check_name
from fidle_jax.train.config import SETTINGS, Config

# Settings that runs of older versions do not have, with the value that changes nothing.
NEWER: dict[str, Any] = {"blur": 0.0}


def from_json(values: dict[str, Any]) -> Config:
    """Return the config that `to_json` wrote, in this version or an older one. Ignore other entries.

    Raises:
        InputError: A setting is missing or has a value of another type.
    """
    values = NEWER | values
    if missing := [name for name in SETTINGS if name not in values]:
        raise InputError(
            f"it has no {missing[0]}, so another program or version wrote it; run the experiment again"
        )
    return Config().replace(**{name: convert(name, values[name]) for name in SETTINGS})


def convert(name: str, value: Any) -> Any:
    """Return ``value`` with the type of the setting ``name``: from int to float, list to tuple.

    Raises:
        InputError: There is no such setting, or it has another type.
    """
    check_name("flag", name, SETTINGS)
    setting = SETTINGS[name]
    if value is None:
        return None
    if setting.several:
        values = value if isinstance(value, list | tuple) else [value]
        return tuple(_convert(name, setting.kind, each) for each in values)
    return _convert(name, setting.kind, value)


def _convert(name: str, kind: type, value: Any) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf  # out of the flag's range
    if kind is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        expected = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        raise InputError(
            f"{name.replace('_', '-')} is {value!r}; it must be {expected.get(kind, 'a path')}"
        )
    return value
