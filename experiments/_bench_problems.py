"""The problems that the kernels' benchmark measures: layers of small networks, as trained on a CPU."""

from fidle_jax.kernels.measured import Problem
from fidle_jax.kernels.windows import Sizes, Windows, resolve_windows, times


def grid() -> list[Problem]:
    """All of them, none twice. Poolings first: what follows them goes by the choice among them."""
    return [*_poolings(), *_convolutions(), *_convolutions_with_pooling()]


def describe(problem: Problem) -> str:
    """The problem in a line: ``conv 64x23x23x64 -> 128, 3x3, same``."""
    windows = problem.windows
    parts = [times(windows.size)]
    if any(map(any, windows.padding)):
        parts.append("same")
    if set(windows.strides) != {1}:
        parts.append(f"stride {times(windows.strides)}")
    if set(windows.dilation) != {1}:
        parts.append(f"dilation {times(windows.dilation)}")
    image = times((problem.batch, *problem.spatial, problem.channels))
    if problem.kind in ("max_pool", "avg_pool"):
        return f"{problem.kind} {image}, {', '.join(parts)}"
    if problem.groups > 1:
        depthwise = problem.groups == problem.channels
        parts.append("depthwise" if depthwise else f"{problem.groups} groups")
    if problem.pool:
        parts.append(f"pool {times(problem.pool.size)}")
        if problem.pool.strides != problem.pool.size:
            parts.append(f"stride {times(problem.pool.strides)}")
    return f"{problem.kind} {image} -> {problem.features}, {', '.join(parts)}"


def _poolings():
    return [
        _pool("max_pool", 1, (26, 26, 8), 2),
        _pool("max_pool", 512, (26, 26, 8), 2),
        _pool("max_pool", 512, (11, 11, 16), 2),
        _pool("max_pool", 64, (46, 46, 64), 2),
        _pool("max_pool", 64, (8, 8, 256), 2),
        _pool("max_pool", 64, (32, 32, 32), 3, strides=2, padding="same"),
        _pool("max_pool", 64, (32, 32, 32), 5, strides=1, padding="same"),
        _pool("max_pool", 64, (256, 32), 2),
        _pool("max_pool", 64, (16, 16, 16, 8), 2),
        _pool("avg_pool", 1, (26, 26, 8), 2),
        _pool("avg_pool", 512, (26, 26, 8), 2),
        _pool("avg_pool", 64, (46, 46, 64), 2),
        _pool("avg_pool", 64, (8, 8, 256), 8),
        _pool("avg_pool", 64, (32, 32, 32), 3, strides=2, padding="same"),
        _pool("avg_pool", 64, (256, 32), 2),
    ]


def _convolutions():
    mnist = [
        problem
        for batch in (1, 8, 64, 512, 4096)
        for problem in (_conv(batch, (28, 28, 1), 8, 3), _conv(batch, (13, 13, 8), 16, 3))
    ]
    gtsrb = [
        _conv(64, (24, 24, 1), 96, 3),
        _conv(64, (11, 11, 96), 192, 3),
        _conv(64, (48, 48, 3), 64, 3, padding="same"),
        _conv(64, (48, 48, 64), 64, 3),
        _conv(64, (23, 23, 64), 128, 3, padding="same"),
        _conv(64, (23, 23, 128), 128, 3),
        _conv(64, (10, 10, 128), 256, 3, padding="same"),
        _conv(64, (10, 10, 256), 256, 3),
    ]
    residual = [
        _conv(64, (32, 32, 3), 16, 3, padding="same"),
        _conv(64, (32, 32, 16), 16, 3, padding="same"),
        _conv(64, (16, 16, 32), 32, 3, padding="same"),
        _conv(64, (8, 8, 64), 64, 3, padding="same"),
        _conv(64, (32, 32, 16), 32, 3, strides=2, padding="same"),
        _conv(64, (16, 16, 32), 64, 3, strides=2, padding="same"),
        _conv(64, (32, 32, 16), 32, 1, strides=2),
        _conv(64, (16, 16, 32), 64, 1, strides=2),
        _conv(1, (16, 16, 32), 32, 3, padding="same"),
        _conv(8, (16, 16, 32), 32, 3, padding="same"),
        _conv(1, (16, 16, 128), 128, 3, padding="same"),
    ]
    windows = [
        _conv(64, (32, 32, 16), 64, 1),
        _conv(64, (8, 8, 256), 64, 1),
        _conv(64, (28, 28, 1), 6, 5, padding="same"),
        _conv(64, (14, 14, 6), 16, 5),
        _conv(64, (16, 16, 32), 32, 5, padding="same"),
        _conv(64, (64, 64, 3), 32, 7, strides=2, padding="same"),
        _conv(64, (16, 16, 32), 32, 7, padding="same"),
        _conv(16, (64, 64, 3), 32, 11, strides=4),
        _conv(16, (32, 32, 16), 16, 11, padding="same"),
        _conv(64, (32, 32, 16), 16, 3, padding="same", dilation=2),
    ]
    groups = [
        _conv(64, (32, 32, 64), 64, 3, padding="same", groups=64),
        _conv(64, (32, 32, 64), 64, 3, strides=2, padding="same", groups=64),
        _conv(64, (8, 8, 256), 256, 3, padding="same", groups=256),
        _conv(64, (16, 16, 64), 64, 5, padding="same", groups=64),
        _conv(64, (16, 16, 64), 64, 3, padding="same", groups=4),
        _conv(64, (8, 8, 128), 128, 3, padding="same", groups=32),
    ]
    ranks = [
        _conv(64, (256, 16), 32, 5, padding="same"),
        _conv(64, (256, 16), 32, 3, padding="same"),
        _conv(64, (1024, 1), 16, 31, strides=4),
        _conv(64, (256, 32), 32, 7, padding="same", groups=32),
        _conv(16, (16, 16, 16, 4), 8, 3, padding="same"),
        _conv(16, (8, 8, 8, 16), 32, 3, padding="same"),
        _conv(8, (32, 32, 32, 1), 32, 5, strides=2),
    ]
    return [*mnist, *gtsrb, *residual, *windows, *groups, *ranks]


def _convolutions_with_pooling():
    mnist = [
        problem
        for batch in (1, 8, 64, 512, 4096)
        for problem in (
            _conv(batch, (28, 28, 1), 8, 3, pool=2),
            _conv(batch, (13, 13, 8), 16, 3, pool=2),
        )
    ]
    gtsrb = [
        _conv(64, (24, 24, 1), 96, 3, pool=2),
        _conv(64, (11, 11, 96), 192, 3, pool=2),
        _conv(64, (48, 48, 64), 64, 3, pool=2),
        _conv(64, (23, 23, 128), 128, 3, pool=2),
        _conv(64, (10, 10, 256), 256, 3, pool=2),
    ]
    others = [
        _conv(64, (28, 28, 1), 6, 5, padding="same", pool=2),
        _conv(64, (14, 14, 6), 16, 5, pool=2),
        _conv(64, (32, 32, 3), 32, 3, padding="same", pool=2),
        _conv(64, (32, 32, 16), 16, 3, padding="same", pool=2),
        _conv(64, (32, 32, 16), 16, 1, pool=2),
        _conv(64, (28, 28, 1), 8, 3, pool=3),
        _conv(64, (32, 32, 16), 16, 3, padding="same", pool=4),
        _conv(64, (32, 32, 16), 16, 3, padding="same", pool=3, pool_strides=2),
        _conv(16, (64, 64, 3), 32, 7, strides=2, padding="same", pool=3, pool_strides=2),
        _conv(64, (256, 16), 32, 5, padding="same", pool=2),
        _conv(16, (16, 16, 16, 4), 8, 3, padding="same", pool=2),
    ]
    return [*mnist, *gtsrb, *others]


def _conv(
    batch: int,
    image: tuple[int, ...],
    features: int,
    window: Sizes,
    strides: Sizes = 1,
    padding: str = "valid",
    dilation: Sizes = 1,
    groups: int = 1,
    pool: Sizes | None = None,
    pool_strides: Sizes | None = None,
) -> Problem:
    """The convolution of images (*spatial, channel), and with ``pool`` the pooling that follows it."""
    windows = resolve_windows(image[:-1], window, strides, padding, dilation)
    pooling = pool and resolve_windows(windows.count, pool, pool_strides or pool)
    kind = "conv_pool" if pool else "conv"
    return _problem(kind, batch, image, features, windows, groups, pooling)


def _pool(kind, batch, image, window, strides=None, padding="valid") -> Problem:
    windows = resolve_windows(image[:-1], window, strides or window, padding)
    return _problem(kind, batch, image, image[-1], windows, image[-1])


def _problem(kind, batch, image, features, windows: Windows, groups, pool=None) -> Problem:
    *spatial, channels = image
    return Problem(kind, batch, tuple(spatial), channels, features, windows, groups, pool)
