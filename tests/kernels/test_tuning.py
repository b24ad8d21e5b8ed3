import functools
import os

import chex
import jax
import jax.numpy as jnp
import pytest

from fidle_jax import kernels
from fidle_jax.kernels import Table, auto, methods, tune, tuned
from fidle_jax.kernels.auto import active_table, choose, device_name, recorded_problems, versions
from fidle_jax.kernels.geometry import resolve_geometry
from fidle_jax.kernels.rewrite import rewrite
from fidle_jax.kernels.rows import Problem, Row
from fidle_jax.kernels.tuning import measure, methods_of, row_of

GEOMETRY = resolve_geometry((6, 6), 3)
PROBLEM = Problem("conv", 2, (6, 6), 4, 8, GEOMETRY)
POOLING = Problem("max_pool", 2, (6, 6), 4, 4, resolve_geometry((6, 6), 2, 2), 4)
X, W = jnp.ones((2, 6, 6, 4)), jnp.ones((3, 3, 4, 8)) / 9
QUICK = {"seconds": 0.01, "rounds": 1, "report": lambda line: None}


def row(problem=PROBLEM, **milliseconds):
    return Row(problem, milliseconds, milliseconds, dict.fromkeys(milliseconds, 1.0), "today, here")


def table(*rows, device=None):
    return Table(rows, device or device_name(), versions(), "2026-01-01")


def problem(size, **changes):
    geometry = resolve_geometry((size, size), 3)
    return Problem("conv", 2, (size, size), 4, 8, geometry)


FASTEST_IS = {name: {"xla": 9.0, name: 1.0} for name in ("shifted", "winograd", "im2col")}


def operations(function, *arrays):
    text = jax.jit(function).lower(*arrays).as_text()
    return {
        name for name in ("dot_general", "stablehlo.convolution", "reduce_window") if name in text
    }


@pytest.mark.parametrize("method", FASTEST_IS)
def test_the_row_of_an_active_table_selects_the_method_of_its_problem(method):
    with tuned(table(row(**FASTEST_IS[method]))):
        assert choose(PROBLEM) == method
    assert choose(PROBLEM) == choose(PROBLEM)


def test_a_row_of_another_problem_with_the_same_distance_comes_after_the_exact_one():
    pair = [
        Problem("conv", 2, shape, 4, 8, resolve_geometry(shape, 3)) for shape in ((6, 10), (10, 6))
    ]
    with tuned(table(row(pair[0], shifted=1.0, xla=9.0), row(pair[1], im2col=1.0, xla=9.0))):
        assert [choose(each) for each in pair] == ["shifted", "im2col"]


def test_a_compiled_function_is_compiled_again_inside_and_outside_of_the_context():
    function = jax.jit(kernels.conv)
    slow, fast = (table(row(**times)) for times in ({"xla": 1.0}, FASTEST_IS["im2col"]))

    def text():
        return function.lower(X, W).compile().as_text()

    with tuned(slow):
        plain = text()
        assert " dot(" not in plain
        before = function(X, W)
        with tuned(fast):
            assert text() != plain
            chex.assert_trees_all_close(function(X, W), before, rtol=1e-5)
        assert text() == plain


def test_the_methods_of_accelerated_programs_follow_the_table():
    def program(x, w):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=numbers)

    faster = kernels.accelerate(program)
    with tuned(table(row(xla=1.0))):
        assert operations(faster, X, W) == {"stablehlo.convolution"}
    with tuned(table(row(**FASTEST_IS["im2col"]))):
        assert operations(faster, X, W) == {"dot_general"}
        assert operations(program, X, W) == {"stablehlo.convolution"}


def test_a_table_of_an_accelerator_selects_only_there_and_only_for_its_exact_problem(monkeypatch):
    there = table(row(**FASTEST_IS["im2col"]), row(POOLING, xla=9.0, slices=1.0), device="gpu H200")
    monkeypatch.setattr(auto, "device_name", lambda: "gpu H200")

    def exported(function, *arrays):
        return jax.export.export(jax.jit(function), platforms=["cuda"])(*arrays).mlir_module()

    wide = jnp.ones((2, 7, 7, 4))
    on_cpu = choose(PROBLEM)
    with tuned(there):
        assert choose(PROBLEM) == on_cpu
        assert choose(PROBLEM, is_cpu=False) == "im2col"
        assert choose(problem(7), is_cpu=False) == "xla"
        assert "stablehlo.convolution" not in exported(kernels.conv, X, W)
        assert "stablehlo.convolution" in exported(kernels.conv, wide, W)
        assert "reduce_window" not in exported(kernels.max_pool, X)
        assert "reduce_window" in exported(kernels.max_pool, wide)
    assert "stablehlo.convolution" in exported(kernels.conv, X, W)
    assert "reduce_window" in exported(kernels.max_pool, X)


def test_on_an_accelerator_only_the_operations_of_the_table_are_rewritten(monkeypatch):
    there = table(row(**FASTEST_IS["im2col"]), device="gpu H200")
    monkeypatch.setattr(auto, "device_name", lambda: "gpu H200")

    def program(x, wide, w, key):
        conv = functools.partial(
            jax.lax.conv_general_dilated,
            window_strides=(1, 1),
            padding="VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return conv(x, w), conv(wide, w), jax.random.bits(key, (4,))

    jaxpr = jax.make_jaxpr(program)(X, jnp.ones((2, 7, 7, 4)), W, jax.random.key(0))
    found = []
    with tuned(there):
        changed = rewrite(jaxpr, 10.0, found.append, is_cpu=False)
    assert [each.problem for each in found] == [PROBLEM, None]
    assert str(changed).count("conv_general_dilated[") == 1
    assert "random_bits" in str(changed)


def test_a_saved_table_is_the_same_after_loading(tmp_path):
    saved = table(row(xla=2.0, im2col=0.5), row(POOLING, xla=1.0, slices=2.0))
    for each in (saved, table()):
        each.save(tmp_path / "table.txt")
        loaded = Table.load(tmp_path / "table.txt")
        assert loaded == each
        assert hash(loaded) == hash(each)


def test_the_text_of_a_table_has_the_selected_method_and_the_time_of_each():
    text = str(table(row(xla=2.0, im2col=0.5, shifted=4.0)))
    assert text.splitlines()[0] == f"{device_name()}; {versions()}; 2026-01-01"
    assert "conv 2x6x6x4 -> 8, 3x3: im2col; ms in a loop: xla 2, im2col 0.5, shifted 4" in text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("# device: ", "# machine: ", "the first lines are not device, versions, date"),
        ("kind\tbatch", "kind\tsize", "the columns are not kind"),
        ("conv\t2", "conv\t-2", "a size is not positive"),
        ("conv\t2", "con\t2", "the kind 'con' is unknown"),
        ("6x6", "0x6", "'0x6' is not a size"),
        ("3x3", "9x9", "too small for a window"),
        ("\t4\t8", "\t4", "row 1 is not valid: zip"),
        ("xla=2", "xla=nan", "times that are not positive"),
        ("xla=2", "x=2", "the times of xla or the seconds to compile are missing"),
        ("xla=2", "xla", "row 1 is not valid"),
    ],
)
def test_a_damaged_file_is_an_error_of_one_line(old, new, message, tmp_path):
    path = tmp_path / "table.txt"
    table(row(xla=2.0, im2col=0.5)).save(path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ValueError, match="is not a tuning table") as caught:
        Table.load(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_an_error_of_one_line(tmp_path):
    (tmp_path / "table.txt").write_bytes(os.urandom(1000) + b"\xff\xfe")
    with pytest.raises(ValueError, match="is not a tuning table"):
        Table.load(tmp_path / "table.txt")


@pytest.mark.parametrize("name", ["device", "versions"])
def test_a_table_of_another_device_or_version_is_refused(name):
    values = {"device": device_name(), "versions": versions()} | {name: "another one"}
    with (
        pytest.raises(ValueError, match=r"another one; expected .*; measure it here"),
        tuned(Table((), **values, date="")),
    ):
        pass


def test_the_device_depends_on_the_vector_instructions_that_xla_may_use(monkeypatch):
    before = device_name()
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/tmp/x --xla_cpu_max_isa=AVX2")
    assert device_name() == f"{before} --xla_cpu_max_isa=AVX2"


def test_the_table_of_the_environment_variable_is_active_outside_of_the_context(
    tmp_path, monkeypatch
):
    path = tmp_path / "table.txt"
    table(row(**FASTEST_IS["shifted"])).save(path)
    monkeypatch.setenv("FIDLE_JAX_TUNING", str(path))
    assert choose(PROBLEM) == "shifted"
    with tuned(table(row(**FASTEST_IS["winograd"]))):
        assert choose(PROBLEM) == "winograd"
    monkeypatch.delenv("FIDLE_JAX_TUNING")
    assert active_table() is None


@pytest.mark.parametrize("device", [None, "cpu of another machine"])
def test_an_unusable_file_of_the_environment_variable_is_an_error_that_says_what_to_do(
    device, tmp_path, monkeypatch
):
    path = tmp_path / "table.txt"
    if device:
        table(device=device).save(path)
    monkeypatch.setenv("FIDLE_JAX_TUNING", str(path))
    with pytest.raises(ValueError, match=r"FIDLE_JAX_TUNING=.*; or unset the variable"):
        choose(PROBLEM)


def test_the_context_inside_of_a_traced_function_is_an_error():
    def traced(x):
        with tuned(table()):
            return kernels.max_pool(x)

    with pytest.raises(RuntimeError, match="has no effect inside of a function that JAX traces"):
        jax.jit(traced)(X)


def test_all_convolutions_and_poolings_of_a_program_are_found():
    def program(x, w):
        y = kernels.conv_pool(x, w)
        numbers = ("NHWC", "HWIO", "NHWC")
        z = jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=numbers)
        pooled = jax.lax.reduce_window(z, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return y.sum() + (kernels.max_pool(z) * pooled).sum()

    gradient = jax.jit(kernels.accelerate(jax.jit(jax.grad(program, (0, 1)))))
    with recorded_problems() as found:
        gradient.lower(X, W)
    assert {each.kind for each in found} == {"conv", "conv_pool", "max_pool", "avg_pool"}


def test_tuning_measures_each_problem_once_and_the_table_selects_the_fastest(monkeypatch):
    calls = []

    def fake(problem, *args, **kwargs):
        calls.append(problem)
        return measure(problem, names=["im2col"], **QUICK)

    monkeypatch.setattr("fidle_jax.kernels.tuning.measure", fake)
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (X, W))
    lines = []

    def loss(arrays, power):
        x, w = arrays
        return (kernels.conv(x, w) ** power + kernels.conv(x, w)).sum()

    result = tune(jax.grad(loss), shapes, 2, seconds=0.01, rounds=1, report=lines.append)
    assert calls == [PROBLEM]
    assert lines[0] == "1 of 1: conv 2x6x6x4 -> 8, 3x3"
    assert [each.problem for each in result.rows] in ([PROBLEM], [])
    assert (result.device, result.versions) == (device_name(), versions())


@pytest.mark.parametrize(("factor", "rows"), [(0.5, 1), (1.0, 1), (2.0, 0)])
def test_a_table_that_makes_the_program_slower_has_no_effect(factor, rows, monkeypatch):
    measured = row(**FASTEST_IS["shifted"])
    monkeypatch.setattr("fidle_jax.kernels.tuning.measure", lambda *args, **kwargs: [])
    monkeypatch.setattr("fidle_jax.kernels.tuning.row_of", lambda *args: measured)
    monkeypatch.setattr(
        "fidle_jax.kernels.tuning.time_in_turns",
        lambda *args: {"without": [1.0] * 3, "with": [factor] * 3},
    )
    assert choose(PROBLEM) != "shifted"
    result = tune(kernels.conv, X, W, **QUICK)
    assert len(result.rows) == rows


def test_the_program_is_timed_if_its_expected_run_time_changes_the_selection(monkeypatch):
    # For a run of ten seconds the compile time counts, for a run of a minute it does not.
    times = {"xla": 9.0, "im2col": 1.0, "shifted": 1.5}
    seconds = {"xla": 1.0, "im2col": 1.9, "shifted": 1.0}
    measured = Row(PROBLEM, times, times, seconds, "today, here")
    monkeypatch.setattr("fidle_jax.kernels.tuning.measure", lambda *args, **kwargs: [])
    monkeypatch.setattr("fidle_jax.kernels.tuning.row_of", lambda *args: measured)
    monkeypatch.setattr(auto, "table_rows", lambda: (row(**FASTEST_IS["im2col"]),))
    monkeypatch.setattr(auto, "_choose", auto._choose.__wrapped__)  # without the cache
    lines = []
    numbers = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    conv = functools.partial(jax.lax.conv_general_dilated, **numbers)
    tune(conv, X, W, (1, 1), "VALID", **QUICK | {"report": lines.append})
    assert any("without the table" in line for line in lines)


def test_the_methods_of_a_problem_are_those_that_auto_may_select():
    assert list(methods_of(PROBLEM)) == ["xla", "forward", "im2col", "shifted", "winograd"]
    assert list(methods_of(PROBLEM, names=["fft"])) == ["xla", "fft"]
    assert list(methods_of(POOLING)) == ["xla", "slices"]


def register(monkeypatch, function):
    monkeypatch.setattr(methods, "_METHODS", dict(methods._METHODS))
    kernels.register("mine", function)


def shifted(x, w, **arguments):
    return kernels.conv(x, w, **arguments, method="shifted")


def test_a_registered_method_is_measured_and_can_be_selected(monkeypatch):
    register(monkeypatch, shifted)
    new = row_of(PROBLEM, measure(PROBLEM, names=["mine"], **QUICK))
    assert set(new.milliseconds) == set(new.call_milliseconds) == {"xla", "mine"}
    with tuned(table(row(xla=9.0, mine=1.0))):
        assert choose(PROBLEM) == "mine"
        result = jax.jit(jax.grad(lambda w: kernels.conv(X, w).sum()))(W)
    chex.assert_trees_all_close(result, jax.grad(lambda w: kernels.conv(X, w).sum())(W), rtol=1e-5)


@jax.custom_vjp
def opaque(x, w):
    return kernels.conv(x, w)


opaque.defvjp(lambda x, w: (opaque(x, w), (x, w)), lambda arrays, y: arrays)
FAULTS = {
    "wrong values": (lambda x, w, **how: 1.01 * shifted(x, w, **how), "returns wrong values"),
    "no transpose": (lambda x, w, **how: opaque(x, w), "NotImplementedError|TypeError|ValueError"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_registered_method_that_auto_cannot_use_is_left_out_with_a_line(name, monkeypatch):
    function, message = FAULTS[name]
    register(monkeypatch, function)
    lines = []
    timings = measure(PROBLEM, names=["mine"], **QUICK | {"report": lines.append})
    assert {each.method for each in timings} == {"xla"}
    assert lines
    for line in lines:
        assert line.startswith("  mine is left out: ")
        assert any(each in line for each in message.split("|"))


def test_a_method_that_is_not_registered_here_is_not_selected():
    with tuned(table(row(xla=9.0, unknown=1.0))):
        assert choose(PROBLEM) == "xla"
