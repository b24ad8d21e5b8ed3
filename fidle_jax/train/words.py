"""A run's config as one would type it: flags and their values. Light to import."""

import dataclasses
from pathlib import Path

from fidle_jax.train.config import Config


def as_words(config: Config, defaults: Config) -> list[str]:
    """The flags, as typed, that make ``config`` of ``defaults``."""
    words = []
    for field in dataclasses.fields(Config):
        value = getattr(config, field.name)
        if value == getattr(defaults, field.name) or value is None:
            continue
        name = field.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        else:
            values = value if isinstance(value, tuple) else (value,)
            texts = [
                str(v.expanduser().absolute()) if isinstance(v, Path) else str(v) for v in values
            ]
            words += [f"--{name}", *texts]
    return words
