"""Sweeps: many runs of an experiment with different flags, and a table with one row per run."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fidle_jax.errors import InputError
from fidle_jax.sweep import results
from fidle_jax.sweep.plan import MAX_WORKERS, Range, make_sweep

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Range", "sweep"]


def sweep(
    experiment: str | Path,
    axes: Mapping[str, Sequence[Any] | Range],
    sweep_dir: str | Path,
    *,
    seeds: int = 1,
    search: str = "grid",
    samples: int = 0,
    workers: int = 1,
    retry_failed: bool = False,
    report: Callable[[str], None] = print,
    **fixed: Any,
) -> "pd.DataFrame":
    """Run every setting that the axes span with every seed, and return one row per run.

    Finished runs in ``sweep_dir`` are not repeated, so the same call resumes an interrupted sweep.

    Args:
        experiment: File of the experiment, such as "experiments/mnist_cnn.py".
        axes: Maps flags, named like the fields of `fidle_jax.train.config.Config`, to their values.
        sweep_dir: Output directory.
        seeds: As ``search``, ``samples``, ``workers`` and ``retry_failed``, a flag of experiments/sweep.py.
        report: Function that receives one line for each run that ends.
        **fixed: Flags of every run.

    Raises:
        InputError: The experiment, a flag or a value is wrong, or the directory contains another sweep.
        KeyboardInterrupt: The sweep was interrupted. The runs have saved.
        OSError: The directory cannot be written.
    """
    from fidle_jax.sweep.runner import run_here, run_local

    if not 1 <= workers <= MAX_WORKERS:
        raise InputError(f"workers is {workers}; expected 1 to {MAX_WORKERS:,}")
    settings = {"seeds": seeds, "search": search, "samples": samples}
    planned = make_sweep(sweep_dir, experiment, axes, fixed, **settings)
    results.begin(planned.folder, planned.description())
    if retry_failed:
        results.forget_failures(planned.folder)
    if workers == 1:
        run_here(planned, report)
    else:
        for reason in run_local(planned, workers, report):
            report(f"a worker was lost: {reason}")
    results.write_table(planned.folder)
    return results.read_table(planned.folder)
