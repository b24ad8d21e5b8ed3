"""Tests for a method of convolution, as a class to derive from.

    from fidle_jax import kernels
    from fidle_jax.kernels.testing import ConvComparison

    def conv(x, w, *, strides, padding, dilation, groups): ...

    kernels.register("mine", conv)

    class TestMine(ConvComparison):
        method = "mine"

Run it with pytest; it needs hypothesis and chex (the extra ``test``). ``-m slow`` draws hundreds of
cases. On a GPU, set ``JAX_DEFAULT_MATMUL_PRECISION=highest`` to compare the methods instead of TF32's
rounding.
"""

import contextlib
import dataclasses
import functools
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from absl.testing import parameterized
from hypothesis import given, settings
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fidle_jax.kernels import conv, conv_methods
from fidle_jax.kernels.cases import CHOICES, ConvCase, conv_cases, supported

JUDGES = ("reference", "xla")
EACH_RANK = parameterized.named_parameters(*((f"_in_{rank}d", rank) for rank in CHOICES))
# Programs in the tests run once on little data, so compilation dominates.
jit_once = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

Conv = Callable[[jax.Array, jax.Array], jax.Array]


def value_and_gradients(conv: Conv) -> Callable:
    """Return a function (x, w, weights) -> (y, gradients of ``sum(y * weights)`` in x and w)."""

    def compute(x, w, weights):
        y, pullback = jax.vjp(conv, x, w)
        chex.assert_shape(y, weights.shape)
        chex.assert_type(y, weights.dtype)
        return y, pullback(weights)

    return compute


def solve(method: str, case: ConvCase):
    """Compute the value and gradients of ``case`` by ``method``, as NumPy arrays."""
    with jax.enable_x64(case.dtype == "float64"):
        compute = jit_once(value_and_gradients(case.conv(method)))
        return jax.device_get(compute(*case.arrays()))


_judge = functools.cache(solve)


def assert_close(ours, theirs, tolerance: float, message: str = "") -> None:
    """Compare trees: equal shapes and types, values within ``tolerance`` eps of the largest value."""
    chex.assert_trees_all_equal_shapes_and_dtypes(ours, theirs)
    for mine, expected in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        rounding = float(jnp.finfo(expected.dtype).eps)
        mine, expected = (np.asarray(leaf, np.float64) for leaf in (mine, expected))
        largest = np.abs(expected).max(initial=1)
        chex.assert_trees_all_close(
            mine, expected, rtol=0, atol=tolerance * rounding * largest, custom_message=message
        )


def check(method: str, case: ConvCase, tolerance: float) -> None:
    """Compare the value and gradients of ``case`` by ``method`` with those of the `JUDGES`."""
    result = solve(method, case)
    for judge in JUDGES:
        if judge != method:
            message = f"{method} and {judge} on {case}"
            assert_close(result, _judge(judge, case), tolerance, message)


@contextlib.contextmanager
def reported_as(what: str) -> Iterator[None]:
    """Prefix an error with a sentence that says which promise is broken."""
    try:
        yield
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise AssertionError(f"{what}\n{reason}") from error


def compiled_programs(call: Callable[[], object]) -> list[str]:
    """Run ``call`` and return the names of the programs that JAX compiled for it."""
    names = []

    class Handler(logging.Handler):
        def emit(self, record):
            if record.getMessage().startswith("Compiling"):
                names.append(record.getMessage().split(" with ")[0])

    logger, handler = logging.getLogger("jax"), Handler(logging.DEBUG)
    propagate, level = logger.propagate, logger.level
    logger.addHandler(handler)
    logger.propagate = False
    try:
        with jax.log_compiles():
            jax.block_until_ready(call())
    finally:
        logger.removeHandler(handler)
        logger.propagate, _ = propagate, logger.setLevel(level)
    return names


def _squares(conv):
    return lambda x, w: (conv(x, w) ** 2).sum()


def _pair(array):
    return jnp.stack([array, 1 - array])


def _linear_transposes(conv):
    def compute(x, w, weights):
        (dx,) = jax.linear_transpose(lambda x: conv(x, w), x)(weights)
        (dw,) = jax.linear_transpose(lambda w: conv(x, w), w)(weights)
        return dx, dw

    return compute


def _grad_of_vmap(mapped_x, mapped_w):
    axes = (0 if mapped_x else None, 0 if mapped_w else None)

    def transform(conv):
        def loss(x, w):
            x, w = _pair(x) if mapped_x else x, _pair(w) if mapped_w else w
            return (jax.vmap(conv, axes)(x, w) ** 2).sum()

        return lambda x, w, _: jax.grad(loss, (0, 1))(x, w)

    return transform


# Transformations by the phrase that a failure is reported with. Each maps a convolution of (x, w) to a
# function of (x, w, weights), whose result is compared with that of the reference.
REVERSE_MODE = {
    "grad of vmap over images": _grad_of_vmap(True, False),
    "grad of vmap over kernels": _grad_of_vmap(False, True),
    "grad of vmap over both": _grad_of_vmap(True, True),
    "vmap of grad (gradients of single examples)": lambda conv: (
        lambda x, w, _: jax.vmap(
            jax.grad(lambda w, x: _squares(conv)(x[None], w)), in_axes=(None, 0)
        )(w, x)
    ),
    "jacrev": lambda conv: lambda x, w, _: jax.jacrev(conv, 1)(x[:1], w),
    "grad of grad": lambda conv: (
        lambda x, w, _: jax.grad(
            lambda x, w: (jax.grad(_squares(conv), 1)(x, w) ** 2).sum(), (0, 1)
        )(x, w)
    ),
}
FORWARD_MODE = {
    "jvp": lambda conv: lambda x, w, _: jax.jvp(conv, (x, w), (1 - x, 1 - w)),
    "linearize": lambda conv: lambda x, w, _: jax.linearize(conv, x, w)[1](1 - x, 1 - w),
    "linear_transpose": _linear_transposes,
    "jvp of grad": lambda conv: (
        lambda x, w, _: jax.jvp(jax.grad(_squares(conv), (0, 1)), (x, w), (1 - x, 1 - w))
    ),
}

POLICIES = {
    name: getattr(jax.checkpoint_policies, name)
    for name in ("everything_saveable", "nothing_saveable", "dots_saveable")
} | {
    "dots_with_no_batch_dims_saveable": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "save_only_these_names": jax.checkpoint_policies.save_only_these_names("a"),
    "save_anything_except_these_names": (
        jax.checkpoint_policies.save_anything_except_these_names("a")
    ),
    "offload_dot_with_no_batch_dims": (
        jax.checkpoint_policies.offload_dot_with_no_batch_dims("device", "pinned_host")
    ),
}


def checkpointed(conv: Conv) -> Callable:
    """Return a function that computes the gradients under each of the `POLICIES`."""

    def compute(x, w, weights):
        return {
            name: value_and_gradients(jax.checkpoint(conv, policy=policy))(x, w, weights)
            for name, policy in POLICIES.items()
        }

    return compute


def without_policies(conv: Conv) -> Callable:
    """Return the expected result of `checkpointed`."""
    return lambda *arrays: dict.fromkeys(POLICIES, value_and_gradients(conv)(*arrays))


# Numbers that break methods which multiply values outside of a window by zero, or add and subtract
# them again: missing-data markers of satellite images, infinities, NaN, and numbers near the largest.
ODD_NUMBERS = (np.nan, np.inf, -np.inf, 3e38, -3e38, -9999.0, 1e6)


def odd_case(conv: Conv, x_shape: Sequence[int], w_shape: Sequence[int]):
    """Return images with one odd number each, a kernel, and weights of the output.

    Args:
        conv: Convolution, for the shape of its output.
        x_shape: Shape of the images; the batch size is replaced.
        w_shape: Shape of the kernel. Its values are below 1, so that products with the largest number
            stay finite.
    """
    rng = np.random.default_rng(0)
    x = rng.uniform(0.1, 1, (len(ODD_NUMBERS), *x_shape[1:])).astype(np.float32)
    w = (rng.uniform(0.1, 0.9, w_shape) * rng.choice([-1, 1], w_shape)).astype(np.float32)
    for example, number in enumerate(ODD_NUMBERS):
        place = tuple(rng.integers(0, n) for n in x_shape[1:])
        x[(example, *place)] = number
    y = jax.eval_shape(conv, x, w)
    return x, w, rng.uniform(0.1, 1, y.shape).astype(np.float32)


def assert_same_finite(ours, expected, bounds, local: bool, what: str) -> None:
    """Compare arrays: finite at the same positions, and there within the bounds if ``local``."""
    ours, expected, bounds = (np.asarray(a, np.float64) for a in (ours, expected, bounds))
    with np.errstate(over="ignore"):
        finite = np.isfinite(expected.astype(np.float32))
    wrong = np.isfinite(ours) != finite
    if wrong.any():
        place = tuple(map(int, np.argwhere(wrong)[0]))
        raise AssertionError(
            f"{what} is {ours[place]} at {place}, but the definition says {expected[place]} "
            f"({wrong.sum()} of {wrong.size} values are wrong). An output may be infinite or NaN only "
            "if a number in its window makes it so"
        )
    if local:
        excess = np.where(finite, np.abs(ours - np.where(finite, expected, 0)) - bounds, 0)
        excess = np.where(np.isnan(excess), 0, excess)
        if (excess > 0).any():
            place = tuple(map(int, np.argwhere(excess > 0)[0]))
            raise AssertionError(
                f"{what} is {ours[place]} at {place} instead of {expected[place]}. The error exceeds the "
                f"rounding of the values in the window, {bounds[place]:.2g}: a large number elsewhere "
                "changes this output"
            )


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
        x_shape: Shape of the images.
        w_shape: Shape of the kernel.
        local: Check also that rounding errors are relative to the values in the window.
        bound: Bilinear function that bounds the size of the output, if the reference is not bilinear.
    """
    bound = bound or reference
    x, w, weights = odd_case(reference, x_shape, w_shape)

    def each_example(conv):  # gradients in w of each example alone, so that one NaN is one example
        def compute(x, w, weights):
            y, pullback = jax.vjp(conv, x, w)
            return y, pullback(weights)[0]

        def of_kernel(x, w, weights):
            one = jax.vjp(lambda w: conv(x[None], w), w)[1]
            return one(weights[None])[0]

        def both(x, w, weights):
            parts = [of_kernel(x[i], w, weights[i]) for i in range(len(ODD_NUMBERS))]
            return *compute(x, w, weights), jnp.stack(parts)

        return both

    odd_weights = np.array(weights)
    odd_w = np.array(w)
    odd_w.reshape(-1)[odd_w.size // 2] = np.inf
    for i, number in enumerate(ODD_NUMBERS):
        odd_weights[i].reshape(-1)[i % odd_weights[i].size] = number
    plain = np.where(np.isfinite(x) & (np.abs(x) < 1e4), x, 0.5).astype(np.float32)
    for what, arrays in {
        "with odd numbers in x": (x, w, weights),
        "with an infinity in w": (plain, odd_w, weights),
        "with odd numbers in the cotangent": (plain, w, odd_weights),
    }.items():
        result = jax.device_get(jit_once(each_example(ours))(*arrays))
        with jax.enable_x64(True):
            wide = [np.asarray(a, np.float64) for a in arrays]
            expected = jax.device_get(jit_once(each_example(reference))(*wide))
            sizes = [np.where(np.isfinite(a), np.abs(a), 0) for a in wide]
            sizes[1] = np.full_like(sizes[1], sizes[1].max())
            y, dx, dw = jax.device_get(jit_once(each_example(bound))(*sizes))
        # A kernel's gradient sums over the whole image; which pixels differs at the margin only.
        dw = np.broadcast_to(dw.max(tuple(range(1, dw.ndim)), keepdims=True), dw.shape)
        for name, mine, theirs, size in zip(
            ("y", "the gradient in x", "the gradient in w"),
            result,
            expected,
            (y, dx, dw),
            strict=True,
        ):
            bounds = 64 * float(np.finfo(np.float32).eps) * size
            assert_same_finite(mine, theirs, bounds, local, f"{what}, {name}")


class ConvComparison(chex.TestCase):
    """Tests of a registered method. Derive from this class and set ``method``.

    Attributes:
        method: Name of the method.
        tolerance: Largest accepted error, in units of eps times the largest value.
        forward_mode: The method supports `jax.jvp`. A method with a ``custom_vjp`` does not.
        local: Rounding errors are relative to the values in the window, not to the whole image.
        examples: Number of drawn cases in 1, 2, 3 and 4 dimensions; ``-m slow`` draws 25 times as many.
    """

    method: str
    tolerance: float = 16
    forward_mode: bool = True
    local: bool = True
    examples: Sequence[int] = (5, 5, 3, 2)
    __test__ = False

    def __init_subclass__(cls):
        super().__init_subclass__()
        cls.__test__ = True

    @classmethod
    def setUpClass(cls):
        """Run the pmap variant also on a single device, which chex skips by default."""
        super().setUpClass()
        flags.FLAGS["chex_skip_pmap_variant_if_single_device"].value = False

    @property
    def _supports(self):
        return conv_methods()[self.method].supports

    @property
    def _case(self):
        """Return a case of common shape: 3x3, if the method supports it."""
        kinds = [((3, 3), (1, 1), (1, 1))]
        kinds = itertools.chain(kinds, *(supported(self._supports, rank) for rank in CHOICES))
        size, strides, dilation = next(kind for kind in kinds if self._supports(*kind))
        spatial = [(k - 1) * d + 2 * s for k, d, s in zip(size, dilation, strides, strict=True)]
        return ConvCase((2, *spatial, 2), (*size, 2, 3), strides, "same", dilation)

    def _check_drawn(self, rank, **how):
        if not supported(self._supports, rank):
            self.skipTest(f"{self.method} does no windows of {rank} axes drawn here")

        @settings(deadline=None, **how)
        @given(conv_cases(self._supports, rank))
        def check_one(case):
            check(self.method, case, self.tolerance)

        check_one()

    def _compare(self, what, transform, plain=None):
        """Compare a transformed convolution with the transformed reference (or ``plain`` of it)."""
        case = self._case
        expected = jit_once((plain or transform)(case.conv("reference")))(*case.arrays())
        with reported_as(f"method {self.method!r} fails under {what}:"):
            result = jit_once(transform(case.conv(self.method)))(*case.arrays())
            assert_close(result, expected, self.tolerance)

    @EACH_RANK
    def test_drawn_cases(self, rank):
        self._check_drawn(rank, max_examples=self.examples[rank - 1], derandomize=True)

    @EACH_RANK
    @pytest.mark.slow
    def test_many_drawn_cases(self, rank):
        self._check_drawn(rank, max_examples=25 * self.examples[rank - 1])

    @chex.variants(with_jit=True, without_jit=True, with_pmap=True)
    def test_usual_case(self):
        case = self._case
        result = self.variant(value_and_gradients(case.conv(self.method)))(*case.arrays())
        assert_close(result, _judge("reference", case), self.tolerance)

    def test_empty_batch(self):
        case = self._case
        empty = dataclasses.replace(case, x_shape=(0, *case.x_shape[1:]))
        check(self.method, empty, self.tolerance)

    def test_vmap_over_images_and_kernels(self):
        def mapped(conv):
            compute = jax.vmap(value_and_gradients(conv))
            return lambda *arrays: compute(*map(_pair, arrays))

        self._compare("vmap of its value and gradients", mapped)

    @parameterized.named_parameters(*((f"_{name}", name) for name in REVERSE_MODE))
    def test_reverse_mode(self, name):
        self._compare(name, REVERSE_MODE[name])

    @parameterized.named_parameters(*((f"_{name}", name) for name in FORWARD_MODE))
    def test_forward_mode(self, name):
        if not self.forward_mode:
            self.skipTest(f"{self.method} has no forward mode")
        self._compare(name, FORWARD_MODE[name])

    def test_checkpoint_policies(self):
        self._compare("jax.checkpoint with a policy", checkpointed, plain=without_policies)

    def test_descent_in_scan(self):
        def descend(conv):
            def run(x, w, weights):
                def step(w, x):
                    loss, slope = jax.value_and_grad(lambda w: (conv(x, w) * weights).mean())(w)
                    return w - 0.1 * slope, loss

                return jax.lax.scan(step, w, jnp.stack([x, 1 - x, x]))

            return run

        self._compare("gradient descent in lax.scan", descend)

    def test_shard_map_over_the_batch(self):
        count = jax.device_count()
        parts, whole = PartitionSpec("batch"), PartitionSpec()
        mesh = jax.sharding.Mesh(jax.devices(), ("batch",))

        def repeated(conv):
            def compute(x, w, weights):
                x, weights = (jnp.concatenate([a] * count) for a in (x, weights))
                y, (dx, dw) = value_and_gradients(conv)(x, w, weights)
                return y, dx, dw, dw

            return compute

        def sharded(conv):
            def inside(x, w, weights):
                return value_and_gradients(conv)(x, w, weights)[1][1]

            spread = {"mesh": mesh, "in_specs": (parts, whole), "out_specs": parts}
            outside = jax.shard_map(conv, **spread)
            within = jax.shard_map(
                inside, mesh=mesh, in_specs=(parts, whole, parts), out_specs=whole
            )

            def compute(x, w, weights):
                many, weights = (jnp.concatenate([a] * count) for a in (x, weights))
                y, (dx, dw) = value_and_gradients(outside)(many, w, weights)
                return y, dx, dw, within(many, w, weights)

            return compute

        self._compare("shard_map, outside and inside of grad", sharded, plain=repeated)

    def test_explicit_mesh(self):
        case = self._case
        count = jax.device_count()
        mesh = jax.make_mesh((count,), ("batch",), axis_types=(AxisType.Explicit,))
        x, w, weights = case.arrays()
        x, weights = (jnp.concatenate([a] * count) for a in (x, weights))
        expected = jit_once(value_and_gradients(case.conv("reference")))(x, w, weights)
        with reported_as(
            f"method {self.method!r} fails for a batch sharded over an explicit mesh:"
        ):
            with jax.set_mesh(mesh):
                spread = NamedSharding(mesh, PartitionSpec("batch"))
                x, weights = jax.device_put((x, weights), spread)
                call = functools.partial(conv, method=self.method, **case.arguments())
                result = jit_once(value_and_gradients(call))(x, w, weights)
            assert_close(jax.device_get(result), jax.device_get(expected), self.tolerance)

    def test_strict_promotion(self):
        case = dataclasses.replace(self._case, dtype="bfloat16")
        arrays = case.arrays()
        expected = _judge("reference", case)
        with (
            reported_as(f"method {self.method!r} fails with strict type promotion in bfloat16:"),
            jax.numpy_dtype_promotion("strict"),
            jax.numpy_rank_promotion("raise"),
        ):
            result = jit_once(value_and_gradients(case.conv(self.method)))(*arrays)
            assert_close(jax.device_get(result), expected, self.tolerance)

    def test_repeated_eager_calls_compile_nothing(self):
        case = self._case
        arrays = case.arrays()

        def call():
            y, pullback = jax.vjp(case.conv(self.method), *arrays[:2])
            return y, pullback(arrays[2])

        jax.block_until_ready((call(), call()))
        programs = compiled_programs(call)
        assert not programs, (
            f"method {self.method!r} compiles programs again in its third call with equal shapes: "
            f"{programs}. Wrap it in jax.jit, or define the functions given to lax.map, lax.cond and "
            "lax.scan outside of the call"
        )

    def test_odd_numbers(self):
        case = self._case
        with reported_as(f"method {self.method!r} fails for infinities, NaN or large numbers:"):
            check_odd_numbers(
                case.conv(self.method),
                case.conv("reference"),
                case.x_shape,
                case.w_shape,
                local=self.local,
            )
