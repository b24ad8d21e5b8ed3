import dataclasses

import jax
import jax.numpy as jnp
from hypothesis import given, settings
from hypothesis import strategies as st

from fidle_jax import kernels
from fidle_jax.kernels.choice import choose_conv, choose_conv_pool, choose_pool, fastest
from fidle_jax.kernels.measured import Problem, Row, kept_rows, read_rows, write_rows
from fidle_jax.kernels.windows import resolve_windows

POOL_METHODS = {"tiles", "xla"}
OWN_METHODS = set(kernels.conv_methods())


def problem(kind="conv", batch=64, spatial=(16, 16), channels=8, window=3, groups=1, **windows):
    resolved = resolve_windows(spatial, window, padding="same", **windows)
    return Problem(kind, batch, spatial, channels, 8, resolved, groups)


def row(problem, **milliseconds):
    return Row(problem, milliseconds, "today")


def test_each_row_of_the_kept_table_gives_back_its_own_best():
    rows = kept_rows()
    best = [min(row.milliseconds, key=row.milliseconds.get) for row in rows]
    assert [fastest(rows, row.problem) for row in rows] == best


def test_the_kept_table_has_rows_of_every_kind_and_grouping_and_only_the_packages_own_methods():
    rows = kept_rows()
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
    pool = resolve_windows((16, 16), (2, 1), (2, 3))
    rows = (
        row(problem(strides=(2, 1), dilation=2), xla=1.5, im2col=0.25),
        row(problem(spatial=(5,), channels=4, groups=2), xla=0.0125),
        row(dataclasses.replace(problem("conv_pool"), pool=pool), fused=1.0, apart=2e-05),
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
def test_any_shape_gets_a_method_that_computes_it(
    spatial, batch, window, strides, dilation, groups, per_group, features
):
    windows = resolve_windows(spatial, window, strides, "same", dilation)
    channels = groups * per_group
    x_shape = (batch, *spatial, channels)
    w_shape = (*windows.size, per_group, groups * features)

    method = choose_conv(x_shape, w_shape, windows, groups)
    assert method in OWN_METHODS
    supports = kernels.conv_methods()[method].supports
    assert supports(windows.size, windows.strides, windows.dilation)

    pool = resolve_windows(windows.count, 1)
    assert choose_conv_pool(x_shape, w_shape, windows, pool, groups) not in OWN_METHODS - {"xla"}
    assert choose_pool(x_shape, windows) in POOL_METHODS
    assert choose_pool(x_shape, windows, "avg_pool") in POOL_METHODS


def test_the_nearest_rows_best_wins():
    rows = [
        row(problem(batch=1), im2col=2, xla=1),
        row(problem(batch=64), im2col=1, xla=2),
        row(problem("max_pool", batch=8), tiles=1, xla=2),
    ]
    assert fastest(rows, problem(batch=7)) == "xla"
    assert fastest(rows, problem(batch=9)) == "im2col"
    assert fastest(rows, problem("max_pool", batch=1)) == "tiles"


def test_a_method_that_cannot_compute_the_windows_leaves_the_choice_to_the_next():
    rows = [row(problem(), winograd=1, im2col=2, xla=3)]
    assert fastest(rows, problem(batch=32)) == "winograd"
    assert fastest(rows, problem(strides=2)) == "im2col"
    assert fastest(rows, problem(window=5)) == "im2col"


def test_methods_that_unroll_the_window_are_not_taken_for_large_ones():
    rows = [row(problem(), im2col=1, shifted=2, xla=3), row(problem("avg_pool"), tiles=1, xla=2)]
    assert fastest(rows, problem(window=11)) == "im2col"
    assert fastest(rows, problem(window=12)) == "xla"
    assert fastest(rows, problem("avg_pool", spatial=(32, 32), window=32)) == "xla"


def test_grouping_counts_before_rank_and_rank_before_size():
    depthwise = problem(batch=1, spatial=(9,), groups=8)
    rows = [
        row(problem(batch=1), xla=1),
        row(problem(batch=64, groups=4), im2col=1),
        row(problem(batch=4096, spatial=(30,), groups=8), shifted=1),
        row(problem(batch=1, groups=8), winograd=1),
    ]
    assert fastest(rows, depthwise) == "shifted"
    assert fastest(rows[:2] + rows[3:], depthwise) == "winograd"
    assert fastest(rows, problem(batch=1, groups=2)) == "im2col"


def test_other_backends_than_the_cpu_take_xla(monkeypatch):
    windows = resolve_windows((28, 28), 3)
    pool = resolve_windows(windows.count, 2, 2)
    x_shape, w_shape = (512, 28, 28, 1), (3, 3, 1, 8)

    def choices():
        conv, conv_pool = choose_conv, choose_conv_pool
        return (
            conv(x_shape, w_shape, windows, 1),
            conv_pool(x_shape, w_shape, windows, pool, 1),
            choose_pool(x_shape, pool),
        )

    assert "xla" not in choices()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert choices() == ("xla", "xla", "xla")


def test_a_batch_whose_size_is_a_symbol_can_be_exported():
    (batch,) = jax.export.symbolic_shape("batch")
    x = jax.ShapeDtypeStruct((batch, 8, 8, 2), jnp.float32)
    exported = jax.export.export(jax.jit(lambda x: kernels.conv(x, jnp.ones((3, 3, 2, 4)))))(x)
    assert exported.out_avals[0].shape == (batch, 6, 6, 4)
