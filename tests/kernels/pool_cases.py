"""Draw pooling problems with hypothesis, and compute their values and gradients."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from fidle_jax import kernels
from fidle_jax.kernels.testing import jit_once
from fidle_jax.kernels.windows import resolve_windows

POOLS = {"max": kernels.max_pool, "avg": kernels.avg_pool}


@dataclasses.dataclass(frozen=True)
class PoolCase:
    """Pooling problem: shape and type of the images, and the arguments."""

    x_shape: tuple[int, ...]
    window: tuple[int, ...]
    strides: tuple[int, ...] | None
    padding: str | int | tuple[tuple[int, int], ...]
    dtype: str = "float32"

    def images(self):
        """Return images of small integers: many values are equal and all sums are exact."""
        return np.random.default_rng(0).integers(-2, 3, self.x_shape).astype(self.dtype)

    def pool(self, kind, method):
        arguments = {"strides": self.strides, "padding": self.padding, "method": method}
        return functools.partial(POOLS[kind], window=self.window, **arguments)


@st.composite
def pool_cases(draw):
    """Draw cases whose padding is smaller than the window, as pooling requires."""
    rank = draw(st.integers(1, 3))
    window = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    strides = draw(st.none() | st.tuples(*[st.integers(1, 3)] * rank))
    pairs = st.tuples(*[st.tuples(*[st.integers(0, k - 1)] * 2) for k in window])
    padding = draw(st.sampled_from(["valid", "same", min(window) - 1]) | pairs)
    spatial = [k + draw(st.integers(0, 4)) for k in window]
    batch, channels = draw(st.sampled_from([1, 2, 3, 0])), draw(st.integers(1, 3))
    dtype = draw(st.sampled_from(["float32", "bfloat16", "float64"]))
    return PoolCase((batch, *spatial, channels), window, strides, padding, dtype)


def value_and_gradient(kind, method, case):
    """Return the value and the gradient of a weighted sum as NumPy arrays. Weights are integers."""
    windows = resolve_windows(
        case.x_shape[1:-1], case.window, case.strides or case.window, case.padding
    )
    shape = (case.x_shape[0], *windows.count, case.x_shape[-1])
    weights = np.random.default_rng(1).integers(-2, 3, shape).astype(case.dtype)

    def compute(x, weights):
        y, pullback = jax.vjp(case.pool(kind, method), x)
        return y, pullback(weights)[0]

    with jax.enable_x64(case.dtype == "float64"):
        return jax.device_get(jit_once(compute)(jnp.asarray(case.images()), jnp.asarray(weights)))
