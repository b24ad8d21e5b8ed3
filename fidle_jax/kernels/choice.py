"""Which method "auto" takes: on a CPU, the one that was fastest on the nearest problem measured.

What was measured is in `fidle_jax.kernels.measured`: whole steps, forward and backward, within a
compiled loop. (Outside of one, XLA's convolution is the best here and there; but within, the backward
pass of the same is up to 45 times slower, and what is around it cannot be known.) On other backends
it is always XLA's own.
"""

import functools
import math
from collections.abc import Sequence

import jax

from fidle_jax.kernels.measured import Problem, Row, kept_rows
from fidle_jax.kernels.methods import conv_methods, conv_pool_methods
from fidle_jax.kernels.windows import Windows

UNKNOWN_BATCH = 64  # taken for a batch whose size is a symbol (`jax.export`)

# The other methods are programs that grow with the window, and so does the time to compile them.
NOT_UNROLLED = ("xla", "fft", "apart")
MOST_UNROLLED = 128  # values of a window: a little more than the largest that was measured


def choose_conv(x_shape, w_shape, windows: Windows, groups: int) -> str:
    """The method of `kernels.conv` for ``x`` and ``w`` of these shapes."""
    return choose(_problem("conv", x_shape, w_shape[-1], windows, groups))


def choose_pool(x_shape, windows: Windows, kind: str = "max_pool") -> str:
    """The method of `kernels.max_pool` or `kernels.avg_pool`, whichever ``kind`` names."""
    return choose(_problem(kind, x_shape, x_shape[-1], windows, x_shape[-1]))


def choose_conv_pool(x_shape, w_shape, windows: Windows, pool: Windows, groups: int) -> str:
    """The method of `kernels.conv_pool`; "apart" for a convolution and a pooling one by one."""
    return choose(_problem("conv_pool", x_shape, w_shape[-1], windows, groups, pool))


def _problem(kind, x_shape, features, windows, groups, pool=None):
    batch, *spatial, channels = x_shape
    batch = batch if isinstance(batch, int) else UNKNOWN_BATCH
    return Problem(kind, batch, tuple(spatial), channels, features, windows, groups, pool)


def choose(problem: Problem) -> str:
    """The method that "auto" takes on the backend in use."""
    return _choose_on_cpu(problem) if jax.default_backend() == "cpu" else "xla"


@functools.lru_cache(maxsize=1024)
def _choose_on_cpu(problem):
    return fastest(kept_rows(), problem)


def fastest(rows: Sequence[Row], problem: Problem) -> str:
    """The fastest, in the row nearest to ``problem``, of the methods that compute such windows.

    Nearest is, of the rows of its kind: as grouped (not, in part, or a group for each channel) if
    there is such a row; then of the same rank if there is one; then the least sum of |log2| of the
    ratios of batch, number of windows, channels and features of a group, groups, values of a window,
    strides, dilation, and window and strides of the pooling.
    """
    row = min(
        (row for row in rows if row.problem.kind == problem.kind),
        key=lambda row: _distance(row.problem, problem),
    )
    methods = [method for method in row.milliseconds if _computes(method, problem)]
    return min(methods, key=row.milliseconds.__getitem__)


def _computes(method, problem):
    if method not in NOT_UNROLLED and _values(problem) > MOST_UNROLLED:
        return False
    windows = problem.windows
    if problem.kind == "conv_pool":
        as_one = conv_pool_methods().get(method)
        return as_one is None or as_one.supports(windows, problem.pool)
    if problem.kind != "conv":
        return True
    return conv_methods()[method].supports(windows.size, windows.strides, windows.dilation)


def _values(problem):
    """Of a window, or where a pooling follows, of all that one pooled value depends on."""
    windows, pool = problem.windows, problem.pool
    if pool is None:
        return math.prod(windows.size)
    each = zip(windows.size, windows.dilation, windows.strides, pool.size, strict=True)
    return math.prod((k - 1) * d + (p - 1) * s + 1 for k, d, s, p in each)


def _distance(a, b):
    ratios = (math.log2(x / y) for x, y in zip(_measures(a), _measures(b), strict=True))
    other_rank = len(a.spatial) != len(b.spatial)
    return _grouping(a) != _grouping(b), other_rank, sum(map(abs, ratios))


def _grouping(problem):
    if problem.groups == 1:
        return "none"
    return "depthwise" if problem.groups == problem.channels else "in part"


def _measures(problem):
    windows, pool = problem.windows, problem.pool
    measures = (
        problem.batch,
        math.prod(windows.count),
        problem.channels / problem.groups,
        problem.features / problem.groups,
        problem.groups,
        math.prod(windows.size),
        math.prod(windows.strides),
        math.prod(windows.dilation),
        math.prod(pool.size) if pool else 1,
        math.prod(pool.strides) if pool else 1,
    )
    return tuple(measure or 1 for measure in measures)  # an empty batch costs as little as one
