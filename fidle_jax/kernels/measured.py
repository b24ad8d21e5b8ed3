"""The table of measured problems that "auto" goes by: text to rows and back.

The package keeps it as `auto.tsv`, which `python experiments/bench/bench_kernels.py --write-table` measures
and writes.
"""

import dataclasses
import functools
import importlib.resources
from collections.abc import Sequence

from fidle_jax.kernels.windows import Windows, resolve_windows, times

TABLE = "auto.tsv"
COLUMNS = (
    "kind",
    "batch",
    "spatial",
    "channels",
    "features",
    "window",
    "strides",
    "padding",
    "dilation",
    "groups",
    "pool",
    "pool_strides",
    "milliseconds",
    "measured",
)


@dataclasses.dataclass(frozen=True)
class Problem:
    """A convolution or a pooling by its sizes.

    Attributes:
        kind: "conv", "conv_pool", "max_pool" or "avg_pool".
        batch: images.
        spatial: sides of an image.
        channels: of an image.
        features: channels of the result.
        windows: of the convolution, or of a pooling that stands alone.
        groups: of the convolution; as many as channels where a pooling stands alone.
        pool: windows of the pooling that follows a convolution, None where none does.
    """

    kind: str
    batch: int
    spatial: tuple[int, ...]
    channels: int
    features: int
    windows: Windows
    groups: int = 1
    pool: Windows | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """What was measured on a problem.

    Attributes:
        problem: that was measured.
        milliseconds: of each method, forward and backward together, the median. Where the channels
            are an image's own (3 or fewer), there is no gradient in the image.
        measured: when, and on what.
    """

    problem: Problem
    milliseconds: dict[str, float]
    measured: str


@functools.lru_cache(maxsize=1)
def kept_rows() -> tuple[Row, ...]:
    """The rows that the package keeps."""
    return read_rows(importlib.resources.files("fidle_jax.kernels").joinpath(TABLE).read_text())


def read_rows(text: str) -> tuple[Row, ...]:
    """The rows of a text that `write_rows` made."""
    lines = (line.split("\t") for line in text.splitlines()[1:])
    return tuple(_read_row(dict(zip(COLUMNS, cells, strict=True))) for cells in lines)


def write_rows(rows: Sequence[Row]) -> str:
    """The rows as tab-separated lines, under a line of names."""
    return "".join("\t".join(cells) + "\n" for cells in (COLUMNS, *map(_cells, rows)))


def _read_row(cells: dict[str, str]) -> Row:
    spatial = _numbers(cells["spatial"])
    windows = resolve_windows(
        spatial,
        _numbers(cells["window"]),
        _numbers(cells["strides"]),
        [list(map(int, pair.split(","))) for pair in cells["padding"].split("x")],
        _numbers(cells["dilation"]),
    )
    pool = None
    if cells["pool"]:
        pool_size, pool_strides = _numbers(cells["pool"]), _numbers(cells["pool_strides"])
        pool = resolve_windows(windows.count, pool_size, pool_strides)
    batch, channels, features, groups = (
        int(cells[name]) for name in ("batch", "channels", "features", "groups")
    )
    problem = Problem(cells["kind"], batch, spatial, channels, features, windows, groups, pool)
    pairs = (part.split("=") for part in cells["milliseconds"].split())
    return Row(problem, {method: float(time) for method, time in pairs}, cells["measured"])


def _cells(row: Row) -> tuple[str, ...]:
    problem, windows, pool = row.problem, row.problem.windows, row.problem.pool
    return (
        problem.kind,
        str(problem.batch),
        times(problem.spatial),
        str(problem.channels),
        str(problem.features),
        times(windows.size),
        times(windows.strides),
        "x".join(f"{low},{high}" for low, high in windows.padding),
        times(windows.dilation),
        str(problem.groups),
        times(pool.size) if pool else "",
        times(pool.strides) if pool else "",
        " ".join(f"{method}={time:.4g}" for method, time in row.milliseconds.items()),
        row.measured,
    )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split("x")))
