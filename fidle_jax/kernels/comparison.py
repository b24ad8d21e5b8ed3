"""Cases, transformations and comparisons for the tests of a convolution or pooling method.

`fidle_jax.kernels.testing.ConvComparison` runs them.
"""

import contextlib
import dataclasses
import functools
import itertools
import logging
import unittest
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from jax.sharding import AxisType, PartitionSpec

from fidle_jax.kernels import conv
from fidle_jax.kernels.geometry import resolve_geometry

Conv = Callable[[Any, Any], Any]

# Programs in the tests run once on little data, so compilation dominates.
jit_once = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

# Kernel sizes, strides and dilations for an axis, by the number of axes.
CHOICES = {
    1: ((1, 2, 3, 4, 5), (1, 2, 3), (1, 2, 3)),
    2: ((1, 2, 3, 4, 5), (1, 2, 3), (1, 2)),
    3: ((1, 2, 3), (1, 2), (1, 2)),
    4: ((1, 2), (1, 2), (1,)),
}


@dataclasses.dataclass(frozen=True)
class ConvCase:
    """Shapes, type and arguments of a convolution."""

    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str | int | tuple[int | tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1
    dtype: str = "float32"

    def arrays(self) -> list[jax.Array]:
        """Return x, w, and random weights of the result, the cotangent of the gradients."""
        rng = np.random.default_rng(0)
        y_shape = jax.eval_shape(
            self.conv("xla"), *map(jnp.zeros, (self.x_shape, self.w_shape))
        ).shape
        shapes = (self.x_shape, self.w_shape, y_shape)
        return [jnp.asarray(rng.normal(size=shape), self.dtype) for shape in shapes]

    def conv(self, method: str) -> Conv:
        """Return the convolution of x and w by ``method``."""
        names = ("strides", "padding", "dilation", "groups")
        return functools.partial(conv, method=method, **{n: getattr(self, n) for n in names})


def supported(supports: Callable[..., bool], rank: int) -> list[tuple]:
    """Return all (kernel size, strides, dilation) from ``CHOICES[rank]`` that ``supports`` accepts."""
    axes = itertools.product(itertools.product(*CHOICES[rank]), repeat=rank)
    return [kind for kind in (tuple(zip(*axis, strict=True)) for axis in axes) if supports(*kind)]


@st.composite
def conv_cases(draw, supports: Callable[..., bool], rank: int) -> ConvCase:
    """Draw cases of ``rank`` spatial axes with supported geometry, the simplest first."""
    size, strides, dilation = draw(st.sampled_from(supported(supports, rank)))
    pair = st.tuples(*[st.integers(0, 3)] * 2)
    each = st.tuples(*[st.integers(0, 3) | pair] * rank)
    padding = draw(st.sampled_from(["valid", "same"]) | st.integers(0, 2) | each)
    span = resolve_geometry(size, size, 1, "same", dilation).span
    least = [1 if padding == "same" else k for k in span]
    spatial = [n + draw(st.integers(0, 4)) for n in least]
    batch, groups, channels, features = (draw(st.integers(1, 3)) for _ in range(4))
    dtype = draw(st.sampled_from(["float32", "bfloat16", "float64"]))
    x_shape = (batch, *spatial, channels * groups)
    w_shape = (*size, channels, features * groups)
    return ConvCase(x_shape, w_shape, strides, padding, dilation, groups, dtype)


def value_and_gradients(conv: Conv, x: Any, w: Any, weights: Any) -> tuple[Any, tuple[Any, Any]]:
    """Return conv(x, w) and the gradients of ``sum(conv(x, w) * weights)`` in x and w."""
    y, pullback = jax.vjp(conv, x, w)
    chex.assert_equal_shape([y, weights])
    chex.assert_type(y, weights.dtype)
    return y, pullback(weights)


# Compiles for each function, because these are different objects.
compiled_gradients = jit_once(value_and_gradients, static_argnums=0)


def solve(method: str, case: ConvCase):
    """Compute the value and gradients of ``case`` by ``method``, as NumPy arrays."""
    with jax.enable_x64(case.dtype == "float64"):
        return jax.device_get(compiled_gradients(case.conv(method), *case.arrays()))


solve_once = functools.cache(solve)


def check(method: str, case: ConvCase, tolerance: float) -> None:
    """Compare the value and gradients by ``method`` with those of the reference and of XLA."""
    result = solve(method, case)
    for judge in {"reference", "xla"} - {method}:
        message = f"{method} and {judge} on {case}"
        assert_close(result, solve_once(judge, case), tolerance, message)


def assert_close(ours, theirs, tolerance: float, message: str = "") -> None:
    """Compare trees: equal shapes and types, values within ``tolerance`` eps of the largest value."""
    chex.assert_trees_all_equal_shapes_and_dtypes(ours, theirs)
    for mine, expected in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        rounding = float(jnp.finfo(expected.dtype).eps)
        mine, expected = (np.asarray(leaf, np.float64) for leaf in (mine, expected))
        atol = tolerance * rounding * np.abs(expected).max(initial=1)
        chex.assert_trees_all_close(mine, expected, rtol=0, atol=atol, custom_message=message)


@contextlib.contextmanager
def reported_as(what: str) -> Iterator[None]:
    """Prefix an error with a sentence that says which guarantee is violated."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{what}\n{type(error).__name__}: {error}") from error


def compiled_programs(call: Callable[[], object]) -> list[str]:
    """Run ``call`` and return the names of the programs that JAX compiled for it."""
    with jax.log_compiles(), unittest.TestCase().assertLogs("jax", logging.DEBUG) as logs:
        logging.getLogger("jax").debug("assertLogs needs at least one message")
        jax.block_until_ready(call())
    messages = [record.getMessage() for record in logs.records]
    return [line.split(" with ")[0] for line in messages if line.startswith("Compiling")]


def _pair(array):
    return jnp.stack([array, 1 - array])


def _squares(conv):
    return lambda x, w: (conv(x, w) ** 2).sum()


def _grad_of_vmap(x_axis, w_axis):
    def compute(conv, x, w, _):
        def loss(x, w):
            x, w = x if x_axis is None else _pair(x), w if w_axis is None else _pair(w)
            return (jax.vmap(conv, (x_axis, w_axis))(x, w) ** 2).sum()

        return jax.grad(loss, (0, 1))(x, w)

    return compute


def _vmap_of_grad(conv, x, w, _):
    gradient = jax.grad(lambda w, x: _squares(conv)(x[None], w))
    return jax.vmap(gradient, in_axes=(None, 0))(w, x)


def _grad_of_grad(conv, x, w, _):
    return jax.grad(lambda *a: (jax.grad(_squares(conv), 1)(*a) ** 2).sum(), (0, 1))(x, w)


def _descent_in_scan(conv, x, w, weights):
    def step(w, x):
        loss, slope = jax.value_and_grad(lambda w: (conv(x, w) * weights).mean())(w)
        return w - 0.1 * slope, loss

    return jax.lax.scan(step, w, jnp.stack([x, 1 - x, x]))


# Functions (conv, x, w, weights) by name. Their results are compared with those for the reference.
REVERSE_MODE = {
    "vmap of its value and gradients": lambda conv, *arrays: jax.vmap(
        functools.partial(value_and_gradients, conv)
    )(*map(_pair, arrays)),
    "gradient descent in lax.scan": _descent_in_scan,
    "grad of vmap over images": _grad_of_vmap(0, None),
    "grad of vmap over kernels": _grad_of_vmap(None, 0),
    "grad of vmap over both": _grad_of_vmap(0, 0),
    "vmap of grad (gradients of single examples)": _vmap_of_grad,
    "jacrev": lambda conv, x, w, _: jax.jacrev(conv, 1)(x[:1], w),
    "grad of grad": _grad_of_grad,
}
FORWARD_MODE = {
    "jvp": lambda conv, x, w, _: jax.jvp(conv, (x, w), (1 - x, 1 - w)),
    "linearize": lambda conv, x, w, _: jax.linearize(conv, x, w)[1](1 - x, 1 - w),
    "linear_transpose": lambda conv, x, w, weights: (
        jax.linear_transpose(lambda x: conv(x, w), x)(weights),
        jax.linear_transpose(lambda w: conv(x, w), w)(weights),
    ),
    "jvp of grad": lambda conv, x, w, _: jax.jvp(
        jax.grad(_squares(conv), (0, 1)), (x, w), (1 - x, 1 - w)
    ),
}

_policies = jax.checkpoint_policies
POLICIES = [
    _policies.everything_saveable,
    _policies.nothing_saveable,
    _policies.dots_saveable,
    _policies.dots_with_no_batch_dims_saveable,
    _policies.save_only_these_names("a"),
    _policies.save_anything_except_these_names("a"),
    _policies.offload_dot_with_no_batch_dims("device", "pinned_host"),
]


def without_effect() -> dict[str, Callable[..., Any]]:
    """Return functions (conv, x, w, weights) with the result of `value_and_gradients`, by name."""
    sharded, whole = PartitionSpec("batch"), PartitionSpec()
    mesh = jax.make_mesh((jax.device_count(),), ("batch",), axis_types=(AxisType.Auto,))
    shard_map = functools.partial(jax.shard_map, mesh=mesh)
    outside = {"in_specs": (sharded, whole), "out_specs": sharded}
    inside = {"in_specs": (sharded, whole, sharded), "out_specs": (sharded, (sharded, whole))}

    def with_checkpoint(policy, conv, *arrays):
        return value_and_gradients(jax.checkpoint(conv, policy=policy), *arrays)

    def grad_of_shard_map(conv, *arrays):
        return value_and_gradients(shard_map(conv, **outside), *arrays)

    def shard_map_of_grad(conv, *arrays):
        return shard_map(functools.partial(value_and_gradients, conv), **inside)(*arrays)

    found = {"grad of shard_map": grad_of_shard_map, "shard_map of grad": shard_map_of_grad}
    for policy in POLICIES:
        name = f"jax.checkpoint with the policy {policy.__qualname__.partition('.')[0]}"
        found[name] = functools.partial(with_checkpoint, policy)
    return found


def check_transformations(
    transformations: Mapping[str, Callable[..., Any]],
    ours: Conv,
    theirs: Conv,
    arrays: Sequence[Any],
    tolerance: float,
    name: str = "it",
    plain: Callable[..., Any] | None = None,
) -> None:
    """Compare transformed convolutions. All transformations are compiled as one program.

    ``transformations`` are those of ``ours`` by name, as in `REVERSE_MODE`, and of ``theirs`` if ``plain``
    is None. ``name`` is that of the method, for error messages.
    """

    def transform_all(conv, functions):
        return jit_once(lambda *arrays: [each(conv, *arrays) for each in functions])(*arrays)

    functions = transformations.values()
    expected = transform_all(theirs, [plain] if plain else functions)
    try:
        results = transform_all(ours, functions)
    except Exception:
        for label, function in transformations.items():
            with reported_as(f"{name} fails under {label}:"):
                transform_all(ours, [function])
        raise
    for index, label in enumerate(transformations):
        with reported_as(f"{name} fails under {label}:"):
            assert_close(results[index], expected[0 if plain else index], tolerance)


# Numbers that break methods which multiply values outside of a window by zero, or add and subtract
# them: missing-data markers of satellite images, infinities, NaN, and numbers near the largest.
ODD_NUMBERS = (np.nan, np.inf, -np.inf, 3e38, -3e38, -9999.0, 1e6)


def check_odd_numbers(
    ours: Conv,
    reference: Conv,
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    *,
    local: bool,
    bound: Conv | None = None,
) -> None:
    """Check outputs and gradients for images, kernels and cotangents with odd numbers.

    Args:
        ours: Convolution to check.
        reference: Its definition.
        x_shape: Shape of the images. The batch size is replaced: each image has one odd number.
        w_shape: Shape of the kernel. Its values are below 1, so that products stay finite.
        local: Check also that rounding errors are relative to the values in the window.
        bound: Bilinear function that bounds the absolute output, if the reference is not bilinear.
    """
    rng = np.random.default_rng(0)
    x = rng.uniform(0.1, 1, (len(ODD_NUMBERS), *x_shape[1:])).astype(np.float32)
    w = (rng.uniform(0.1, 0.9, w_shape) * rng.choice([-1, 1], w_shape)).astype(np.float32)
    weights = rng.uniform(0.1, 1, jax.eval_shape(reference, x, w).shape).astype(np.float32)
    odd_x, odd_w, odd_weights = (array.copy() for array in (x, w, weights))
    odd_w.reshape(-1)[w.size // 2] = np.inf
    for i, number in enumerate(ODD_NUMBERS):
        odd_x[i].reshape(-1)[rng.integers(x[i].size)] = number
        odd_weights[i].reshape(-1)[i % weights[i].size] = number
    x = np.where(np.abs(odd_x) < 1e4, odd_x, x)  # with a large but ordinary number

    def all_of(conv):
        """Return the output and its gradients, those in w for each example alone."""

        def of_kernel(x, w, weights):
            return jax.vjp(lambda w: conv(x[None], w), w)[1](weights[None])[0]

        def compute(x, w, weights):
            y, pullback = jax.vjp(conv, x, w)
            # Not `lax.map`: in a loop XLA's convolution ignores a NaN that meets padding.
            dw = [of_kernel(x[i], w, weights[i]) for i in range(len(x))]
            return y, pullback(weights)[0], jnp.stack(dw)

        return jit_once(compute)

    compute, definition, bounds = map(all_of, (ours, reference, bound or reference))
    for what, arrays in {
        "with odd numbers in x": (odd_x, w, weights),
        "with an infinity in w": (x, odd_w, weights),
        "with odd numbers in the cotangent": (x, w, odd_weights),
    }.items():
        results = jax.device_get(compute(*arrays))
        with jax.enable_x64(True):
            wide = [np.asarray(a, np.float64) for a in arrays]
            expected = jax.device_get(definition(*wide))
            magnitudes = [np.where(np.isfinite(a), np.abs(a), 0) for a in wide]
            magnitudes[1] = np.full_like(w, magnitudes[1].max(), np.float64)
            y, dx, dw = jax.device_get(bounds(*magnitudes))
        # A kernel's gradient sums over the whole image, except for the pixels at its margin.
        dw = np.broadcast_to(dw.max(tuple(range(1, dw.ndim)), keepdims=True), dw.shape)
        names = ("y", "the gradient in x", "the gradient in w")
        for name, mine, theirs, largest in zip(names, results, expected, (y, dx, dw), strict=True):
            _assert_same_finite(mine, theirs, largest, local, f"{what}, {name}")


def _assert_same_finite(ours, expected, largest, local, what):
    """Compare arrays: finite at the same positions, and there within rounding if ``local``."""
    ours, expected = (np.asarray(a, np.float64) for a in (ours, expected))
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(expected.astype(np.float32))
        bounds = 64 * float(np.finfo(np.float32).eps) * np.asarray(largest, np.float64)
        excess = finite & (np.abs(ours - expected) > bounds)
    reasons = {
        "An output may be infinite or NaN only if a number in its window makes it so": (
            np.isfinite(ours) != finite
        ),
        "The error exceeds the rounding of the values in the window: a large number elsewhere changes "
        "this output": excess & local,
    }
    for reason, wrong in reasons.items():
        if wrong.any():
            index = tuple(map(int, np.argwhere(wrong)[0]))
            raise AssertionError(
                f"{what} is {ours[index]} at {index}, but the definition says {expected[index]} "
                f"({wrong.sum()} of {wrong.size} values are wrong). {reason}"
            )
