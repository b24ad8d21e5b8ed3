"""Compiled programs, kept on disk for the next run."""

import os
from pathlib import Path


def keep_programs() -> None:
    """Has JAX keep every program that it compiles; where JAX_COMPILATION_CACHE_DIR says, if it does."""
    import jax

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(_programs_dir()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _programs_dir() -> Path:
    """Where they are: one compiled on fewer cores, whose key is the same, is slower."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fidle-jax" / "xla"
    if not hasattr(os, "sched_getaffinity"):
        return cache
    return cache / f"{len(os.sched_getaffinity(0))}-cores"
