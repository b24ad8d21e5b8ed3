"""Cases of pooling, and of convolution with pooling: shapes, values and gradients."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from fidle_jax import kernels
from fidle_jax.kernels.comparison import jit_once

ACTIVATIONS = {"relu": jax.nn.relu, "none": None}
POOLS = {"max": kernels.max_pool, "avg": kernels.avg_pool}
DTYPES = st.sampled_from(["float32", "bfloat16", "float64"])


def _value_and_gradients(call, *inputs):
    value, pullback = jax.vjp(call, *inputs)
    weights = np.random.default_rng(1).integers(-2, 3, value.shape)
    return value, pullback(jnp.asarray(weights, value.dtype))


# The gradients are those of a weighted sum whose weights are small integers.
value_and_gradients = jit_once(_value_and_gradients, static_argnums=0)


@dataclasses.dataclass(frozen=True)
class PoolCase:
    """Pooling: shape and type of the images, and the arguments."""

    x_shape: tuple[int, ...]
    window: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    padding: str | int | tuple[tuple[int, int], ...] = "valid"
    dtype: str = "float32"

    def images(self):
        """Return images of small integers: many values are equal and all sums are exact."""
        return np.random.default_rng(0).integers(-2, 3, self.x_shape).astype(self.dtype)

    def value_and_gradient(self, kind, method):
        """Return the value and the gradient as NumPy arrays."""
        arguments = {"strides": self.strides, "padding": self.padding, "method": method}
        call = functools.partial(POOLS[kind], window=self.window, **arguments)
        with jax.enable_x64(self.dtype == "float64"):
            return jax.device_get(value_and_gradients(call, jnp.asarray(self.images())))


POOL_CASES = [
    PoolCase((2, 7, 2), (3,), (2,), "same"),
    PoolCase((2, 5, 6, 3), (2, 2)),
    PoolCase((1, 6, 7, 2), (3, 2), (1, 3), ((2, 0), (0, 1)), "bfloat16"),
    PoolCase((2, 7, 5, 1), (3, 3), (2, 2), "same", "float64"),
    PoolCase((0, 4, 4, 2), (2, 3)),
    PoolCase((1, 4, 5, 3, 2), (2, 3, 1), (2, 1, 2), "same"),
]


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
    return PoolCase((batch, *spatial, channels), window, strides, padding, draw(DTYPES))


@dataclasses.dataclass(frozen=True)
class ConvPoolCase:
    """Convolution with pooling: shapes, type and arguments."""

    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    window: int | tuple[int, ...] = 2
    pool_strides: tuple[int, ...] | None = None
    strides: int | tuple[int, ...] = 1
    padding: str | int | tuple[tuple[int, int], ...] = "valid"
    dilation: int | tuple[int, ...] = 1
    activation: str = "relu"
    dtype: str = "float32"

    def integers(self):
        """Return x, w and b of -1, 0 and 1: sums are exact in any order, and many are equal."""
        rng = np.random.default_rng(0)
        return [jnp.asarray(rng.integers(-1, 2, shape), self.dtype) for shape in self._shapes()]

    def normal_numbers(self):
        """Return x, w and b of normal random numbers."""
        rng = np.random.default_rng(0)
        return [jnp.asarray(rng.normal(size=shape), self.dtype) for shape in self._shapes()]

    def _shapes(self):
        return self.x_shape, self.w_shape, self.w_shape[-1:]

    def by(self, method):
        """Return a function (x, w, b) -> pooled values by ``method``."""
        return functools.partial(
            kernels.conv_pool,
            window=self.window,
            pool_strides=self.pool_strides,
            activation=ACTIVATIONS[self.activation],
            method=method,
            **self._conv_arguments(),
        )

    def _conv_arguments(self):
        return {"strides": self.strides, "padding": self.padding, "dilation": self.dilation}

    def reference(self, x, w, b):
        """Compute the convolution, the activation and the pooling by definition, one after the other."""
        y = kernels.conv(x, w, method="reference", **self._conv_arguments()) + b
        y = (ACTIVATIONS[self.activation] or (lambda y: y))(y)
        return kernels.max_pool(y, self.window, strides=self.pool_strides, method="reference")


# Every method supports 3x3 at stride 1 with a pool of 2. One of the 5 rows of the convolution is unused.
COMMON = ConvPoolCase((2, 7, 8, 2), (3, 3, 2, 3))


@st.composite
def conv_pool_cases(draw, rank):
    """Draw cases with at least one pooled value, and often with unused rows and columns."""

    def sizes(largest):
        return draw(st.tuples(*[st.integers(1, largest)] * rank))

    size, window = sizes(3), sizes(3)
    pool_strides = draw(st.none() | st.just(sizes(3)))
    ones = (1,) * rank
    strides, dilation = (draw(st.sampled_from([ones, sizes(2)])) for _ in range(2))
    return draw(_complete(size, strides, dilation, window, pool_strides))


@st.composite
def winograd_pool_cases(draw, rank):
    """Draw kernels of 3 at stride 1 with pools of 2."""
    ones = (1,) * rank
    return draw(_complete((3,) * rank, ones, ones, (2,) * rank, None))


@st.composite
def winograd_1d_cases(draw, rank):
    """Draw kernels of 3 at stride 1 with pools of 2 along the last axis, and any along the others."""

    def sizes(largest):
        return draw(st.tuples(*[st.integers(1, largest)] * (rank - 1)))

    pool_strides = draw(st.none() | st.just((*sizes(3), 2)))
    size, strides, dilation, window = (
        (*sizes(largest), last) for largest, last in ((3, 3), (2, 1), (2, 1), (3, 2))
    )
    return draw(_complete(size, strides, dilation, window, pool_strides))


@st.composite
def _complete(draw, size, strides, dilation, window, pool_strides):
    """Draw the shapes, the padding, the activation and the type of a case."""
    conv = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
    more = [(p - 1) * s for p, s in zip(window, strides, strict=True)]
    spatial = tuple(k + n + draw(st.integers(0, 4)) for k, n in zip(conv, more, strict=True))
    pairs = st.tuples(*[st.tuples(*[st.integers(0, 2)] * 2)] * len(size))
    padding = draw(st.sampled_from(["valid", "same", 1]) | pairs)
    batch, channels, features = (draw(st.integers(1, 3)) for _ in range(3))
    return ConvPoolCase(
        (batch, *spatial, channels),
        (*size, channels, features),
        window,
        pool_strides,
        strides,
        padding,
        dilation,
        draw(st.sampled_from(list(ACTIVATIONS))),
        draw(DTYPES),
    )


def check(method, case):
    """Check that value and gradients on integers are exactly those of the reference."""
    with jax.enable_x64(case.dtype == "float64"):
        inputs = case.integers()
        ours, theirs = (
            value_and_gradients(call, *inputs) for call in (case.by(method), case.reference)
        )
        chex.assert_trees_all_equal_shapes_and_dtypes(ours, theirs)
        chex.assert_trees_all_equal(ours, theirs, custom_message=f"{method} on {case}")
