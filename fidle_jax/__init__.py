"""Convolutional networks of the Fidle course in functional JAX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fidle_jax.inference.load import Trained

__version__ = "0.1.0"


def load(run_dir: str | Path) -> Trained:
    """Load the network of a finished run (see `fidle_jax.inference.load.load`)."""
    # Importing this package must be fast, so JAX is only imported here.
    from fidle_jax.inference.load import load as load_run

    return load_run(run_dir)
