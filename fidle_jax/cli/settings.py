"""What a run directory says of how its run was made."""

import json
from pathlib import Path
from typing import Any

from fidle_jax.train.config import from_json, options


def read_settings(run_dir: Path) -> dict[str, Any]:
    """The flags that say what the run computed, without its seed.

    Raises:
      OSError, ValueError, TypeError: there is no config.json, or it is damaged.
    """
    settings = options(from_json(json.loads((run_dir / "config.json").read_text())))
    del settings["seed"]
    return settings


def as_flags(settings: dict[str, Any], names: list[str]) -> str:
    """Some of the settings as one would type them; those that are left open are left out."""
    return " ".join(
        f"--{name.replace('_', '-')} {_typed(settings[name])}"
        for name in names
        if settings[name] is not None
    )


def _typed(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
