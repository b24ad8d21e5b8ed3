"""Measured problems: shapes of a convolution or pooling, times of the methods, and their text format."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from fidle_jax.kernels.geometry import ConvGeometry, format_sizes, resolve_geometry

LIMIT = 2**31  # of sizes
KINDS = ("conv", "conv_pool", "max_pool", "avg_pool")
COLUMNS = (
    *("kind", "batch", "spatial", "channels", "features", "window", "strides", "padding"),
    *("dilation", "groups", "pool", "pool_strides"),
    *("milliseconds", "call_milliseconds", "compile_seconds", "measured"),
)


@dataclasses.dataclass(frozen=True)
class Problem:
    """Shapes and arguments of a convolution or a pooling."""

    kind: str  # one of `KINDS`
    batch: int
    spatial: tuple[int, ...]  # of the images
    channels: int  # of the images
    features: int  # channels of the output
    geometry: ConvGeometry  # of the convolution, or of the pooling if there is no convolution
    groups: int = 1  # of the convolution; for a pooling the number of channels
    pool: ConvGeometry | None = None  # geometry of the pooling after a convolution

    def __str__(self) -> str:
        """Describe the problem on one line: ``conv 64x23x23x64 -> 128, 3x3, same``."""
        geometry, pool, groups = self.geometry, self.pool, self.groups
        is_pool = self.kind in ("max_pool", "avg_pool")
        image = format_sizes((self.batch, *self.spatial, self.channels))
        features = "" if is_pool else f" -> {self.features}"
        parts = {
            f"{self.kind} {image}{features}": True,
            format_sizes(geometry.size): True,
            "same": any(map(any, geometry.padding)),
            f"stride {format_sizes(geometry.strides)}": set(geometry.strides) != {1},
            f"dilation {format_sizes(geometry.dilation)}": set(geometry.dilation) != {1},
            "depthwise": groups == self.channels > 1 and not is_pool,
            f"{groups} groups": 1 < groups < self.channels,
        }
        if pool:
            parts[f"pool {format_sizes(pool.size)}"] = True
            parts[f"pool stride {format_sizes(pool.strides)}"] = pool.strides != pool.size
        return ", ".join(part for part, is_shown in parts.items() if is_shown)


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


def read_rows(text: str) -> tuple[Row, ...]:
    """Parse the text of `write_rows`.

    Raises:
        ValueError: The text has another format, or a number is out of range.
    """
    header, *lines = text.splitlines() or [""]
    if header != "\t".join(COLUMNS):
        raise ValueError(f"the columns are not {', '.join(COLUMNS)}")
    rows = []
    for line in lines:
        try:
            rows.append(_read_row(dict(zip(COLUMNS, line.split("\t"), strict=True))))
        except ValueError as error:
            raise ValueError(f"row {len(rows) + 1} is not valid: {error}") from None
    return tuple(rows)


def write_rows(rows: Sequence[Row]) -> str:
    """Format rows as tab-separated lines with a header."""
    lines = [COLUMNS, *map(_cells, rows)]
    return "".join("\t".join(line) + "\n" for line in lines)


def align(rows: Sequence[Sequence[str]]) -> str:
    """Format rows of cells as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


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
    if problem.kind not in KINDS or (problem.kind == "conv_pool") != (pool is not None):
        raise ValueError(f"the kind {problem.kind!r} is unknown, or does not fit to the pooling")
    if not (0 < groups <= min(channels, features) and 0 <= batch < LIMIT):
        raise ValueError("a size is not positive, or too large")
    if max(channels, features) >= LIMIT or channels % groups or features % groups:
        raise ValueError(f"channels or features are too many, or not divisible by {groups} groups")
    if "xla" not in loop or not loop.keys() <= compilation.keys():
        raise ValueError("the times of xla or the seconds to compile are missing")
    return Row(problem, loop, call, compilation, cells["measured"])


def _cells(row: Row) -> list[str]:
    problem, geometry, pool = row.problem, row.problem.geometry, row.problem.pool
    return [
        problem.kind,
        str(problem.batch),
        format_sizes(problem.spatial),
        str(problem.channels),
        str(problem.features),
        format_sizes(geometry.size),
        format_sizes(geometry.strides),
        "x".join(f"{low},{high}" for low, high in geometry.padding),
        format_sizes(geometry.dilation),
        str(problem.groups),
        format_sizes(pool.size) if pool else "",
        format_sizes(pool.strides) if pool else "",
        *map(_format_times, (row.milliseconds, row.call_milliseconds, row.compile_seconds)),
        row.measured,
    ]


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(map(int, text.split("x")))
    if not all(0 < number < LIMIT for number in numbers):
        raise ValueError(f"{text!r} is not a size")
    return numbers


def _read_times(text: str) -> dict[str, float]:
    pairs = (pair.split("=") for pair in text.split())
    times = {method: float(time) for method, time in pairs}
    if not all(0 < time < math.inf for time in times.values()):
        raise ValueError(f"{text!r} contains times that are not positive")
    return times


def _format_times(times: dict[str, float]) -> str:
    return " ".join(f"{method}={time:.4g}" for method, time in times.items())
