"""Tests for a kernel, as classes to derive from: errors relative to float64, transformations, timing.

    from fidle_jax import kernels
    from fidle_jax.kernels.testing import ConvComparison

    def conv(x, w, *, strides, padding, dilation, groups): ...

    kernels.register("mine", conv)

    class TestMine(ConvComparison):
        method = "mine"

Run it with pytest; it needs hypothesis and chex (the extra ``test``). It ends with a table. `Comparison`
compares any two functions, `PoolComparison` and `ConvPoolComparison` the operations of their names.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import pytest
from absl import flags
from absl.testing import parameterized
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import fidle_jax.kernels as kernels
from fidle_jax.kernels import checks, comparison, drawn, reference
from fidle_jax.kernels.comparison import Error, Subject
from fidle_jax.kernels.rows import align
from fidle_jax.kernels.specs import CONV_POOL_SPECS, CONV_SPECS, POOL_SPECS, Spec
from fidle_jax.kernels.timing import time

__all__ = ["Comparison", "ConvComparison", "ConvPoolComparison", "PoolComparison", "Spec", "time"]

EACH_DTYPE = parameterized.named_parameters(
    *((f"_in_{dtype}", dtype) for dtype in ("float32", "bfloat16", "float16", "float64"))
)


class Comparison(chex.TestCase):
    """Tests of a function against its definition. Derive from this class and set the attributes.

        class TestAttention(Comparison):
            function = fast_attention
            reference = attention
            specs = [Spec((2, 16, 4, 8), (2, 16, 4, 8), (2, 16, 4, 8))]
            batched = (0, 1, 2)

    Attributes:
        function: The kernel, a function of the arguments of each spec.
        reference: Its definition in JAX. It is computed in float64 for the comparison.
        baseline: Function whose errors are accepted; by default the reference in the type of the kernel.
        specs: Arguments. The first is used for the tests of calls and transformations.
        dtypes: Types of the arguments. All specs are compared in the first, every second spec in the others.
        ratio: Largest accepted error relative to that of the baseline, see `fidle_jax.kernels.comparison`.
        differentiable: The function has derivatives. Otherwise only values are compared.
        forward_mode: It supports `jax.jvp`. A function with a ``custom_vjp`` does not.
        batched: Indices of the arguments whose first axis is the batch, like that of the result.
        local: Errors are relative to the numbers that a value depends on, not to the largest ones. A
            function must be well-conditioned everywhere for this, for example linear in each argument.
        odd_numbers: Compare also with infinities, NaN and numbers near the largest, see
            `fidle_jax.kernels.comparison.measure`.
        strict_promotion: It works in bfloat16 with `jax.numpy_dtype_promotion("strict")`.
        mixed: See `fidle_jax.kernels.comparison.Subject`.
        examples: Number of drawn shapes.
        drawn: Strategy of hypothesis for specs; by default, the specs with other sizes of the axes.
        independent: Fail if the function calls the reference.
        definition: Function that the kernel must not call; by default, the reference.
        timed: Specs whose time is compared; by default, the first.
    """

    function: Callable[..., Any]
    reference: Callable[..., Any]
    baseline: Callable[..., Any] | None = None
    specs: Sequence[Spec]
    dtypes: Sequence[str] = ("float32", "bfloat16", "float64")
    ratio: float = 2
    differentiable: bool = True
    forward_mode: bool = True
    batched: Sequence[int] = ()
    local: bool = False
    odd_numbers: bool | Sequence[str] = True
    strict_promotion: bool = False
    mixed: str | None = None
    examples: int = 5
    drawn: st.SearchStrategy[Spec] | None = None
    independent: bool = True
    definition: Callable[..., Any] | None = None
    timed: Sequence[Spec] = ()
    table: "Table"
    pytest_config: Any = None
    __test__ = False

    def __init_subclass__(cls):
        super().__init_subclass__()
        cls.__test__ = hasattr(cls, "function")

    @classmethod
    def setUpClass(cls):
        """Run the pmap variant also on a single device, which chex skips by default."""
        super().setUpClass()
        cls.table = Table(cls.__name__)
        flags.FLAGS["chex_skip_pmap_variant_if_single_device"].value = False

    @classmethod
    def tearDownClass(cls):
        """Print the table at the end of the run of pytest."""
        if cls.pytest_config:
            cls.pytest_config.pluginmanager.register(cls.table)
        super().tearDownClass()

    @pytest.fixture(autouse=True)
    def _remember_config(self, request):
        type(self).pytest_config = request.config

    @classmethod
    def subject(cls) -> Subject:
        """Return the functions to compare."""
        return Subject(
            cls.label(),
            cls.function,
            cls.reference,
            cls.baseline or cls.reference,
            cls.differentiable,
            cls.forward_mode,
            cls.ratio,
            cls.local,
            cls.mixed,
        )

    @classmethod
    def label(cls) -> str:
        """Return the name of the kernel for messages."""
        return getattr(cls.function, "__name__", cls.__name__)

    @property
    def _common(self):
        """Return the first spec, with a batch that can be sharded over all devices."""
        spec = self.specs[0]
        inputs = [
            (each[0] * jax.device_count(), *each[1:]) if i in self.batched else each
            for i, each in enumerate(spec.inputs)
        ]
        return Spec(*inputs, **spec.arguments)

    def _truth(self, dtype="float32"):
        """Return the subject, the common spec, a case of it, and the expected results."""
        subject = dataclasses.replace(self.subject(), forward_mode=False)  # compiles sooner
        spec = self._common
        case = comparison.make_case(comparison.without_kernel(subject), spec, dtype, "normal", 0)
        return subject, spec, case, comparison.find_truth(subject, spec, case)

    @EACH_DTYPE
    def test_errors(self, dtype):
        if dtype not in self.dtypes:
            self.skipTest(f"{dtype} is not among the types of {type(self).__name__}.dtypes")
        # Programs for each type take long to compile. Drawn shapes have all types.
        for spec in self.specs if dtype == self.dtypes[0] else self.specs[::2]:
            odd = dtype == self.dtypes[0] and self.odd_numbers
            self.table.errors += comparison.measure(self.subject(), spec, dtype, odd=odd)

    def test_drawn_shapes(self):
        subject = self.subject()
        shapes = self.drawn
        if shapes is None:
            shapes = drawn.resized_specs(self.specs, subject.reference)
        checks.check_drawn(subject, shapes, self.dtypes, self.examples)

    def test_calls_outside_of_jit(self):
        checks.check_calls(self.subject(), self._common, self.dtypes[0])

    def test_it_does_not_call_the_reference(self):
        if not self.independent:
            self.skipTest("independent is False")
        cls = type(self)
        checks.check_independent(self.subject(), self._common, cls.definition or cls.reference)

    @chex.variants(with_jit=True, without_jit=True, with_device=True, with_pmap=True)
    def test_variants(self):
        subject, spec, case, truth = self._truth()
        compute = self.variant(comparison.results_of(subject.function, subject, spec))
        results = compute(*jax.tree.map(jnp.asarray, case))
        comparison.compare(subject, jax.device_get(results), truth, f"for {spec}")

    def test_empty_batch(self):
        if not self.batched:
            self.skipTest("batched is empty")
        inputs = [
            (0, *each[1:]) if i in self.batched else each
            for i, each in enumerate(self.specs[0].inputs)
        ]
        comparison.measure(
            self.subject(), Spec(*inputs, **self.specs[0].arguments), "float32", ["normal"]
        )

    def test_reverse_mode(self):
        if not self.differentiable:
            self.skipTest("differentiable is False")
        checks.check_transformations(self.subject(), self._common, checks.REVERSE_MODE)

    def test_forward_mode(self):
        if not (self.differentiable and self.forward_mode):
            self.skipTest("forward_mode is False")
        checks.check_transformations(self.subject(), self._common, checks.FORWARD_MODE)

    def test_checkpoint_and_shard_map(self):
        checks.check_without_effect(self.subject(), self._common, self.batched)

    def test_explicit_mesh(self):
        if not self.batched:
            self.skipTest("batched is empty")
        subject, spec, case, truth = self._truth()
        mesh = jax.make_mesh((jax.device_count(),), ("batch",), axis_types=(AxisType.Explicit,))
        with comparison.reported_as(
            f"{subject.name} fails for a batch sharded over an explicit mesh:"
        ):
            with jax.set_mesh(mesh):
                sharding = NamedSharding(mesh, PartitionSpec("batch"))

                def place(trees):
                    return [
                        jax.device_put(each, sharding) if i in self.batched else each
                        for i, each in enumerate(trees)
                    ]

                cotangents = jax.device_put(case.cotangents, sharding)
                compute = jax.jit(comparison.results_of(subject.function, subject, spec))
                results = compute(place(case.inputs), place(case.tangents), cotangents)
            comparison.compare(subject, jax.device_get(results), truth, f"for {spec}")

    def test_strict_promotion(self):
        if not self.strict_promotion:
            self.skipTest("strict_promotion is False")
        subject, spec, case, truth = self._truth("bfloat16")
        with (
            comparison.reported_as(f"{subject.name} fails with strict type promotion in bfloat16:"),
            jax.numpy_dtype_promotion("strict"),
            jax.numpy_rank_promotion("raise"),
        ):
            results = jax.jit(comparison.results_of(subject.function, subject, spec))(*case)
            comparison.compare(subject, jax.device_get(results), truth, f"for {spec}")

    def test_repeated_eager_calls_compile_nothing(self):
        subject, spec = self.subject(), self._common
        inputs = spec.arrays("float32")
        function = functools.partial(subject.function, **spec.arguments)
        call = functools.partial(jax.vjp if self.differentiable else lambda f, *x: f(*x), function)
        jax.block_until_ready([jax.tree.leaves(call(*inputs)) for _ in range(2)])
        programs = checks.compiled_programs(lambda: jax.tree.leaves(call(*inputs)))
        assert not programs, (
            f"{subject.name} compiles programs again in its third call with equal shapes: {programs}. "
            "Wrap it in jax.jit, or define the functions given to lax.map, lax.cond and lax.scan "
            "outside of the call"
        )

    def test_time(self):
        subject, specs = self.subject(), self.timed or self.specs[:1]
        phases = ("forward", "vjp") if self.differentiable else ("forward",)
        how = {"baseline": subject.baseline, "phases": phases, "seconds": 0.1}
        self.table.times = time(subject.function, specs, **how)


class Table:
    """Plugin of pytest that prints the errors and times of a kernel next to those of the baseline."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.errors: list[Error] = []
        self.times: Sequence[Any] = ()

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the table."""
        terminalreporter.section(f"{self.name}: largest errors and times")
        for line in self.lines():
            terminalreporter.write_line(line)

    def lines(self) -> list[str]:
        """Return the lines of the table: errors by result and type, then times."""
        rows = [("compared", "type", "kernel", "baseline", "cases, and where the error is largest")]

        def key(error):
            return error.what, error.dtype

        for (what, dtype), group in itertools.groupby(sorted(self.errors, key=key), key):
            errors = list(group)
            worst = max(errors, key=lambda error: error.ours)
            cells = f"{worst.ours:.3g}", f"{max(error.baseline for error in errors):.3g}"
            where = f"{len(errors)}, {worst.spec}, numbers {worst.numbers}"
            rows.append((f"error of {what}", dtype, *cells, where))
        for baseline, ours in zip(self.times[::2], self.times[1::2], strict=True):
            what = f"ms of {ours.phase}, {'in a loop' if ours.in_loop else 'called'}"
            cells = f"{ours.milliseconds:.3g}", f"{baseline.milliseconds:.3g}"
            rows.append((what, "float32", *cells, ours.spec))
        note = "Errors are in units of rounding: see fidle_jax.kernels.comparison."
        return [*align(rows).splitlines(), note]


@functools.cache
def _by(function, method):
    """Return an operation by a method, always as the same object, so that results can be cached."""
    return functools.partial(function, method=method)


class OperationComparison(Comparison):
    """Tests of an operation of `fidle_jax.kernels` by one of its methods, or by another function.

    Attributes:
        operation: Function of this package with the methods "reference" and "xla".
        method: Name of the method. Otherwise, set ``function``.
    """

    operation: Callable[..., Any]
    method: str = ""
    batched = (0,)
    local = True
    strict_promotion = True

    def __init_subclass__(cls):
        super().__init_subclass__()
        cls.reference, cls.baseline = _by(cls.operation, "reference"), _by(cls.operation, "xla")
        if cls.method:
            cls.function = _by(cls.operation, cls.method)
            cls.__test__ = True

    @classmethod
    def label(cls):
        """Return the name of the kernel for messages."""
        return f"method {cls.method!r}" if cls.method else super().label()


class ConvComparison(OperationComparison):
    """Tests of a registered method of convolution. Derive from this class and set ``method``."""

    operation = kernels.conv
    definition = reference.conv
    examples = 5
    timed = (Spec((8, 16, 16, 64), (3, 3, 64, 64), padding="same"),)

    def __init_subclass__(cls):
        super().__init_subclass__()
        if not cls.method:
            return
        if cls.method not in kernels.conv_methods():
            raise ValueError(
                f"unknown method {cls.method!r}; expected a name from kernels.conv_methods(); call "
                "kernels.register before the class is defined"
            )
        supports = kernels.conv_methods()[cls.method].supports
        ranks = [rank for rank in drawn.CHOICES if drawn.supported(supports, rank)]
        cls.drawn = st.one_of([drawn.conv_specs(supports, rank) for rank in ranks])
        cls.specs = [spec for spec in cls.specs if supports(*drawn.windows_of(spec))]
        cls.timed = [spec for spec in cls.timed if supports(*drawn.windows_of(spec))]
        if not cls.specs:
            size, strides, dilation = drawn.supported(supports, ranks[0])[0]
            spatial = [(k - 1) * d + 2 * s for k, d, s in zip(size, dilation, strides, strict=True)]
            windows = {"strides": strides, "dilation": dilation, "padding": "same"}
            cls.specs = [Spec((2, *spatial, 2), (*size, 2, 3), **windows)]

    specs = CONV_SPECS


class PoolComparison(OperationComparison):
    """Tests of max pooling, or of average pooling with ``operation = kernels.avg_pool``.

    Set ``method`` or ``function``.
    """

    operation = kernels.max_pool
    definition = reference.max_pool
    specs = POOL_SPECS
    drawn = drawn.pool_specs()

    def __init_subclass__(cls):
        super().__init_subclass__()
        cls.baseline = cls.reference  # XLA's JVP may take another one of equal values


class ConvPoolComparison(OperationComparison):
    """Tests of a convolution with bias, ReLU and max pooling. Set ``method`` or ``function``."""

    operation = kernels.conv_pool
    definition = reference.conv
    specs = CONV_POOL_SPECS
    # A sum with a large bias makes all values equal, and the gradient may go to any of them.
    odd_numbers = ("x", "w", "the cotangent")

    def __init_subclass__(cls):
        super().__init_subclass__()
        known = kernels.conv_pool_methods()
        supports = known.get(cls.method, known["fused"]).supports
        cls.drawn = st.one_of([drawn.conv_pool_specs(supports, rank) for rank in (1, 2)])
        cls.specs = [spec for spec in cls.specs if supports(*drawn.geometries_of(spec))]
