"""Selection of a method: the cheapest one for the nearest measured problem.

The measurements in ``auto.tsv`` and ``auto_avx2.tsv`` are forward and backward passes on a CPU with and
without AVX-512, in a compiled loop and called from Python, and the time to compile them.
``experiments/bench/kernels.py`` writes the files. The rows of a `Table` that `tuned` makes active come
first. Other devices than a CPU use only such rows, for exactly their problem.

The cheapest method has the smallest sum of compile time and run time, in a training in which the fastest
method runs for a tenth of `RUN_SECONDS`. A method is eligible if it

- supports the geometry, and does not unroll a large window;
- has rounding errors relative to the values in the window;
- needs at most `MEMORY_LIMIT` bytes of temporary memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.resources
import math
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jaxlib.version
from jax._src import core as jax_core

from fidle_jax.kernels import fused, winograd
from fidle_jax.kernels.chunks import SLAB_BYTES
from fidle_jax.kernels.geometry import ConvGeometry
from fidle_jax.kernels.methods import conv_methods, conv_pool_methods
from fidle_jax.kernels.rows import Problem, Row, read_rows, write_rows

TABLES = ("auto.tsv", "auto_avx2.tsv")  # for CPUs with and without AVX-512
VARIABLE = "FIDLE_JAX_TUNING"  # environment variable: path of a table
UNKNOWN_BATCH = 64  # replaces a symbolic batch size (`jax.export`)

RUN_SECONDS = 60.0  # expected run time of a program
LAYERS = 10  # among which the run time is divided

# The other methods unroll the window, so their compile time grows with it.
NOT_UNROLLED = ("xla", "forward", "fft", "separate")
MOST_UNROLLED = 128  # values of a window: a little more than the largest that was measured
POOL_METHODS = ("xla", "slices", "pallas")
VECTORS = ("avx512f", "avx2", "avx", "sse4_2", "sve", "asimd")  # features of a CPU, best first

# Bytes of one example's intermediate arrays. "im2col" divides one example, "xla" and "forward" need none.
MEMORY_LIMIT = SLAB_BYTES

# JAX does not share what it compiles with other values of these contexts.
_active = jax.make_user_context(None)  # the `Table` of `tuned`
_recorder = jax.make_user_context(None)  # function that is called with each problem


@dataclasses.dataclass(frozen=True)
class Table:
    """Measurements of the methods on one device, for the problems of a program; see `kernels.tune`.

    `str` formats the times of all methods, and the method selected for a run of `RUN_SECONDS`.
    """

    rows: tuple[Row, ...]
    device: str  # of `device_name`
    versions: str  # of `versions`
    date: str

    def __hash__(self) -> int:
        return hash(
            (self.device, self.versions, self.date, tuple(row.problem for row in self.rows))
        )

    def __str__(self) -> str:
        lines = [f"{self.device}; {self.versions}; {self.date}"]
        for row in self.rows:
            selected = cheapest([row], row.problem)
            times = [f"{method} {time:.4g}" for method, time in row.milliseconds.items()]
            lines.append(f"  {row.problem}: {selected}; ms in a loop: {', '.join(times)}")
        return "\n".join(lines)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table to a text file."""
        header = "".join(f"# {name}: {getattr(self, name)}\n" for name in _HEADER)
        unfinished = f"{os.fspath(path)}.{os.getpid()}"
        Path(unfinished).write_text(header + write_rows(self.rows), encoding="utf-8")
        os.replace(unfinished, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Table:
        """Read a table that `save` wrote.

        Raises:
            OSError: The file cannot be read.
            ValueError: The file does not contain a valid table.
        """
        try:
            *header, text = Path(path).read_text(encoding="utf-8").split("\n", len(_HEADER))
            values = dict(line.removeprefix("# ").split(": ", 1) for line in header)
            if tuple(values) != _HEADER:
                raise ValueError(f"the first lines are not {', '.join(_HEADER)}")
            return cls(read_rows(text), **values)
        except ValueError as error:
            raise ValueError(
                f"{os.fspath(path)} is not a tuning table: {error}; expected a file of Table.save; "
                "write it again with kernels.tune"
            ) from None

    def check(self) -> None:
        """Raise ValueError if the table was measured on another device or with another version of JAX."""
        for name, value, here in (
            ("device", self.device, device_name()),
            ("version", self.versions, versions()),
        ):
            if value != here:
                raise ValueError(
                    f"the tuning table is for another {name}: {value}; expected {here}; "
                    "measure it here with kernels.tune"
                )


_HEADER = tuple(field.name for field in dataclasses.fields(Table) if field.name != "rows")


@contextlib.contextmanager
def tuned(table: Table | str | os.PathLike[str]) -> Iterator[Table]:
    """Select methods by ``table``, or its file, in all that this thread compiles in the context.

    Functions that were compiled outside of the context are compiled again. The environment variable
    FIDLE_JAX_TUNING, the path of a file, does the same for a whole process. Convolutions and poolings of
    other packages are replaced only by `accelerate`. Register your own methods before.

    Raises:
        OSError: The file cannot be read.
        RuntimeError: JAX traces a function, so the context would end before compilation.
        ValueError: The file is not valid, or the table is for another device or version of JAX.
    """
    require_no_trace("tuned", "enter it there")
    table = table if isinstance(table, Table) else Table.load(table)
    table.check()
    with _active(table):
        yield table


def active_table() -> Table | None:
    """Return the table of `tuned`, or that of the environment variable, or None."""
    return _active.value or _table_of_variable(os.environ.get(VARIABLE))


@functools.lru_cache(maxsize=1)
def _table_of_variable(path):
    if not path:
        return None
    try:
        table = Table.load(path)
        table.check()
    except (OSError, ValueError) as error:
        raise ValueError(f"{VARIABLE}={path}: {error}; or unset the variable") from None
    return table


@contextlib.contextmanager
def recorded_problems() -> Iterator[dict[Problem, float]]:
    """Return the problems for which this thread selects methods in the context, and the expected seconds."""
    problems: dict[Problem, float] = {}

    def record(problem, seconds):
        problems[problem] = seconds

    with _recorder(record):
        yield problems


def is_recording() -> bool:
    """Return True inside of `recorded_problems`."""
    return _recorder.value is not None


def require_no_trace(name: str, advice: str) -> None:
    """Raise RuntimeError if JAX traces a function, so the context ``name`` would end before compilation."""
    if not jax_core.trace_state_clean():
        raise RuntimeError(
            f"{name}() has no effect inside of a function that JAX traces; expected it around the call of "
            f"the compiled function; {advice}"
        )


def default_device() -> Any:
    """Return the device that JAX computes on by default."""
    device: Any = jax.config.jax_default_device
    return device if isinstance(device, jax.Device) else jax.local_devices(backend=device)[0]


def device_name() -> str:
    """Describe the default device by all that measured times depend on.

    On a CPU these are the model, the usable cores, the vector features and the options of XLA for a CPU.
    """
    device = default_device()
    if device.platform != "cpu":
        return f"{device.platform} {device.device_kind}"
    features = read_cpu_info("flags", "Features").split()
    vectors = [name for name in VECTORS if name in features][:1]
    return " ".join(["cpu", cpu_cores(), *vectors, *_cpu_options()])


def _cpu_options():
    """Return XLA's options for a CPU, such as the largest instruction set."""
    options = os.environ.get("XLA_FLAGS", "").split()
    return sorted(option for option in options if option.startswith("--xla_cpu"))


def cpu_cores() -> str:
    """Return the number of usable cores and the model of the CPU: ``2 cores of AMD EPYC``."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    model = read_cpu_info("model name") or platform.processor() or platform.machine()
    return f"{cores} cores of {model}"


def read_cpu_info(*names: str) -> str:
    """Return the first value with one of these names in Linux's description of the CPU, or ""."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in pairs if name.strip() in names), "")


def versions() -> str:
    """Return the versions of JAX and jaxlib, which contains XLA."""
    return f"jax {jax.__version__}, jaxlib {jaxlib.version.__version__}"


def problem_of(
    kind: str,
    x_shape: Sequence[Any],
    features: int,
    geometry: ConvGeometry,
    groups: int = 1,
    pool: ConvGeometry | None = None,
) -> Problem:
    """Return the `Problem` for images of shape ``x_shape``.

    Replace a symbolic batch size by `UNKNOWN_BATCH`.
    """
    batch, *spatial, channels = x_shape
    batch = batch if isinstance(batch, int) else UNKNOWN_BATCH
    return Problem(kind, batch, tuple(spatial), channels, features, geometry, groups, pool)


def choose(
    problem: Problem, in_loop: bool = True, seconds: float = RUN_SECONDS, is_cpu: bool = True
) -> str:
    """Return the method that "auto" selects; "separate" is a convolution, then a pooling.

    Args:
        problem: Shapes and arguments.
        in_loop: Select by the times in a compiled loop. Otherwise, select "xla" if it is cheaper than
            that method when both are called from Python. Only "xla" is slower in a loop.
        seconds: Expected run time of a program in which the layer is one of `LAYERS`.
        is_cpu: Select for a CPU. On another device, the method is "xla" without an active `Table`.
    """
    if _recorder.value is not None:
        _recorder.value(problem, seconds)
    return _choose(problem, in_loop, seconds, is_cpu, active_table())


@functools.lru_cache(maxsize=1024)
def _choose(problem, in_loop, seconds, is_cpu, table):
    rows = active_rows(table, is_cpu)
    if is_cpu:
        return cheapest(rows + table_rows(), problem, in_loop, seconds)
    exact = [row for row in rows if row.problem == problem]
    return cheapest(exact, problem, in_loop, seconds) if exact else "xla"


def active_rows(table: Table | None, is_cpu: bool) -> tuple[Row, ...]:
    """Return the rows of ``table`` if it is for this kind of device."""
    return table.rows if table and table.device.startswith("cpu ") == is_cpu else ()


def cheapest(
    rows: Sequence[Row], problem: Problem, in_loop: bool = True, seconds: float = RUN_SECONDS
) -> str:
    """Return the cheapest eligible method in the row nearest to ``problem``; see `choose`.

    Rows with the same kind of grouping (none, some, depthwise) come first, then rows with the same
    rank. Among these the distance is the sum of |log2| of the ratios of the values in `_measures`.
    """
    row = nearest_row(problem, rows)
    methods = [method for method in row.milliseconds if _is_eligible(method, problem)]

    def pick(times, methods):
        fastest = min(times[method] for method in methods)

        def cost(method):
            return seconds / LAYERS * times[method] / fastest + row.compile_seconds[method]

        return min(methods, key=cost)

    selected = pick(row.milliseconds, methods)
    if in_loop or not {selected, "xla"} <= row.call_milliseconds.keys():
        return selected
    return pick(row.call_milliseconds, [selected, "xla"])


def nearest_row(problem: Problem, rows: Sequence[Row] | None = None) -> Row:
    """Return the measured problem of the same kind that is nearest to ``problem``."""
    active = active_table()
    rows = rows or (active.rows if active else ()) + table_rows()
    return min(
        (row for row in rows if row.problem.kind == problem.kind),
        key=lambda row: (row.problem != problem, *_distance(row.problem, problem)),
    )


def _is_eligible(method, problem):
    geometry, pool = problem.geometry, problem.pool
    window = geometry.size if pool is None else fused.patch(geometry, pool)[0]
    if method not in NOT_UNROLLED and math.prod(window) > MOST_UNROLLED:
        return False
    if problem.kind == "conv_pool":
        pooled = conv_pool_methods().get(method)
        supported = pooled is None or pooled.supports(geometry, problem.pool)
    elif problem.kind == "conv":
        found = conv_methods().get(method)  # None if it is not registered in this process
        supported = (
            found is not None
            and found.supports(geometry.size, geometry.strides, geometry.dilation)
            and found.local
        )
    else:
        return method in POOL_METHODS
    return supported and _temporary_bytes(method, problem) <= MEMORY_LIMIT


def _temporary_bytes(method, problem):
    """Estimate the bytes of one example's intermediate arrays."""
    w_shape = (*problem.geometry.size, problem.channels // problem.groups, problem.features)
    x_shape = (1, *problem.spatial, problem.channels)
    if method.startswith("winograd") and method != "winograd_1d":
        return winograd.temporary_bytes(w_shape, problem.geometry, problem.pool)
    if problem.pool is not None and method != "separate":
        return fused.temporary_bytes(x_shape, w_shape, problem.geometry, problem.pool)
    return 0  # "im2col" computes in slabs, "xla" and "forward" need no patches, "shifted" adds in place


def _distance(a, b):
    ratios = (math.log2(x / y) for x, y in zip(_measures(a), _measures(b), strict=True))
    other_rank = len(a.spatial) != len(b.spatial)
    return _grouping(a) != _grouping(b), other_rank, sum(map(abs, ratios))


def _grouping(problem):
    if problem.groups == 1:
        return "none"
    return "depthwise" if problem.groups == problem.channels else "some"


def _measures(problem):
    geometry, pool = problem.geometry, problem.pool
    measures = (
        problem.batch,
        math.prod(geometry.count),
        problem.channels / problem.groups,
        problem.features / problem.groups,
        problem.groups,
        math.prod(geometry.size),
        math.prod(geometry.strides),
        math.prod(geometry.dilation),
        math.prod(pool.size) if pool else 1,
        math.prod(pool.strides) if pool else 1,
    )
    return [measure or 1 for measure in measures]  # an empty batch counts as one


def table_name() -> str:
    """Return the name of the package's table for the vector instructions that XLA uses."""
    narrow = {f"--xla_cpu_max_isa={name}" for name in ("SSE4_2", "AVX", "AVX2")}
    wide = "avx512f" in read_cpu_info("flags").split()
    return TABLES[0] if wide and narrow.isdisjoint(_cpu_options()) else TABLES[1]


@functools.cache
def _read_table(name):
    return read_rows(importlib.resources.files("fidle_jax.kernels").joinpath(name).read_text())


def table_rows() -> tuple[Row, ...]:
    """Return the rows of the package's table; see `table_name`."""
    return _read_table(table_name())
