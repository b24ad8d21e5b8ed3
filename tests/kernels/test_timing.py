import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fidle_jax import kernels
from fidle_jax.kernels import timing, turns
from fidle_jax.kernels.specs import Spec

SPEC = Spec((2, 6, 6, 3), (3, 3, 3, 4), padding="same")
QUICK = {"rounds": 2, "seconds": 0.02}


def conv(x, w, **arguments):
    return kernels.conv(x, w, **arguments, method="im2col")


def test_a_method_and_the_baseline_are_timed_in_each_phase_called_and_in_a_loop():
    timings = timing.time("im2col", [SPEC], **QUICK)
    kinds = itertools.product(timing.PHASES, (False, True), ("xla", "im2col"))
    assert [(each.phase, each.in_loop, each.method) for each in timings] == list(kinds)
    for each in timings:
        assert each.milliseconds == np.median(each.turns)
        assert each.spec == "2x6x6x3, 3x3x3x4, padding=same"
        assert min(each.compile_seconds, each.memory_bytes) > 0
    by_phase = {each.phase: each for each in timings}
    x, w, y = (4 * size for size in (2 * 6 * 6 * 3, 3 * 3 * 3 * 4, 2 * 6 * 6 * 4))
    assert by_phase["forward"].traffic_bytes == x + w + y
    assert by_phase["vjp"].traffic_bytes == 2 * (x + w) + y
    assert by_phase["both"].traffic_bytes == 2 * (x + w) + 2 * y
    # Each axis has 4 windows of 3 values and 2 of 2 values.
    assert by_phase["forward"].flops == pytest.approx(2 * 2 * 16**2 * 3 * 4, rel=0.05)
    assert by_phase["vjp"].flops == pytest.approx(2 * by_phase["forward"].flops, rel=0.1)


def test_functions_of_trees_and_integers_are_timed():
    def function(tree, labels):
        return tree["a"][labels] * tree["b"]

    spec = Spec({"a": (5, 3), "b": (3,)}, jnp.arange(4))
    timings = timing.time(function, [spec], baseline=functools.partial(function), **QUICK)
    assert [each.method for each in timings] == ["baseline", "function"] * 6


def test_two_functions_with_the_same_name_are_both_timed():
    pair = (lambda x: x + 1), (lambda x: 1 + x)
    timings = timing.time(pair[0], [Spec((3,))], baseline=pair[1], phases=["forward"], **QUICK)
    assert [each.method for each in timings] == ["baseline", "method"] * 2


def test_random_keys_are_carried_through_a_loop():
    def step(key, x):
        key, new = jax.random.split(key)
        return key, x + jax.random.normal(new, x.shape)

    arguments = jax.random.key(0), jnp.ones(3)
    called, loop = (turns.compile_calls(step, arguments, each) for each in (False, True))
    loop.run(3)
    changed = arguments[1].at[0].set(0)
    expected = called.evaluate((arguments[0], changed))[1]
    np.testing.assert_allclose(loop.evaluate(arguments)[1], expected, rtol=1e-6)


def wrong(x, w, **arguments):
    return conv(x, w, **arguments) * 1.001


def wrong_gradient(x, w, **arguments):
    return conv(x, w, **arguments) + x[..., :1] - jax.lax.stop_gradient(x[..., :1])


def wrong_shape(x, w, **arguments):
    return conv(x, w, **arguments)[..., :-1]


def wrong_dtype(x, w, **arguments):
    return conv(x, w, **arguments).astype(jnp.bfloat16)


@pytest.mark.parametrize(
    ("method", "phase", "message"),
    [
        (wrong, "forward", "wrong returns wrong values before timing"),
        (wrong, "vjp", "wrong returns wrong values before timing"),
        (wrong_gradient, "both", "wrong_gradient returns wrong values before timing"),
        (wrong_shape, "forward", "wrong_shape returns"),
        (wrong_dtype, "forward", "wrong_dtype returns"),
    ],
)
def test_a_wrong_result_is_an_error_of_one_line(method, phase, message):
    with pytest.raises(RuntimeError, match=message) as caught:
        timing.time(method, [SPEC], phases=(phase,), **QUICK)
    assert "\n" not in str(caught.value)


def on_host(function):
    """Return a method that computes on the host, so that it can have a state."""

    def method(x, w, **arguments):
        expected = jax.eval_shape(functools.partial(conv, **arguments), x, w)
        return jax.pure_callback(lambda *arrays: function(*arrays, **arguments), expected, x, w)

    return method


def test_a_method_that_returns_a_stored_result_is_noticed():
    results = []

    def stored(x, w, **arguments):
        with jax.disable_jit():
            results.append(np.asarray(kernels.conv(x, w, **arguments, method="reference")))
        return results[0]

    with pytest.raises(RuntimeError, match="returns wrong values after timing"):
        timing.time(on_host(stored), [SPEC], phases=("forward",), **QUICK)


def test_a_method_that_changes_its_arguments_is_noticed(monkeypatch):
    compiled = turns.compile_calls(lambda x: x, (jnp.ones(2),))
    array = np.ones(2)

    def changing(arguments):
        arguments[0][:] = 0
        return arguments[0]

    bad = timing.dataclasses.replace(compiled, evaluate=changing)
    with pytest.raises(RuntimeError, match="mine changes its arguments"):
        timing._check("mine", bad, {"before": ((array,), np.zeros(2))}, "before", "an array")


def test_a_function_that_fails_is_left_out_if_errors_are_skipped():
    def fails(x, w, **arguments):
        raise ValueError("no")

    skipped = []
    functions = {"xla": functools.partial(kernels.conv, method="xla"), "bad": fails, "mine": conv}
    timings = timing.compare(
        functions, SPEC, "both", skip=lambda *each: skipped.append(each), **QUICK
    )
    assert {each.method for each in timings} == {"xla", "mine"}
    assert [(name, str(error)) for name, error in skipped] == [("bad", "no")] * 2


def test_shares_of_the_peaks_are_those_of_the_operations_and_bytes_per_second():
    values = ("spec", "both", True, "mine", 2.0, (2.0,), 0.1, 10, 4e6, 2000)
    each = timing.Timing(*values)
    assert each.fractions(timing.Peaks(flops=8e9, bandwidth=4e6)) == (0.25, 0.25)
    base = timing.dataclasses.replace(each, method="xla", milliseconds=5.0)
    lines = timing.format_timings([base, each], timing.Peaks(8e9, 4e6)).splitlines()
    assert lines[2].split() == [
        "spec",
        "both",
        "loop",
        "mine",
        "2",
        "2.50x",
        "0.10",
        "1e-05",
        "25.0",
        "25.0",
    ]


def test_turns_alternate_and_runs_far_behind_get_fewer(monkeypatch):
    calls, clock = [], [0.0]
    seconds = {"quick": 0.004, "slow": 0.1, "slowest": 2.0}

    def make_run(name):
        def run(times):
            calls.append((name, times))
            clock[0] += times * seconds[name]

        return run

    monkeypatch.setattr(turns, "perf_counter", lambda: clock[0])
    runs = {name: make_run(name) for name in seconds}
    milliseconds = turns.time_in_turns(runs, rounds=6, turn=0.01, total=10)
    assert milliseconds["quick"] == pytest.approx([4.0] * 6)
    assert milliseconds["slow"] == pytest.approx([100.0] * 3)
    assert milliseconds["slowest"] == pytest.approx([2000.0])
    first, again = ["quick", "slow", "slowest"], ["quick", "slow"]
    assert calls[:5] == [(name, 1) for name in first + again]
    quick = [("quick", 1), ("quick", 3)]  # the single call fills the caches
    assert calls[5:11] == [*quick, ("slow", 1), ("slow", 1), *quick]


def test_the_limit_of_time_reduces_the_turns_but_not_below_three(monkeypatch):
    clock = [0.0]

    def run(times):
        clock[0] += times

    monkeypatch.setattr(turns, "perf_counter", lambda: clock[0])
    for total, expected in [(0, 3), (7, 7), (100, 9)]:
        (each,) = turns.time_in_turns({"one": run}, rounds=9, turn=1, total=total).values()
        assert len(each) == expected
