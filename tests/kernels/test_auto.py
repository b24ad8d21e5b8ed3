import dataclasses

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fidle_jax import kernels
from fidle_jax.kernels import auto
from fidle_jax.kernels.auto import (
    LAYERS,
    RUN_SECONDS,
    Problem,
    Row,
    cheapest,
    choose,
    problem_of,
    table_rows,
)
from fidle_jax.kernels.geometry import resolve_geometry
from fidle_jax.kernels.rows import read_rows, write_rows

POOL_METHODS = {"slices", "xla"}
LAYER_SECONDS = RUN_SECONDS / LAYERS
OWN_METHODS = set(kernels.conv_methods())
NOT_LOCAL = {"fft"}


def problem(kind="conv", batch=64, spatial=(16, 16), channels=8, window=3, groups=1, **windows):
    resolved = resolve_geometry(spatial, window, padding="same", **windows)
    return Problem(kind, batch, spatial, channels, 8, resolved, groups)


def row(problem, compile_seconds=None, call=None, **milliseconds):
    compile_seconds = compile_seconds or dict.fromkeys(milliseconds, 1.0)
    return Row(problem, milliseconds, call or {}, compile_seconds, "today")


def test_each_measured_problem_selects_a_method_that_is_fast_or_compiles_quickly():
    for row in table_rows():
        times = {name: each for name, each in row.milliseconds.items() if name not in NOT_LOCAL}
        selected, best = choose(row.problem), min(times, key=times.__getitem__)
        slower = times[selected] / times[best] - 1
        saved = row.compile_seconds[best] - row.compile_seconds[selected]
        assert slower == 0 or LAYER_SECONDS * slower < saved, row


def test_a_slower_method_is_selected_only_if_its_compilation_saves_more_time():
    def selected(slower, saved):
        seconds = {"winograd": 1 + saved, "im2col": 1.0}
        times = {"winograd": 10.0, "im2col": 10 * (1 + slower)}
        return cheapest([row(problem(), seconds, **times)], problem())

    assert selected(slower=0.5, saved=0.4 * LAYER_SECONDS) == "winograd"
    assert selected(slower=0.5, saved=0.6 * LAYER_SECONDS) == "im2col"


def test_the_methods_that_are_not_local_say_so():
    assert {name for name, each in kernels.conv_methods().items() if not each.local} == NOT_LOCAL


def test_the_table_has_rows_of_every_kind_and_grouping_and_only_methods_of_the_package():
    rows = table_rows()
    assert {row.problem.kind for row in rows} == {"conv", "conv_pool", "max_pool", "avg_pool"}
    grouped = {row.problem.groups > 1 for row in rows if row.problem.kind == "conv"}
    assert grouped == {False, True}
    for row in rows:
        if row.problem.kind == "conv":
            assert set(row.milliseconds) <= OWN_METHODS - {"reference"}
            assert {"xla", "im2col"} <= set(row.milliseconds)
        assert all(milliseconds > 0 for milliseconds in row.milliseconds.values())
        assert row.measured


def test_rows_are_the_same_after_writing_and_reading():
    pool = resolve_geometry((16, 16), (2, 1), (2, 3))
    rows = (
        row(problem(strides=(2, 1), dilation=2), xla=1.5, im2col=0.25),
        row(problem(spatial=(5,), channels=4, groups=2), call={"xla": 0.01}, xla=0.0125),
        row(
            dataclasses.replace(problem("conv_pool"), pool=pool), xla=3.0, fused=1.0, separate=2e-05
        ),
    )
    assert read_rows(write_rows(rows)) == rows


SIZES = st.integers(1, 40)


@given(
    spatial=st.lists(SIZES, min_size=1, max_size=3).map(tuple),
    batch=st.integers(0, 10_000),
    window=st.integers(1, 12),
    strides=st.integers(1, 4),
    dilation=st.integers(1, 3),
    groups=st.sampled_from([1, 1, 3, 8]),
    per_group=st.integers(1, 300),
    features=st.integers(1, 300),
)
@settings(max_examples=60)
def test_a_method_that_is_local_and_supports_the_shape_is_selected_for_any_shape(
    spatial, batch, window, strides, dilation, groups, per_group, features
):
    geometry = resolve_geometry(spatial, window, strides, "same", dilation)
    channels = groups * per_group
    x_shape = (batch, *spatial, channels)

    method = choose(problem_of("conv", x_shape, groups * features, geometry, groups))
    assert method in OWN_METHODS
    supports = kernels.conv_methods()[method].supports
    assert supports(geometry.size, geometry.strides, geometry.dilation)
    assert method not in NOT_LOCAL

    for size in (1, 2):
        if min(geometry.count) >= size:
            pool = resolve_geometry(geometry.count, size)
            asked = problem_of("conv_pool", x_shape, groups * features, geometry, groups, pool)
            assert choose(asked) not in (OWN_METHODS - {"xla"}) | NOT_LOCAL
    for kind in ("max_pool", "avg_pool"):
        assert choose(problem_of(kind, x_shape, channels, geometry, channels)) in POOL_METHODS


def test_the_fastest_method_of_the_nearest_row_is_selected():
    rows = [
        row(problem(batch=1), im2col=2, xla=1),
        row(problem(batch=64), im2col=1, xla=2),
        row(problem("max_pool", batch=8), slices=1, xla=2),
    ]
    assert cheapest(rows, problem(batch=7)) == "xla"
    assert cheapest(rows, problem(batch=9)) == "im2col"
    assert cheapest(rows, problem("max_pool", batch=1)) == "slices"


def test_outside_of_a_loop_xla_is_selected_if_it_is_faster_there():
    def selected(in_loop, **call):
        rows = [row(problem(), call=call, xla=30.0, im2col=2.0, forward=3.0)]
        return cheapest(rows, problem(), in_loop)

    assert selected(True, xla=1.0, im2col=2.0) == "im2col"
    assert selected(False, xla=1.0, im2col=2.0) == "xla"
    assert selected(False, xla=3.0, im2col=2.0, forward=1.0) == "im2col"
    assert selected(False) == "im2col"


def test_the_next_fastest_method_is_selected_if_the_fastest_does_not_support_the_windows():
    rows = [row(problem(), winograd=1, im2col=2, xla=3)]
    assert cheapest(rows, problem(batch=32)) == "winograd"
    assert cheapest(rows, problem(strides=2)) == "im2col"
    assert cheapest(rows, problem(window=5)) == "im2col"


@pytest.mark.parametrize("method", sorted(NOT_LOCAL))
def test_a_method_that_is_not_local_is_not_selected_even_if_it_is_cheapest(method):
    asked = problem(batch=32)
    rows = [row(asked, **{method: 1, "im2col": 2})]
    assert cheapest(rows, asked) != method


def test_a_method_is_not_selected_if_one_example_needs_too_much_temporary_memory():
    rows = [row(problem(), winograd=1, shifted=2, im2col=3)]
    assert cheapest(rows, problem(spatial=(300, 300))) == "winograd"  # 46 MB
    assert cheapest(rows, problem(spatial=(700, 700))) == "shifted"  # 251 MB

    def pooled(side):
        asked = problem("conv_pool", spatial=(side, side))
        return dataclasses.replace(asked, pool=resolve_geometry(asked.geometry.count, 2))

    rows = [row(pooled(16), fused=1, winograd_pool=2, separate=3)]
    assert cheapest(rows, pooled(300)) == "fused"
    assert cheapest(rows, pooled(900)) == "separate"


def test_methods_that_unroll_the_window_are_not_selected_for_large_windows():
    rows = [row(problem(), im2col=1, shifted=2, xla=3), row(problem("avg_pool"), slices=1, xla=2)]
    assert cheapest(rows, problem(window=11)) == "im2col"
    assert cheapest(rows, problem(window=12)) == "xla"
    assert cheapest(rows, problem("avg_pool", spatial=(32, 32), window=32)) == "xla"


def test_grouping_counts_before_rank_and_rank_before_size():
    depthwise = problem(batch=1, spatial=(9,), groups=8)
    rows = [
        row(problem(batch=1), xla=1),
        row(problem(batch=64, groups=4), im2col=1),
        row(problem(batch=4096, spatial=(30,), groups=8), shifted=1),
        row(problem(batch=1, groups=8), winograd=1),
    ]
    assert cheapest(rows, depthwise) == "shifted"
    assert cheapest(rows[:2] + rows[3:], depthwise) == "winograd"
    assert cheapest(rows, problem(batch=1, groups=2)) == "im2col"


X = jax.ShapeDtypeStruct((512, 28, 28, 1), jnp.float32)
W = jax.ShapeDtypeStruct((3, 3, 1, 8), jnp.float32)
WIDE_X = jax.ShapeDtypeStruct((64, 16, 16, 128), jnp.float32)
WIDE_W = jax.ShapeDtypeStruct((3, 3, 128, 128), jnp.float32)
OPERATIONS = "dot_general", "stablehlo.convolution", "reduce_window", "select_and_scatter"


def _general(x, w):
    return kernels.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _total(call):
    return lambda *arrays: call(*arrays).sum()


# Function, arrays, operations on a CPU, operations elsewhere. Guarded methods contain convolutions of XLA.
PLATFORM_CASES = {
    "conv by im2col": (kernels.conv, (X, W), "dot_general", "stablehlo.convolution"),
    "conv by winograd": (
        kernels.conv,
        (WIDE_X, WIDE_W),
        "dot_general stablehlo.convolution",
        "stablehlo.convolution",
    ),
    "conv_general_dilated": (_general, (X, W), "dot_general", "stablehlo.convolution"),
    "conv_pool": (
        kernels.conv_pool,
        (X, W),
        "dot_general stablehlo.convolution",
        "stablehlo.convolution",
    ),
    "max_pool": (kernels.max_pool, (X,), "", "reduce_window"),
    # For this shape "slices" is faster than XLA on a CPU.
    "avg_pool": (kernels.avg_pool, (jnp.ones((1, 26, 26, 8)),), "", "reduce_window"),
    "gradient of conv": (
        jax.grad(_total(kernels.conv), (0, 1)),
        (X, W),
        "dot_general",
        "stablehlo.convolution",
    ),
    "gradient of conv_pool": (
        jax.grad(_total(kernels.conv_pool), (0, 1)),
        (X, W),
        "dot_general stablehlo.convolution",
        "stablehlo.convolution",
    ),
    "gradient of max_pool": (jax.grad(_total(kernels.max_pool)), (X,), "", "select_and_scatter"),
}


@pytest.mark.parametrize("name", PLATFORM_CASES)
def test_the_platform_of_the_lowering_selects_the_method(name):
    function, arrays, on_cpu, elsewhere = PLATFORM_CASES[name]

    def operations(*platforms):
        exported = jax.export.export(jax.jit(function), platforms=platforms)(*arrays)
        assert exported.platforms == platforms
        text = exported.mlir_module()
        return {operation for operation in OPERATIONS if operation in text}

    assert operations("cpu") == set(on_cpu.split())
    assert operations("cuda") == set(elsewhere.split())
    assert operations("cpu", "cuda") == {*on_cpu.split(), *elsewhere.split()}


def test_the_shapes_of_these_tests_select_im2col_and_winograd_on_a_cpu():
    selected = [
        choose(problem_of("conv", x.shape, w.shape[-1], resolve_geometry(x.shape[1:-1], 3), 1))
        for x, w in ((X, W), (WIDE_X, WIDE_W))
    ]
    assert selected == ["im2col", "winograd"]


def test_a_function_with_a_symbolic_batch_size_can_be_exported():
    (batch,) = jax.export.symbolic_shape("batch")
    x = jax.ShapeDtypeStruct((batch, 8, 8, 2), jnp.float32)
    exported = jax.export.export(jax.jit(lambda x: kernels.conv(x, jnp.ones((3, 3, 2, 4)))))(x)
    assert exported.out_avals[0].shape == (batch, 6, 6, 4)


def test_the_table_is_that_of_the_vector_instructions_that_xla_uses(monkeypatch):
    def name(features, options=""):
        monkeypatch.setattr(auto, "read_cpu_info", lambda *_: features)
        monkeypatch.setenv("XLA_FLAGS", options)
        return auto.table_name()

    assert name("sse4_2 avx2 avx512f") == "auto.tsv"
    assert name("sse4_2 avx2") == name("asimd") == name("") == "auto_avx2.tsv"
    assert name("avx2 avx512f", "--xla_cpu_max_isa=AVX2 --xla_dump_to=x") == "auto_avx2.tsv"
    assert name("avx2 avx512f", "--xla_cpu_max_isa=AVX512") == "auto.tsv"
    problems = [[row.problem for row in auto._read_table(each)] for each in auto.TABLES]
    assert problems[0] == problems[1]
