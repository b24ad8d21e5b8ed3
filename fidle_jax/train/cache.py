"""JAX's persistent compilation cache."""

import os
from pathlib import Path

from fidle_jax.errors import InputError


def enable_compilation_cache() -> None:
    """Enable JAX's persistent compilation cache for every program.

    The environment variable JAX_COMPILATION_CACHE_DIR overrides the directory.
    """
    import jax

    given = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    cache = given or str(compilation_cache_dir())
    if cache != cache.encode(errors="replace").decode():
        raise InputError(
            f"the compilation cache {cache} has a name that is not UTF-8; set "
            "JAX_COMPILATION_CACHE_DIR to another directory"
        )
    if not given:
        jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def compilation_cache_dir() -> Path:
    """Return the default directory of the compilation cache, one for each number of cores.

    JAX's cache keys don't contain the number of cores, but programs compiled on fewer cores are slower.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fidle-jax" / "xla"
    if not hasattr(os, "sched_getaffinity"):
        return cache
    return cache / f"{len(os.sched_getaffinity(0))}-cores"
