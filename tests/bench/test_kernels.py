import json

import chex
import jax
import jax.numpy as jnp
import kernels as bench
import pytest

from fidle_jax.kernels import auto, methods
from fidle_jax.kernels.auto import table_rows
from fidle_jax.kernels.rows import read_rows

QUICK = ("--rounds", 2, "--seconds", 0.05)
MINE = """
from fidle_jax import kernels

def conv(x, w, **arguments):
    return {factor} * kernels.conv(x, w, **arguments, method="shifted")

kernels.register("mine", conv)
"""


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    monkeypatch.setattr(methods, "_METHODS", dict(methods._METHODS))
    monkeypatch.setattr(bench, "measure_peaks", lambda: bench.Peaks(1e11, 1e10))


def test_a_small_shape_is_measured_with_every_method_and_compared_with_auto(
    run_main, tmp_path, capsys
):
    only = "^conv 1x13x13x8 |^max_pool 1x26"
    assert run_main(bench, "--only", only, *QUICK, "--output", tmp_path) == 0
    record = json.loads((tmp_path / "kernels.json").read_text())
    assert record["peaks"] == {"flops": 1e11, "bandwidth": 1e10}
    timings = record["timings"]
    conv = [each for each in timings if each["spec"] == "conv 1x13x13x8 -> 16, 3x3"]
    pool = [each for each in timings if each not in conv]
    assert {each["method"] for each in conv} == {"xla", "forward", "im2col", "shifted", "winograd"}
    assert {each["method"] for each in pool} == {"xla", "slices"}
    kinds = {(each["phase"], each["in_loop"]) for each in conv}
    assert kinds == {(phase, loop) for phase in bench.PHASES for loop in (True, False)}
    assert all(each["milliseconds"] > 0 and each["flops"] > 0 for each in timings)
    assert (tmp_path / "roofline.png").read_bytes().startswith(b"\x89PNG")
    output = capsys.readouterr().out
    assert "conv 1x13x13x8 -> 16, 3x3" in output
    assert "auto is within 10 % of the best on" in output


@pytest.mark.parametrize(("factor", "status"), [(1, 0), (1.01, 1)])
def test_a_method_of_a_users_file_is_timed_if_it_is_correct(
    factor, status, run_main, tmp_path, capsys
):
    (tmp_path / "mine.py").write_text(MINE.format(factor=factor))
    flags = ("--load", tmp_path / "mine.py", "--methods", "mine", "--only", "^conv 1x13x13x8 ")
    flags += ("--phases", "forward", *QUICK, "--output", tmp_path)
    assert run_main(bench, *flags) == status
    timings = json.loads((tmp_path / "kernels.json").read_text())["timings"]
    assert {each["method"] for each in timings} == ({"xla", "mine"} if factor == 1 else {"xla"})
    assert ("mine returns wrong values" in capsys.readouterr().err) == bool(status)


def test_the_table_is_written_with_the_new_rows_replacing_the_rows_of_the_same_problems(
    run_main, tmp_path, monkeypatch
):
    monkeypatch.setattr(auto, "__file__", str(tmp_path / "auto.py"))
    flags = ("--only", "^avg_pool 1x26", *QUICK, "--phases", "both", "--write-table")
    assert run_main(bench, *flags, "--output", tmp_path) == 0
    kept, written = table_rows(), read_rows((tmp_path / auto.table_name()).read_text())
    assert [row.problem for row in written] == [row.problem for row in kept]
    (new,) = [row for row in written if row not in kept]
    assert (new.problem.kind, new.problem.spatial) == ("avg_pool", (26, 26))
    assert set(new.milliseconds) == set(new.call_milliseconds) == {"slices", "xla"}


def test_tuning_a_network_writes_a_table_for_it(run_main, tmp_path, monkeypatch, capsys):
    program = jnp.sum, (jnp.ones(2),)
    monkeypatch.setattr(bench, "make_program", lambda name: program)
    assert run_main(bench, "--tune", "mnist", *QUICK, "--output", tmp_path) == 0
    assert auto.Table.load(tmp_path / "mnist.txt").device == auto.device_name()
    assert "use it with FIDLE_JAX_TUNING=" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["mnist", "wavenet"])
def test_a_program_to_tune_has_gradients_of_the_parameters(name):
    function, arguments = bench.make_program(name)
    _, gradients = jax.eval_shape(function, *arguments)
    chex.assert_trees_all_equal_shapes_and_dtypes(gradients, arguments[0])


def test_list_prints_one_distinct_line_per_problem(run_main, capsys):
    assert run_main(bench, "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(set(lines)) == len(table_rows())
    assert "conv 64x32x32x16 -> 16, 3x3, same, dilation 2x2" in lines
    assert "conv_pool 16x64x64x3 -> 32, 7x7, same, stride 2x2, pool 3x3, pool stride 2x2" in lines


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--only", "no such problem"), "matches no problem"),
        (("--only", "("), "is not a regular expression"),
        (("--rounds", 0), "--rounds is 0; it must be positive"),
        (("--methods", "mine"), "--methods mine is unknown"),
        (("--load", "missing.py"), "--load missing.py failed: FileNotFoundError"),
        (
            ("--write-table", "--phases", "vjp"),
            "--write-table needs JAX on a CPU and the phase both",
        ),
    ],
)
def test_wrong_input_is_one_line_and_status_2(flags, message, run_main, capsys):
    assert run_main(bench, *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
