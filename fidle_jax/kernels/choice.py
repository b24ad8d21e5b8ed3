"""Selection of a method on a CPU: the fastest one for the nearest measured problem.

The measurements (`fidle_jax.kernels.measured`) are forward and backward passes in a compiled loop.
(Outside of a loop XLA's convolution is sometimes the fastest. Inside of one its backward pass is up
to 45 times slower, and the kernel cannot know what surrounds it.) A method is eligible if it

- supports the windows, and is not a program that grows with a large window;
- is local: its rounding errors are relative to the values in the window;
- needs at most `MEMORY_LIMIT` bytes of temporary memory.
"""

import functools
import math
from collections.abc import Sequence

from fidle_jax.kernels import fused, winograd
from fidle_jax.kernels.chunks import SLAB_BYTES
from fidle_jax.kernels.measured import Problem, Row, kept_rows
from fidle_jax.kernels.methods import conv_methods, conv_pool_methods
from fidle_jax.kernels.windows import Windows

UNKNOWN_BATCH = 64  # stands for a symbolic batch size (`jax.export`)

# The other methods are programs that grow with the window, and so does their compile time.
NOT_UNROLLED = ("xla", "fft", "apart")
MOST_UNROLLED = 128  # values of a window: a little more than the largest that was measured

# Bytes of one example's intermediate arrays. Batches are computed in chunks of examples; only "im2col"
# and "xla" can compute one example in pieces, so they are always eligible.
MEMORY_LIMIT = SLAB_BYTES


def choose_conv(x_shape, w_shape, windows: Windows, groups: int) -> str:
    """Return the method of `kernels.conv` for ``x`` and ``w`` of these shapes."""
    return choose(_problem("conv", x_shape, w_shape[-1], windows, groups))


def choose_pool(x_shape, windows: Windows, kind: str = "max_pool") -> str:
    """Return the method of `kernels.max_pool` or `kernels.avg_pool`, named by ``kind``."""
    return choose(_problem(kind, x_shape, x_shape[-1], windows, x_shape[-1]))


def choose_conv_pool(x_shape, w_shape, windows: Windows, pool: Windows, groups: int) -> str:
    """Return the method of `kernels.conv_pool`; "apart" is a convolution followed by a pooling."""
    return choose(_problem("conv_pool", x_shape, w_shape[-1], windows, groups, pool))


def _problem(kind, x_shape, features, windows, groups, pool=None):
    batch, *spatial, channels = x_shape
    batch = batch if isinstance(batch, int) else UNKNOWN_BATCH
    return Problem(kind, batch, tuple(spatial), channels, features, windows, groups, pool)


@functools.lru_cache(maxsize=1024)
def choose(problem: Problem) -> str:
    """Return the method that "auto" selects on a CPU. On other platforms it is XLA's."""
    return fastest(kept_rows(), problem)


def fastest(rows: Sequence[Row], problem: Problem) -> str:
    """Return the fastest eligible method in the row nearest to ``problem``.

    Rows with the same kind of grouping (none, some, depthwise) come first, then rows with the same
    rank. Among these the distance is the sum of |log2| of the ratios of batch, number of windows,
    channels and features per group, groups, values of a window, strides, dilation, and window and
    strides of the pooling.
    """
    row = min(
        (row for row in rows if row.problem.kind == problem.kind),
        key=lambda row: _distance(row.problem, problem),
    )
    methods = [method for method in row.milliseconds if _is_eligible(method, problem)]
    return min(methods, key=row.milliseconds.__getitem__)


def _is_eligible(method, problem):
    if method not in NOT_UNROLLED and _values(problem) > MOST_UNROLLED:
        return False
    windows = problem.windows
    if problem.kind == "conv_pool":
        as_one = conv_pool_methods().get(method)
        if as_one is None:
            return True
        is_local, supported = as_one.local, as_one.supports(windows, problem.pool)
    elif problem.kind == "conv":
        found = conv_methods()[method]
        is_local = found.local
        supported = found.supports(windows.size, windows.strides, windows.dilation)
    else:
        return True
    return is_local and supported and _temporary_bytes(method, problem) <= MEMORY_LIMIT


def _temporary_bytes(method, problem):
    """Estimate the bytes of one example's intermediate arrays."""
    w_shape = (*problem.windows.size, problem.channels // problem.groups, problem.features)
    x_shape = (1, *problem.spatial, problem.channels)
    if method.startswith("winograd") and method != "winograd_1d":
        return winograd.temporary_bytes(w_shape, problem.windows, problem.pool)
    if problem.pool is not None:
        return fused.temporary_bytes(x_shape, w_shape, problem.windows, problem.pool)
    return 0  # "im2col" and "xla" compute in pieces, "shifted" adds up in place


def _values(problem):
    """Return the number of values that one output depends on."""
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
    return tuple(measure or 1 for measure in measures)  # an empty batch counts as one
