"""Run an experiment for all combinations of flags, and print a table of the results.

Flags after -- apply to every run. The same command resumes an interrupted sweep. Finished runs are
never repeated. experiments/sweep_report.py draws a page, also while the sweep is running.
"""

import contextlib
import dataclasses
import math
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NoReturn

from fidle_jax.cli.flags import Job
from fidle_jax.cli.launch import rejection_as_input_error
from fidle_jax.cli.parse import parse_flags
from fidle_jax.cli.terminal import FAILED, exit_with, fail, show_phase, start
from fidle_jax.errors import InputError, check_name, printable
from fidle_jax.errors import Range as Limits
from fidle_jax.files import as_input_error
from fidle_jax.sweep import results
from fidle_jax.sweep.plan import MAX_WORKERS, Range, Sweep, load_defaults, make_sweep
from fidle_jax.train.command_line import command_line, format_flags
from fidle_jax.train.config import SETTINGS, described
from fidle_jax.train.config_json import convert
from fidle_jax.train.signals import Stop

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
MANY_RUNS = 1000  # from which on planning takes noticeable time
MOST_LINES = 40  # number of settings that `_show_plan` prints


@dataclasses.dataclass(frozen=True)
class Flags:
    """A sweep, and where it runs."""

    experiment: str = "mnist_cnn"
    """Experiment: the name of a file in experiments/, or a path."""
    grid: tuple[str, ...] = ()
    """Axes: FLAG=VALUE,VALUE,... If a flag has several numbers, join them with colons: FLAG=0.2:0.3,0:0.
    For --search random, FLAG=LOW..HIGH is a uniform range and FLAG=LOW...HIGH a log-uniform range."""
    file: Path | None = None
    """TOML file with these flags, axes in [grid], flags of every run in [flags], and groups of flags in
    [variants]."""
    seeds: int = 1
    """Runs of each setting, with the seeds 0, 1, 2, ..."""
    sweep_dir: Annotated[Path | None, described("runs/sweeps/EXPERIMENT")] = None
    """Output directory, with a run directory for each run."""
    search: Literal["grid", "random"] = "grid"
    """grid: all combinations; random: random settings; --samples sets their number."""
    samples: int = 0
    """Number of settings of a random search."""
    workers: Annotated[int, Limits(1, MAX_WORKERS)] = 1
    """Number of parallel runs, each with its share of the cores, or a GPU. With --launch slurm, number of
    jobs in the array."""
    job: Job = dataclasses.field(default_factory=Job)
    max_runs: int = 1000
    """Largest number of runs that is accepted. It protects against mistakes in --grid."""
    retry_failed: bool = False
    """Repeat failed runs."""
    dry_run: bool = False
    """Print the plan and its estimated time without running it."""
    debug: bool = False
    """Show the traceback of an error."""


class SweepFile(NamedTuple):
    """Content of a TOML file: words for `Flags`, axes, flags of every run, and variants."""

    words: list[str]
    axes: dict[str, Any]
    fixed: dict[str, Any]
    variants: dict[str, dict[str, Any]]


def main(argv: list[str] | None = None) -> NoReturn:
    """Run a sweep and exit with its status. ``argv`` is the command line (default: sys.argv[1:])."""
    words = sys.argv[1:] if argv is None else argv
    exit_with(lambda stop: _main(stop, words), "interrupted; the same command resumes the sweep")


def _main(stop: Stop, argv: list[str]) -> int:
    end = argv.index("--") if "--" in argv else len(argv)
    words, fixed = argv[:end], argv[end + 1 :]
    flags = parse_flags(__doc__ or "", Flags(), words)
    file = SweepFile([], {}, {}, {}) if flags.file is None else read_file(flags.file)
    # The command line has priority over the file.
    flags = parse_flags(__doc__ or "", Flags(), [*file.words, *words])
    _check(flags, words)
    path = Path(flags.experiment)
    path = path if path.suffix else EXPERIMENTS / f"{path}.py"
    defaults = load_defaults(path)
    usual = defaults.settings()
    known = {name: convert(name, value) for name, value in file.fixed.items()}
    settings = parse_flags("", defaults.replace(**known), fixed).settings()
    every = {n: v for n, v in settings.items() if n in known or v != usual[n]}
    start(stop, "fidle_jax.nn.models", "fidle_jax.sweep.runner")
    axes = file.axes | parse_axes(flags.grid)
    runs = _count_runs(flags, axes, file.variants)
    with show_phase(f"planning {runs:,} runs") if runs > MANY_RUNS else contextlib.nullcontext():
        sweep = make_sweep(
            flags.sweep_dir or Path("runs/sweeps") / path.stem,
            path,
            axes,
            every,
            file.variants,
            **{name: getattr(flags, name) for name in ("seeds", "search", "samples")},
        )
    results.check_free(sweep.folder, sweep.description())
    _show_plan(sweep, flags.retry_failed)
    if flags.dry_run:
        return 0
    results.begin(sweep.folder, sweep.description())
    if flags.retry_failed:
        print(f"{results.forget_failures(sweep.folder)} failed runs start again")
    try:
        return _run(sweep, flags)
    except OSError as error:
        return fail(error, FAILED, "; solve this, then resume with --retry-failed")


def _check(flags: Flags, words: list[str]) -> None:
    if sum(word.partition("=")[0] == "--grid" for word in words) > 1:
        raise InputError("--grid is given twice; give all axes to one --grid")
    if flags.workers > 1 and flags.job.launch == "here":
        raise InputError(f"--workers {flags.workers} needs --launch local or slurm")
    flags.job.check("slurm")


def _count_runs(flags: Flags, axes: dict[str, Any], variants: dict[str, Any]) -> int:
    """Return the number of runs. Raise InputError if there are too many."""
    sizes = [1 if isinstance(values, Range) else len(values) for values in axes.values()]
    settings = flags.samples if flags.search == "random" else math.prod(sizes)
    runs = settings * max(1, len(variants)) * flags.seeds
    if runs > flags.max_runs:
        raise InputError(
            f"the sweep has {runs:,} runs, more than --max-runs {flags.max_runs:,}; give fewer values or "
            f"seeds, or --max-runs {runs}"
        )
    return runs


def parse_axes(texts: Iterable[str]) -> dict[str, Any]:
    """Parse axes such as FLAG=VALUE,VALUE and FLAG=LOW..HIGH. Three dots mean a log-uniform range.

    Raises:
        InputError: A text is not an axis, or its flag is unknown.
    """
    axes: dict[str, Any] = {}
    for text in texts:
        flag, equals, values = text.partition("=")
        if not equals:
            raise InputError(f"--grid {text}: expected FLAG=VALUE,VALUE, such as model=v1,v2")
        name = flag.strip().removeprefix("--").replace("-", "_")
        check_name("flag", name, SETTINGS)
        if name in axes:
            raise InputError(f"--grid has {flag} twice; give all its values at once")
        dots = "..." if "..." in values else ".."
        low, high = (_value(end) for end in (*values.split(dots, 1), "")[:2])
        if isinstance(low, int | float) and isinstance(high, int | float):
            axes[name] = Range(low, high, log=dots == "...")
        else:
            axes[name] = [_value(value) for value in values.split(",") if value]
    return axes


def _value(text: str) -> Any:
    """Parse a text as a number, a boolean or a list of numbers. Return other texts unchanged."""
    values = [_value(part) for part in text.split(":")] if ":" in text else []
    if values and all(isinstance(value, int | float) for value in values):
        return values
    for read in (int, float, {"true": True, "false": False}.__getitem__):
        with contextlib.suppress(ValueError, KeyError):
            return read(text)
    return text


def read_file(path: Path) -> SweepFile:
    """Read a sweep from a TOML file.

    Raises:
        InputError: The file cannot be read, or a table is wrong.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"--file {path} is not a regular file; give a TOML file")
    with as_input_error(path, "--file"):
        data = path.read_bytes()
    try:
        content = tomllib.loads(data.decode())
        str(content)  # this fails if values are too long or too deep to be shown
    except (ValueError, RecursionError) as error:
        raise InputError(f"--file {path} is not valid TOML: {error}; correct the file") from error
    tables = {name: content.pop(name, {}) for name in ("grid", "flags", "variants")}
    every = list(tables.items())
    if isinstance(tables["variants"], dict):
        every += [(f"variants.{name!r}", table) for name, table in tables["variants"].items()]
    for name, table in every:
        if not isinstance(table, dict):
            raise InputError(f"--file {path}: {name} is {table}; expected a table [{name}]")
    flags = {name: tuple(v) if isinstance(v, list) else v for name, v in content.items()}
    return SweepFile(
        words=command_line(flags),
        axes={name: _axis(name, values) for name, values in _fields(tables["grid"]).items()},
        fixed=_fields(tables["flags"]),
        variants={name: _fields(table) for name, table in tables["variants"].items()},
    )


def _fields(table: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("-", "_"): value for name, value in table.items()}


def _axis(name: str, values: Any) -> Any:
    if not isinstance(values, dict):
        return values if isinstance(values, list) else [values]
    if not {"low", "high", "log"} >= set(values) >= {"low", "high"}:
        raise InputError(f"the axis {name} is {values}; expected low, high and optionally log")
    if not isinstance(values.get("log", False), bool):
        raise InputError(f"log of the axis {name} is {values['log']!r}; expected true or false")
    return Range(**values)


def _show_plan(sweep: Sweep, retry_failed: bool) -> None:
    """Print the settings and, if some runs are finished, the estimated time of the others."""
    from fidle_jax.report.html import duration

    trials = sweep.trials
    print(f"sweep of {sweep.file.name} in {sweep.folder}")
    settings = trials[:: sweep.seeds]
    for trial in settings[:MOST_LINES]:
        words = [trial.variant] if trial.variant else []
        words += [format_flags(trial.config.settings(), sweep.axes)] if sweep.axes else []
        _print(f"  {'  '.join(words)}  x {sweep.seeds}")
    if len(settings) > MOST_LINES:
        print(f"  ... and {len(settings) - MOST_LINES} more settings")
    outcomes = [results.outcome(sweep.folder, trial.name) or "" for trial in trials]
    left = sum(not each or (retry_failed and each.startswith("failed")) for each in outcomes)
    line = f"{len(trials)} runs"
    if left < len(trials):
        line += f", {len(trials) - left} of them have ended"
    if left and (seconds := results.mean_seconds(sweep.folder)) is not None:
        line += f"; estimated remaining time, one after the other: {duration(left * seconds)}"
    print(line)


def _print(line: str, file: Any = None) -> None:
    """Print a line with values that a file or a run has written."""
    print(printable(line), file=file)


def _run(sweep: Sweep, flags: Flags) -> int:
    """Run all trials that have not ended, and print the results. Return the exit status."""
    from fidle_jax.sweep.runner import run_here, run_local, submit_to_slurm

    names = [trial.name for trial in sweep.trials]
    if None not in [results.outcome(sweep.folder, name) for name in names]:
        pass
    elif flags.job.launch == "slurm":
        with rejection_as_input_error("slurm"):
            jobs = submit_to_slurm(sweep, flags.workers, **flags.job.parameters())
        array = jobs[0].job_id.partition("_")[0]
        print(f"job array {array} with {len(jobs)} jobs; to see the queue: squeue --job {array}")
        print(f"to see the results so far: python experiments/sweep_report.py {sweep.folder}")
        return 0
    elif flags.job.launch == "here":
        run_here(sweep, _print)
    else:
        for lost in run_local(sweep, flags.workers, _print):
            _print(f"error: a worker was lost: {lost}", file=sys.stderr)
    return _summarize(sweep.folder, names)


def _summarize(sweep_dir: Path, names: list[str]) -> int:
    """Print the settings, the best first, and the failures. Return the exit status."""
    from fidle_jax.report.tables import rank_settings, settings_markdown

    results.write_table(sweep_dir)  # a worker may have been killed before it did
    table = results.read_table(sweep_dir)
    if len(table):
        plan = results.read_plan(sweep_dir)
        settings = rank_settings(table, plan["columns"], plan["baseline"])
        print(f"\n{settings_markdown(settings, plan['columns'])}\n")
    missing = set(names) - (set(table["run"]) if len(table) else set())
    failed = {k: reason for k, reason in results.failures(sweep_dir).items() if k in missing}
    left = len(names) - len(table) - len(failed)
    print(f"{len(table)} of {len(names)} runs are finished; {sweep_dir / 'results.sqlite'}")
    print(f"for a page of them: python experiments/sweep_report.py {sweep_dir}")
    for name, reason in failed.items():
        _print(f"error: {name} failed: {reason}", file=sys.stderr)
    if failed:
        print(
            f"{len(failed)} runs failed; their output is in {sweep_dir / 'logs'}; "
            "--retry-failed runs them again",
            file=sys.stderr,
        )
    if left:
        print(f"{left} runs are not finished; the same command resumes them", file=sys.stderr)
    return FAILED if failed or left else 0
