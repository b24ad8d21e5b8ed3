"""Releases of JAX that compute wrong results, crash or hang on a CPU.

README.md has the table of defects that ``tests/kernels/miscompilations.py`` finds. JAX 0.11 and later
need Python 3.12, so 0.10.1 is the newest usable release for Python 3.11. JAX 0.9 is correct but too
old: it cannot differentiate convolutions of mixed precision, and 0.9.0 cannot differentiate FFTs in
`jax.shard_map`.
"""

from __future__ import annotations

import re
import warnings

import jax
import jaxlib.version

# Bounds of the jax requirement in pyproject.toml.
LOWEST, BELOW = "0.10", "0.13"

_WRONG_BROADCASTS = "computes wrong sums of broadcast arrays on a CPU (google/XNNPACK#11243)"

EXCLUDED = {
    "0.10.2": "computes wrong sums on a CPU (jax-ml/jax#39103), or crashes (jax-ml/jax#40412)",
    "0.11.0": f"{_WRONG_BROADCASTS}, or crashes (jax-ml/jax#39257)",
    "0.11.1": f"{_WRONG_BROADCASTS}, or hangs in programs with several FFTs",
    "0.11.2": f"{_WRONG_BROADCASTS}, or hangs in programs with several FFTs",
}


class ReleaseWarning(RuntimeWarning):
    """Warning that the installed release of JAX is excluded."""


def requirement(package: str = "jax") -> str:
    """Return pip's requirement for the usable releases of ``package``, "jax" or "jaxlib"."""
    excluded = [f"!={release}" for release in EXCLUDED]
    return ",".join([f"{package}>={LOWEST}", *excluded, f"<{BELOW}"])


def release_problem(version: str = jax.__version__, package: str = "jax") -> str | None:
    """Return one line on the problem of a release of ``package``, or None if it is not excluded.

    Suffixes of the version, such as ".dev20260601" and "+cuda12", are ignored.
    """
    release = re.match(r"\d+(\.\d+)*", version)
    reason = EXCLUDED.get(release.group()) if release else None
    if reason is None:
        return None
    return (
        f"{package} {version} {reason}; expected a release without known defects; "
        f"run: pip install --upgrade '{requirement('jax')}' '{requirement('jaxlib')}'"
    )


def warn_if_excluded() -> None:
    """Issue a `ReleaseWarning` if the installed release of JAX or jaxlib is excluded."""
    # The defects are in jaxlib, and pip can combine JAX with an older jaxlib.
    problem = release_problem(jax.__version__) or release_problem(
        jaxlib.version.__version__, "jaxlib"
    )
    if problem:
        warnings.warn(problem, ReleaseWarning, stacklevel=2)
