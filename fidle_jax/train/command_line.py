"""Settings of a config as flags of the command line."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fidle_jax.files import expand_user
from fidle_jax.train.config import Config


def command_line(settings: dict[str, Any]) -> list[str]:
    """Return the words that set these flags on the command line. Skip values that are None."""
    words = []
    for name, value in settings.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            values = value if isinstance(value, tuple) else (value,)
            paths = (expand_user(v).absolute() if isinstance(v, Path) else v for v in values)
            words += [f"--{flag}", *map(str, paths)]
    return words


def format_flags(settings: dict[str, Any], names: Iterable[str]) -> str:
    """Return some of the settings as text, the way they are typed as flags."""
    return " ".join(command_line({name: settings[name] for name in names}))


def changed_settings(config: Config, defaults: Config) -> dict[str, Any]:
    """Return the settings of ``config`` that differ from ``defaults``."""
    old = defaults.settings()
    return {name: value for name, value in config.settings().items() if value != old[name]}
