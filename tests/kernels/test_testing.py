import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from hypothesis import Phase, settings

from fidle_jax import kernels
from fidle_jax.kernels import methods
from fidle_jax.kernels.testing import ConvComparison


def _xla(x, w, **how):
    return kernels.conv(x, w, **how, method="xla")


def _flipped(x, w, **how):
    return _xla(x, jnp.flip(w, range(w.ndim - 2)), **how)


def _without(argument):
    def conv(x, w, **how):
        return _xla(x, w, **(how | {argument: (1,) * (x.ndim - 2)}))

    return conv


def _padded_on_the_other_side(x, w, *, padding, **how):
    return _xla(x, w, padding=[pair[::-1] for pair in padding], **how)


def _groups_interleaved(x, w, *, groups, **how):
    order = jnp.arange(w.shape[-1]).reshape(-1, groups).T.ravel()
    return _xla(x, w, groups=groups, **how)[..., order]


def _always_float32(x, w, **how):
    return _xla(x, w, **how).astype(jnp.float32)


@jax.custom_jvp
def _halved_slope(y):
    return y


_halved_slope.defjvp(lambda primals, tangents: (primals[0], tangents[0] / 2))


def _wrong_gradient(x, w, **how):
    return _halved_slope(_xla(x, w, **how))


def _with_zero_times_values_outside(x, w, **how):
    """Add the sum of the image times zero: wrong only for infinities and NaN."""
    return _xla(x, w, **how) + 0 * x.sum()


def _rounded_to_the_largest(x, w, **how):
    """Add and subtract the largest value of the image: rounding errors are not local."""
    y = _xla(x, w, **how)
    large = jax.lax.stop_gradient(jnp.abs(x).max())
    return jnp.where(jnp.isfinite(y) & jnp.isfinite(large), (y + large) - large, y)


def _compiled_again(x, w, **how):
    return jax.lax.map(lambda x: _xla(x[None], w, **how)[0], x)


@jax.custom_vjp
def _no_transpose(y):
    return y


_no_transpose.defvjp(lambda y: (y, None), lambda _, dy: (dy,))


def _without_forward_mode(x, w, **how):
    return _no_transpose(_xla(x, w, **how))


def _with_implicit_promotion(x, w, **how):
    return (_xla(x, w, **how) * jnp.ones((), jnp.float32)).astype(x.dtype)


# Test that must fail, method, and a part of the message.
BROKEN_PROMISES = [
    (
        "test_odd_numbers",
        _with_zero_times_values_outside,
        "An output may be infinite or NaN only",
    ),
    (
        "test_odd_numbers",
        _rounded_to_the_largest,
        "a large number elsewhere changes this output",
    ),
    ("test_repeated_eager_calls_compile_nothing", _compiled_again, "Wrap it in jax.jit"),
    ("test_forward_mode", _without_forward_mode, "fails under jvp"),
    ("test_reverse_mode", _wrong_gradient, "fails under vmap of its value and gradients"),
    (
        "test_strict_promotion",
        _with_implicit_promotion,
        "fails with strict type promotion in bfloat16",
    ),
]

WRONG = {
    "flipped": _flipped,
    "no strides": _without("strides"),
    "no dilation": _without("dilation"),
    "padded on the other side": _padded_on_the_other_side,
    "groups interleaved": _groups_interleaved,
    "always float32": _always_float32,
    "wrong gradient": _wrong_gradient,
}


@pytest.fixture
def outcome(monkeypatch):
    """Return a function (conv, names of tests) -> result of unittest."""
    monkeypatch.setattr(methods, "_METHODS", dict(methods._METHODS))
    # Nobody reads the failing case, so it need not be the simplest.
    profile = settings.get_current_profile_name()
    settings.register_profile("failing", deadline=None, phases=[Phase.generate])
    settings.load_profile("failing")

    def run(conv, names, **supports):
        kernels.register("mine", conv, **supports)

        class Mine(ConvComparison):
            method = "mine"

        result = Mine.defaultTestResult(Mine(names[0]))
        for name in names:
            Mine(name).run(result)
        return result

    yield run
    settings.load_profile(profile)


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_method_fails(outcome, wrong):
    result = outcome(WRONG[wrong], ["test_drawn_cases_in_1d"])
    assert len(result.failures) == 1, result.errors


@pytest.mark.parametrize(("name", "conv", "message"), BROKEN_PROMISES)
def test_a_method_that_violates_one_guarantee_fails_with_a_message_about_it(
    outcome, name, conv, message
):
    result = outcome(conv, [name])
    ((_, failure),) = result.failures
    assert not result.errors
    assert message in failure


def test_a_method_is_tested_only_with_the_windows_it_supports(outcome):
    def pointwise(x, w, **how):
        assert set(w.shape[:-2]) == {1}
        return kernels.conv(x, w, **how, method="im2col")

    def supports(size, strides, dilation):
        return len(size) == 2 and set(size) == {1}

    drawn = [f"test_drawn_cases_in_{rank}d" for rank in (1, 2)]
    names = [*drawn, "test_common_case__with_jit", "test_checkpoint_and_shard_map"]
    result = outcome(pointwise, names, supports=supports)
    assert result.wasSuccessful(), result.errors + result.failures
    assert [reason for _, reason in result.skipped] == ["mine supports no case with 1 axes"]


@pytest.mark.slow
def test_all_built_in_methods_on_three_devices():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=3", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "pytest", "-q", "tests/kernels", "-k", "pmap or shard_map"]
    subprocess.run(command, env=os.environ | flags, check=True)
