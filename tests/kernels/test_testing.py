import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from hypothesis import Phase, settings

from fidle_jax import kernels
from fidle_jax.kernels import im2col, methods, xla
from fidle_jax.kernels.testing import ConvComparison


def _flipped(x, w, **how):
    return xla.conv(x, jnp.flip(w, range(w.ndim - 2)), **how)


def _without(argument):
    def conv(x, w, **how):
        return xla.conv(x, w, **(how | {argument: (1,) * (x.ndim - 2)}))

    return conv


def _padded_the_other_way(x, w, *, padding, **how):
    return xla.conv(x, w, padding=[pair[::-1] for pair in padding], **how)


def _groups_in_turn(x, w, *, groups, **how):
    order = jnp.arange(w.shape[-1]).reshape(-1, groups).T.ravel()
    return xla.conv(x, w, groups=groups, **how)[..., order]


def _always_float32(x, w, **how):
    return xla.conv(x, w, **how).astype(jnp.float32)


@jax.custom_jvp
def _halved_slope(y):
    return y


_halved_slope.defjvp(lambda primals, tangents: (primals[0], tangents[0] / 2))


def _wrong_gradient(x, w, **how):
    return _halved_slope(xla.conv(x, w, **how))


def _with_zeros_times_numbers_outside(x, w, **how):
    """Add the sum of the image times zero: wrong only for infinities and NaN."""
    return xla.conv(x, w, **how) + 0 * x.sum()


def _rounded_to_the_largest(x, w, **how):
    """Add and subtract a number of the size of the image: rounding errors are not local."""
    y = xla.conv(x, w, **how)
    large = jax.lax.stop_gradient(jnp.abs(x).max())
    return jnp.where(jnp.isfinite(y) & jnp.isfinite(large), (y + large) - large, y)


def _compiled_again(x, w, **how):
    return jax.lax.map(lambda x: xla.conv(x[None], w, **how)[0], x)


@jax.custom_vjp
def _no_transpose(y):
    return y


_no_transpose.defvjp(lambda y: (y, None), lambda _, dy: (dy,))


def _without_linear_transpose(x, w, **how):
    return _no_transpose(xla.conv(x, w, **how))


def _with_implicit_promotion(x, w, **how):
    return (xla.conv(x, w, **how) * jnp.ones((), jnp.float32)).astype(x.dtype)


# By the test that has to fail, a method and a part of the report.
BROKEN_PROMISES = {
    "test_odd_numbers": [
        (_with_zeros_times_numbers_outside, "An output may be infinite or NaN only"),
        (_rounded_to_the_largest, "a large number elsewhere changes this output"),
    ],
    "test_repeated_eager_calls_compile_nothing": [(_compiled_again, "Wrap it in jax.jit")],
    "test_forward_mode_linear_transpose": [
        (_without_linear_transpose, "fails under linear_transpose")
    ],
    "test_forward_mode_jvp": [(_without_linear_transpose, "fails under jvp")],
    "test_strict_promotion": [
        (_with_implicit_promotion, "fails with strict type promotion in bfloat16")
    ],
}

WRONG = {
    "flipped": _flipped,
    "no strides": _without("strides"),
    "no dilation": _without("dilation"),
    "padded the other way": _padded_the_other_way,
    "groups in turn": _groups_in_turn,
    "always float32": _always_float32,
    "wrong gradient": _wrong_gradient,
}


@pytest.fixture
def outcome(monkeypatch):
    """(conv, names of tests) -> what unittest says of them."""
    monkeypatch.setattr(methods, "_METHODS", dict(methods._METHODS))
    # Nobody reads the failure: it need not be the simplest.
    settings.register_profile("failing", deadline=None, phases=[Phase.generate])
    settings.load_profile("failing")

    def run(conv, names, **supports):
        kernels.register("tried", conv, **supports)

        class Tried(ConvComparison):
            method = "tried"

        result = Tried.defaultTestResult(Tried(names[0]))
        for name in names:
            Tried(name).run(result)
        return result

    yield run
    settings.load_profile("compiling")


DRAWN = [f"test_drawn_cases_in_{rank}d" for rank in (1, 2)]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_method_fails(outcome, wrong):
    result = outcome(WRONG[wrong], DRAWN)
    assert len(result.failures) == len(DRAWN), result.errors


@pytest.mark.parametrize(
    ("name", "conv", "report"),
    [(name, *each) for name, methods in BROKEN_PROMISES.items() for each in methods],
)
def test_a_method_that_breaks_one_promise_fails_and_is_told_which(outcome, name, conv, report):
    result = outcome(conv, [name])
    (_, failure), *others = result.failures
    assert not others
    assert not result.errors
    assert report in failure


def test_a_method_is_tried_on_windows_that_it_supports_alone(outcome):
    def pointwise(x, w, *, strides, padding, dilation, groups):
        assert set(w.shape[:-2]) == {1}
        return im2col.conv(x, w, strides=strides, padding=padding, dilation=dilation, groups=groups)

    def supports(size, strides, dilation):
        return len(size) == 2 and set(size) == {1}

    names = [*DRAWN, "test_usual_case__with_jit", "test_shard_map_over_the_batch"]
    result = outcome(pointwise, names, supports=supports)
    assert result.wasSuccessful(), result.errors + result.failures
    assert [skipped[1] for skipped in result.skipped] == [
        "tried does no windows of 1 axes drawn here"
    ]


@pytest.mark.slow
def test_all_built_in_methods_on_three_devices():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=3", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "pytest", "-q", "tests/kernels", "-k", "pmap or shard_map"]
    subprocess.run(command, env=os.environ | flags, check=True)
