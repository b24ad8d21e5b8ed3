"""Selection of a method on a CPU: the cheapest one for the nearest measured problem.

The measurements in ``auto.tsv`` are forward and backward passes in a compiled loop and called from Python,
and the time to compile them. ``experiments/bench/bench_kernels.py`` writes
the table. The cheapest method has the smallest sum of compile time and run time, in a training in which
the fastest method runs for a tenth of `RUN_SECONDS`. A method is eligible if it

- supports the geometry, and does not unroll a large window;
- has rounding errors relative to the values in the window;
- needs at most `MEMORY_LIMIT` bytes of temporary memory.
"""

import dataclasses
import functools
import importlib.resources
import math
from collections.abc import Sequence
from typing import Any

from fidle_jax.kernels import fused, winograd
from fidle_jax.kernels.chunks import SLAB_BYTES
from fidle_jax.kernels.geometry import ConvGeometry, format_sizes, resolve_geometry
from fidle_jax.kernels.methods import conv_methods, conv_pool_methods

TABLE = "auto.tsv"
UNKNOWN_BATCH = 64  # replaces a symbolic batch size (`jax.export`)

RUN_SECONDS = 60.0  # expected run time of a program
LAYERS = 10  # among which the run time is divided

# The other methods unroll the window, so their compile time grows with it.
NOT_UNROLLED = ("xla", "forward", "fft", "separate")
MOST_UNROLLED = 128  # values of a window: a little more than the largest that was measured

# Bytes of one example's intermediate arrays. "im2col" divides one example, "xla" and "forward" need none.
MEMORY_LIMIT = SLAB_BYTES


@dataclasses.dataclass(frozen=True)
class Problem:
    """Shapes and arguments of a convolution or a pooling."""

    kind: str  # "conv", "conv_pool", "max_pool" or "avg_pool"
    batch: int
    spatial: tuple[int, ...]  # of the images
    channels: int  # of the images
    features: int  # channels of the output
    geometry: ConvGeometry  # of the convolution, or of the pooling if there is no convolution
    groups: int = 1  # of the convolution; for a pooling the number of channels
    pool: ConvGeometry | None = None  # geometry of the pooling after a convolution


@dataclasses.dataclass(frozen=True)
class Row:
    """Measurements of one problem."""

    problem: Problem
    # Median by method, forward and backward; with 3 or fewer channels without the gradient in the images.
    milliseconds: dict[str, float]  # in a compiled loop
    call_milliseconds: dict[str, float]  # called from Python, of some or all methods
    compile_seconds: dict[str, float]  # by method
    measured: str  # date and machine

    @property
    def label(self) -> str:
        """Description of the problem in a few words."""
        each = self.problem
        window = format_sizes(each.geometry.size)
        images = f"{each.batch}x{format_sizes(each.spatial)}x{each.channels}"
        return f"{images} to {each.features}, {window}, {self.measured.split(',')[0]}"


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


@functools.lru_cache(maxsize=1024)
def choose(problem: Problem, in_loop: bool = True, seconds: float = RUN_SECONDS) -> str:
    """Return the method that "auto" selects on a CPU; "separate" is a convolution, then a pooling.

    Args:
        problem: Shapes and arguments.
        in_loop: Select by the times in a compiled loop. Otherwise, select "xla" if it is cheaper than
            that method when both are called from Python. Only "xla" is slower in a loop.
        seconds: Expected run time of a program in which the layer is one of `LAYERS`.
    """
    return cheapest(table_rows(), problem, in_loop, seconds)


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
    return min(
        (row for row in rows or table_rows() if row.problem.kind == problem.kind),
        key=lambda row: _distance(row.problem, problem),
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
        found = conv_methods()[method]
        supported = (
            found.supports(geometry.size, geometry.strides, geometry.dilation) and found.local
        )
    else:
        return True
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


@functools.lru_cache(maxsize=1)
def table_rows() -> tuple[Row, ...]:
    """Return the rows of the package's table."""
    return read_rows(importlib.resources.files("fidle_jax.kernels").joinpath(TABLE).read_text())


def read_rows(text: str) -> tuple[Row, ...]:
    """Parse the text of `write_rows`."""
    names, *lines = (line.split("\t") for line in text.splitlines())
    return tuple(_read_row(dict(zip(names, cells, strict=True))) for cells in lines)


def write_rows(rows: Sequence[Row]) -> str:
    """Format rows as tab-separated lines with a header."""
    cells = [_cells(row) for row in rows]
    lines = [cells[0].keys(), *(row.values() for row in cells)]
    return "".join("\t".join(line) + "\n" for line in lines)


def _read_row(cells: dict[str, str]) -> Row:
    spatial = _numbers(cells["spatial"])
    geometry = resolve_geometry(
        spatial,
        _numbers(cells["window"]),
        _numbers(cells["strides"]),
        [list(map(int, pair.split(","))) for pair in cells["padding"].split("x")],
        _numbers(cells["dilation"]),
    )
    pool = None
    if cells["pool"]:
        pool_size, pool_strides = _numbers(cells["pool"]), _numbers(cells["pool_strides"])
        pool = resolve_geometry(geometry.count, pool_size, pool_strides)
    batch, channels, features, groups = (
        int(cells[name]) for name in ("batch", "channels", "features", "groups")
    )
    problem = Problem(cells["kind"], batch, spatial, channels, features, geometry, groups, pool)
    columns = ("milliseconds", "call_milliseconds", "compile_seconds")
    loop, call, compilation = (_read_times(cells[name]) for name in columns)
    return Row(problem, loop, call, compilation, cells["measured"])


def _cells(row: Row) -> dict[str, str]:
    problem, geometry, pool = row.problem, row.problem.geometry, row.problem.pool
    return {
        "kind": problem.kind,
        "batch": str(problem.batch),
        "spatial": format_sizes(problem.spatial),
        "channels": str(problem.channels),
        "features": str(problem.features),
        "window": format_sizes(geometry.size),
        "strides": format_sizes(geometry.strides),
        "padding": "x".join(f"{low},{high}" for low, high in geometry.padding),
        "dilation": format_sizes(geometry.dilation),
        "groups": str(problem.groups),
        "pool": format_sizes(pool.size) if pool else "",
        "pool_strides": format_sizes(pool.strides) if pool else "",
        "milliseconds": _format_times(row.milliseconds),
        "call_milliseconds": _format_times(row.call_milliseconds),
        "compile_seconds": _format_times(row.compile_seconds),
        "measured": row.measured,
    }


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split("x")))


def _read_times(text: str) -> dict[str, float]:
    pairs = (pair.split("=") for pair in text.split())
    return {method: float(time) for method, time in pairs}


def _format_times(times: dict[str, float]) -> str:
    return " ".join(f"{method}={time:.4g}" for method, time in times.items())
