"""All that is promised of a method of convolution, as a class of tests to derive from.

    from fidle_jax import kernels
    from fidle_jax.kernels.testing import ConvComparison

    def conv(x, w, *, strides, padding, dilation, groups): ...

    kernels.register("mine", conv)

    class TestMine(ConvComparison):
        method = "mine"

Run by pytest, with hypothesis and chex (the extra ``test``). ``-m slow`` draws hundreds of cases. On a
GPU, ``JAX_DEFAULT_MATMUL_PRECISION=highest`` compares the methods rather than TF32's roundings.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from absl.testing import parameterized
from hypothesis import given, settings
from jax.sharding import PartitionSpec

from fidle_jax.kernels import conv_methods
from fidle_jax.kernels.cases import CHOICES, ConvCase, conv_cases, supported

JUDGES = ("reference", "xla")
EACH_RANK = parameterized.named_parameters(*((f"_in_{rank}d", rank) for rank in CHOICES))
# A program that runs once, on a few numbers, takes most of its time to compile.
jit_once = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def value_and_gradients(conv: Callable) -> Callable:
    """(x, w, weights) -> (y, gradients of the weighted sum of y by x and by w)."""

    def compute(x, w, weights):
        y, pullback = jax.vjp(conv, x, w)
        chex.assert_shape(y, weights.shape)
        chex.assert_type(y, weights.dtype)
        return y, pullback(weights)

    return compute


def solve(method: str, case: ConvCase):
    """Value and gradients of ``case`` by ``method``, as NumPy arrays."""
    with jax.enable_x64(case.dtype == "float64"):
        compute = jit_once(value_and_gradients(case.conv(method)))
        return jax.device_get(compute(*case.arrays()))


_judge = functools.cache(solve)


def assert_close(ours, theirs, tolerance: float, message: str = "") -> None:
    """Trees alike in shapes and types; values within ``tolerance`` roundings of their array's largest."""
    chex.assert_trees_all_equal_shapes_and_dtypes(ours, theirs)
    for mine, expected in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        rounding = float(jnp.finfo(expected.dtype).eps)
        mine, expected = (np.asarray(leaf, np.float64) for leaf in (mine, expected))
        largest = np.abs(expected).max(initial=1)
        chex.assert_trees_all_close(
            mine, expected, rtol=0, atol=tolerance * rounding * largest, custom_message=message
        )


def check(method: str, case: ConvCase, tolerance: float) -> None:
    """Value and gradients of ``case`` by ``method`` are those of the `JUDGES`."""
    result = solve(method, case)
    for judge in JUDGES:
        if judge != method:
            message = f"{method} and {judge} on {case}"
            assert_close(result, _judge(judge, case), tolerance, message)


class ConvComparison(chex.TestCase):
    """The tests; derive from it, and name a registered ``method``.

    Attributes:
        method: its name.
        tolerance: how far from the reference, in roundings of the largest value.
        forward_mode: whether `jax.jvp` goes through it; not where its gradient is a ``custom_vjp``.
        examples: how many cases are drawn in 1, 2, 3 and 4 dimensions; ``-m slow`` draws 25 times these.
    """

    method: str
    tolerance: float = 16
    forward_mode: bool = True
    examples: Sequence[int] = (5, 5, 3, 2)
    __test__ = False

    def __init_subclass__(cls):
        super().__init_subclass__()
        cls.__test__ = True

    @classmethod
    def setUpClass(cls):
        """Chex would leave out pmap where there is one device."""
        super().setUpClass()
        flags.FLAGS["chex_skip_pmap_variant_if_single_device"].value = False

    @property
    def _supports(self):
        return conv_methods()[self.method].supports

    @property
    def _case(self):
        """One of usual shape: 3x3, if the method does that."""
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

    def _compare(self, transform, plain=None):
        """What ``transform`` makes of the convolution, and of the reference (or ``plain`` of that)."""
        case = self._case
        results = [
            jit_once(change(case.conv(method)))(*case.arrays())
            for change, method in [(transform, self.method), (plain or transform, "reference")]
        ]
        assert_close(*results, self.tolerance)

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
            return lambda *arrays: compute(*(jnp.stack([a, 1 - a]) for a in arrays))

        self._compare(mapped)

    def test_descent_in_scan(self):
        def descend(conv):
            def run(x, w, weights):
                def step(w, x):
                    loss, slope = jax.value_and_grad(lambda w: (conv(x, w) * weights).mean())(w)
                    return w - 0.1 * slope, loss

                return jax.lax.scan(step, w, jnp.stack([x, 1 - x, x]))

            return run

        self._compare(descend)

    def test_shard_map_over_the_batch(self):
        count = jax.device_count()
        parts, whole = PartitionSpec("batch"), PartitionSpec()
        mesh = jax.sharding.Mesh(jax.devices(), ("batch",))

        def repeated(conv):
            def compute(x, w, weights):
                x, weights = (jnp.concatenate([a] * count) for a in (x, weights))
                return value_and_gradients(conv)(x, w, weights)

            return compute

        def sharded(conv):
            conv = jax.shard_map(conv, mesh=mesh, in_specs=(parts, whole), out_specs=parts)
            return repeated(conv)

        self._compare(sharded, plain=repeated)

    def test_second_order(self):
        def twice(conv):
            def slopes(x, w):
                return jax.grad(lambda x, w: (conv(x, w) ** 2).sum(), (0, 1))(x, w)

            return lambda x, w, _: jax.vjp(slopes, x, w)[1]((x, w))

        self._compare(twice)

    def test_forward_mode(self):
        if not self.forward_mode:
            self.skipTest(f"{self.method} has no forward mode")
        self._compare(lambda conv: lambda x, w, _: jax.jvp(conv, (x, w), (1 - x, 1 - w)))
