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

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import chex
import jax
import pytest
from absl import flags
from absl.testing import parameterized
from hypothesis import given, settings
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fidle_jax.kernels import comparison, conv_methods

__all__ = ["ConvComparison"]

EACH_RANK = parameterized.named_parameters(*((f"_in_{rank}d", rank) for rank in comparison.CHOICES))


class ConvComparison(chex.TestCase):
    """Tests of a registered method. Derive from this class and set ``method``.

    Attributes:
        method: Name of the method.
        tolerance: Largest accepted error, in units of eps times the largest value.
        forward_mode: The method supports `jax.jvp`. A method with a ``custom_vjp`` does not.
        local: Rounding errors are relative to the values in the window, not to the whole image.
        rank: Number of spatial axes of the case for all tests but those of drawn cases.
        examples: Number of drawn cases in 1, 2, 3 and 4 dimensions; ``-m slow`` draws 25 times as many.
    """

    method: str
    tolerance: float = 16
    forward_mode: bool = True
    local: bool = True
    rank: int = 2
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
        """Return a case of common shape: 3x3 for a rank of 2, if the method supports it."""
        drawn = (comparison.supported(self._supports, rank) for rank in comparison.CHOICES)
        kinds = itertools.chain([((3,) * self.rank, *[(1,) * self.rank] * 2)], *drawn)
        size, strides, dilation = next(kind for kind in kinds if self._supports(*kind))
        spatial = [(k - 1) * d + 2 * s for k, d, s in zip(size, dilation, strides, strict=True)]
        batch = 2 * jax.device_count()
        return comparison.ConvCase((batch, *spatial, 2), (*size, 2, 3), strides, "same", dilation)

    def _inputs(self):
        """Return the convolution of the common case by this method, by the reference, and arrays."""
        case = self._case
        return case.conv(self.method), case.conv("reference"), case.arrays()

    @property
    def _name(self):
        return f"method {self.method!r}"

    def _check_drawn(self, rank, **how):
        if not comparison.supported(self._supports, rank):
            self.skipTest(f"{self.method} supports no case with {rank} axes")

        @settings(deadline=None, **how)
        @given(comparison.conv_cases(self._supports, rank))
        def check_one(case):
            comparison.check(self.method, case, self.tolerance)

        check_one()

    def _check_transformations(self, transformations, plain=None):
        inputs = self._inputs()
        comparison.check_transformations(
            transformations, *inputs, self.tolerance, self._name, plain
        )

    @EACH_RANK
    def test_drawn_cases(self, rank):
        self._check_drawn(rank, max_examples=self.examples[rank - 1], derandomize=True)

    @EACH_RANK
    @pytest.mark.slow
    def test_many_drawn_cases(self, rank):
        self._check_drawn(rank, max_examples=25 * self.examples[rank - 1])

    @chex.variants(with_jit=True, without_jit=True, with_pmap=True)
    def test_common_case(self):
        conv, _, arrays = self._inputs()
        result = self.variant(functools.partial(comparison.value_and_gradients, conv))(*arrays)
        comparison.assert_close(
            result, comparison.solve_once("reference", self._case), self.tolerance
        )

    def test_empty_batch(self):
        case = self._case
        empty = dataclasses.replace(case, x_shape=(0, *case.x_shape[1:]))
        comparison.check(self.method, empty, self.tolerance)

    def test_reverse_mode(self):
        self._check_transformations(comparison.REVERSE_MODE)

    def test_forward_mode(self):
        if not self.forward_mode:
            self.skipTest(f"{self.method} has no forward mode")
        self._check_transformations(comparison.FORWARD_MODE)

    def test_checkpoint_and_shard_map(self):
        self._check_transformations(
            comparison.without_effect(), plain=comparison.value_and_gradients
        )

    def test_explicit_mesh(self):
        conv, reference, (x, w, weights) = self._inputs()
        mesh = jax.make_mesh((jax.device_count(),), ("batch",), axis_types=(AxisType.Explicit,))
        expected = comparison.compiled_gradients(reference, x, w, weights)
        with comparison.reported_as(
            f"{self._name} fails for a batch sharded over an explicit mesh:"
        ):
            with jax.set_mesh(mesh):
                sharding = NamedSharding(mesh, PartitionSpec("batch"))
                x, weights = jax.device_put((x, weights), sharding)
                result = comparison.compiled_gradients(conv, x, w, weights)
            comparison.assert_close(
                jax.device_get(result), jax.device_get(expected), self.tolerance
            )

    def test_strict_promotion(self):
        case = dataclasses.replace(self._case, dtype="bfloat16")
        arrays, expected = case.arrays(), comparison.solve_once("reference", case)
        with (
            comparison.reported_as(f"{self._name} fails with strict type promotion in bfloat16:"),
            jax.numpy_dtype_promotion("strict"),
            jax.numpy_rank_promotion("raise"),
        ):
            result = comparison.compiled_gradients(case.conv(self.method), *arrays)
            comparison.assert_close(jax.device_get(result), expected, self.tolerance)

    def test_repeated_eager_calls_compile_nothing(self):
        conv, _, (x, w, weights) = self._inputs()

        def call():
            y, pullback = jax.vjp(conv, x, w)
            return y, pullback(weights)

        jax.block_until_ready((call(), call()))
        programs = comparison.compiled_programs(call)
        assert not programs, (
            f"{self._name} compiles programs again in its third call with equal shapes: {programs}. "
            "Wrap it in jax.jit, or define the functions given to lax.map, lax.cond and lax.scan "
            "outside of the call"
        )

    def test_odd_numbers(self):
        conv, reference, _ = self._inputs()
        shapes = self._case.x_shape, self._case.w_shape
        with comparison.reported_as(f"{self._name} fails for infinities, NaN or large numbers:"):
            comparison.check_odd_numbers(conv, reference, *shapes, local=self.local)
