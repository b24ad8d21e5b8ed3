"""Kernels that pass a careless comparison. Each test rejects one, with a sentence that says why."""

import ctypes
import functools
import threading
import time

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import Phase, settings

from fidle_jax import kernels
from fidle_jax.kernels import methods
from fidle_jax.kernels.specs import CONV_SPECS
from fidle_jax.kernels.testing import Comparison, ConvComparison, PoolComparison, Spec


def honest(x, w, **how):
    return kernels.conv(x, w, **how, method="xla")


def is_traced(*arrays):
    return any(isinstance(array, jax.core.Tracer) for array in arrays)


def outside_of_jit(cheat):
    """Return a convolution that is honest in a compiled program, and ``cheat`` otherwise."""

    def conv(x, w, **how):
        return honest(x, w, **how) if is_traced(x, w) else cheat(x, w, **how)

    return conv


def zeros(x, w, **how):
    return jnp.zeros_like(honest(x, w, **how))


def previous_result():
    results = []

    def conv(x, w, **how):
        results.append(honest(x, w, **how))
        same = [y for y in results[:-1] if y.shape == results[-1].shape]
        return jnp.copy(same[-1]) if same else results[-1]

    return outside_of_jit(conv)


def correct_in_the_first_call():
    calls = []

    def conv(x, w, **how):
        calls.append(1)
        return honest(x, w, **how) * (len(calls) < 3)

    return outside_of_jit(conv)


@outside_of_jit
def modifies_its_input(x, w, **how):
    y = jax.block_until_ready(honest(x, w, **how))
    ctypes.c_float.from_address(x.unsafe_buffer_pointer()).value = 0.0
    return y


@outside_of_jit
def deletes_its_input(x, w, **how):
    y = jax.block_until_ready(honest(x, w, **how))
    x.delete()
    return y


def cached_by_identity():
    cache = {}

    def conv(x, w, **how):
        key = id(x), x.shape, w.shape
        if key not in cache:
            cache[key] = np.array(honest(x, w, **how))
        return jnp.array(cache[key])

    return outside_of_jit(conv)


def cached_with_its_arguments():
    """Keep the arguments, so that their identity cannot be reused: correct, but its time is a lie."""
    cache = {}

    def conv(x, w, **how):
        key = id(x), id(w), str(how)
        if key not in cache:
            cache[key] = x, w, honest(x, w, **how)
        return cache[key][-1]

    return outside_of_jit(conv)


@outside_of_jit
def computed_after_it_returns(x, w, **how):
    y = np.array(honest(x, w, **how))
    result = jax.block_until_ready(jnp.zeros_like(y))
    pointer = result.unsafe_buffer_pointer()

    def fill():
        time.sleep(0.1)
        ctypes.memmove(pointer, y.ctypes.data, y.nbytes)

    threading.Thread(target=fill).start()
    return result


class Lazy:
    """Array that is computed when it is converted."""

    def __init__(self, compute):
        self.compute = compute
        self.shape = self.dtype = None

    def block_until_ready(self):
        """Return immediately."""
        return self

    def __array__(self, *_, **__):
        return np.asarray(self.compute())


def overwrites_its_result():
    results = {}

    def conv(x, w, **how):
        y = np.array(honest(x, w, **how))
        if y.shape not in results:
            results[y.shape] = jax.block_until_ready(jnp.zeros_like(y))
        pointer = results[y.shape].unsafe_buffer_pointer()
        ctypes.memmove(pointer, y.ctypes.data, y.nbytes)
        return results[y.shape]

    return outside_of_jit(conv)


def only_for_the_listed_shapes(x, w, **how):
    listed = [spec.inputs for spec in CONV_SPECS]
    x_shape = (x.shape[0] // jax.device_count(), *x.shape[1:])
    known = (x.shape, w.shape) in listed or (x_shape, w.shape) in listed
    return honest(x, w, **how) if known else zeros(x, w, **how)


def only_in_float32(x, w, **how):
    return honest(x, w, **how) if x.dtype == jnp.float32 else zeros(x, w, **how)


def only_without_vmap(x, w, **how):
    y = honest(x, w, **how)
    return y[::-1] if type(x).__name__ == "BatchTracer" else y


def reads_outside_its_window(x, w, **how):
    return honest(x, w, **how) + 0 * x.sum()


def rounds_to_the_largest(x, w, **how):
    """Add and subtract the largest value of the images."""
    y = honest(x, w, **how)
    large = jax.lax.stop_gradient(jnp.abs(x).max())
    return jnp.where(jnp.isfinite(y) & jnp.isfinite(large), (y + large) - large, y)


def in_bfloat16(x, w, **how):
    return honest(x.astype(jnp.bfloat16), w.astype(jnp.bfloat16), **how).astype(x.dtype)


def sums_in_bfloat16(x, w, **how):
    """Add up the halves of the channels in the type of the arrays."""
    half = x.shape[-1] // 2
    if how["groups"] > 1 or half == 0:
        return honest(x, w, **how)
    parts = (slice(half), slice(half, None))
    return sum(honest(x[..., part], w[..., part, :], **how) for part in parts)


def transposed_layout(x, w, **how):
    y = honest(x, w, **how)
    return jnp.swapaxes(y, 1, 2) if y.ndim == 4 and y.shape[1] == y.shape[2] else y


def channels_first(x, w, **how):
    return jnp.moveaxis(honest(x, w, **how), -1, 1)


def always_float32(x, w, **how):
    return honest(x, w, **how).astype(jnp.float32)


def calls_the_reference(x, w, **how):
    return kernels.conv(x, w, **how, method="reference")


def gradient_of_the_reference(x, w, **how):
    """Call the reference in the backward pass only."""

    @jax.custom_vjp
    def conv(x, w):
        return honest(x, w, **how)

    def backward(arrays, dy):
        return jax.vjp(functools.partial(calls_the_reference, **how), *arrays)[1](dy)

    conv.defvjp(lambda x, w: (conv(x, w), (x, w)), backward)
    return conv(x, w)


@jax.custom_jvp
def _halved_slope(y):
    return y


_halved_slope.defjvp(lambda primals, tangents: (primals[0], tangents[0] / 2))


def wrong_gradient(x, w, **how):
    return _halved_slope(honest(x, w, **how))


def flipped(x, w, **how):
    return honest(x, jnp.flip(w, range(w.ndim - 2)), **how)


def without(argument):
    def conv(x, w, **how):
        return honest(x, w, **(how | {argument: (1,) * (x.ndim - 2)}))

    return conv


def padded_on_the_other_side(x, w, *, padding, **how):
    return honest(x, w, padding=[pair[::-1] for pair in padding], **how)


def groups_interleaved(x, w, *, groups, **how):
    order = jnp.arange(w.shape[-1]).reshape(-1, groups).T.ravel()
    return honest(x, w, groups=groups, **how)[..., order]


def compiled_again(x, w, **how):
    return jax.lax.map(lambda x: honest(x[None], w, **how)[0], x)


@jax.custom_vjp
def _no_transpose(y):
    return y


_no_transpose.defvjp(lambda y: (y, None), lambda _, dy: (dy,))


def without_forward_mode(x, w, **how):
    return _no_transpose(honest(x, w, **how))


def with_implicit_promotion(x, w, **how):
    return (honest(x, w, **how) * jnp.ones((), jnp.float32)).astype(x.dtype)


F32, BF16 = "test_errors_in_float32", "test_errors_in_bfloat16"
CALLS = "test_calls_outside_of_jit"
# Kernel, the test that rejects it, and a part of the sentence that says why.
CHEATS = {
    "returns zeros": (zeros, F32, "The kernel computes something else"),
    "returns the previous result": (previous_result(), CALLS, "in its second call, with other ar"),
    "is correct in the first call": (
        correct_in_the_first_call(),
        CALLS,
        "in a later call (correct o",
    ),
    "modifies its input": (modifies_its_input, CALLS, "modifies an argument; a function must"),
    "deletes its input": (deletes_its_input, CALLS, "deletes an argument; a function must"),
    "caches by identity": (cached_by_identity(), CALLS, "may cache by the identity"),
    "caches its arguments": (cached_with_its_arguments(), CALLS, "returns the array of an earlier"),
    "computes later": (computed_after_it_returns, CALLS, "returns an array before it is computed"),
    "is lazy": (
        outside_of_jit(lambda *arrays, **how: Lazy(lambda: honest(*arrays, **how))),
        CALLS,
        "returns an object of type Lazy; expected a jax.Array",
    ),
    "overwrites its result": (
        overwrites_its_result(),
        CALLS,
        "overwrites the result of an earlier",
    ),
    "listed shapes": (only_for_the_listed_shapes, "test_drawn_shapes", "shape that is not listed"),
    "float32 only": (only_in_float32, BF16, "The kernel computes something else"),
    "without vmap only": (
        only_without_vmap,
        "test_reverse_mode",
        "vmap of its gradients",
    ),
    "reads outside its window": (
        reads_outside_its_window,
        F32,
        "only if a number in its window is",
    ),
    "rounds to the largest": (rounds_to_the_largest, F32, "that the value does not depend on"),
    "computes in bfloat16": (in_bfloat16, F32, "or in lower precision"),
    "sums in bfloat16": (sums_in_bfloat16, BF16, "or in lower precision"),
    "transposed layout": (transposed_layout, F32, "The kernel computes something else"),
    "channels first": (channels_first, F32, "The layout and the type must be those of the refere"),
    "wrong type": (always_float32, BF16, "The layout and the type must be those of the reference"),
    "calls the reference": (
        calls_the_reference,
        "test_it_does_not_call_the_reference",
        "calls the reference, so a comparison with it says nothing",
    ),
    "calls the reference outside of jit": (
        outside_of_jit(calls_the_reference),
        "test_it_does_not_call_the_reference",
        "calls the reference, so a comparison with it says nothing",
    ),
    "calls the reference's gradient": (
        gradient_of_the_reference,
        "test_it_does_not_call_the_reference",
        "calls the reference, so a comparison with it says nothing",
    ),
    "flipped": (flipped, F32, "The kernel computes something else"),
    "no strides": (
        without("strides"),
        F32,
        "The layout and the type must be those of the reference",
    ),
    "no dilation": (
        without("dilation"),
        F32,
        "The layout and the type must be those of the reference",
    ),
    "padded on the other side": (
        padded_on_the_other_side,
        F32,
        "The kernel computes something else",
    ),
    "groups interleaved": (groups_interleaved, F32, "The kernel computes something else"),
    "compiles again": (
        compiled_again,
        "test_repeated_eager_calls_compile_nothing",
        "compiles programs again in its third call with equal shapes",
    ),
    "no forward mode": (without_forward_mode, "test_forward_mode", "fails under linearize"),
    "implicit promotion": (
        with_implicit_promotion,
        "test_strict_promotion",
        "fails with strict type promotion in bfloat16",
    ),
    "wrong gradient": (wrong_gradient, F32, "JVP in w, for"),
}


@pytest.fixture(autouse=True)
def _registry(monkeypatch):
    """Restore the registered methods, and don't simplify failing cases, which nobody reads.

    Users have no run-time checks of annotations, which would reject some kernels earlier.
    """
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    monkeypatch.setattr(methods, "_METHODS", dict(methods._METHODS))
    profile = settings.get_current_profile_name()
    settings.register_profile("failing", deadline=None, phases=[Phase.generate])
    settings.load_profile("failing")
    yield
    settings.load_profile(profile)


def run_test(cls, name):
    """Run one test of a comparison class, and return its error or an empty string."""
    cls.setUpClass()
    result = cls.defaultTestResult(cls(name))
    cls(name).run(result)
    failures = [text for _, text in result.failures + result.errors]
    return " ".join(failures[0].split()) if failures else ""


@pytest.mark.parametrize("name", CHEATS)
def test_a_kernel_that_cheats_is_rejected_with_the_reason(name):
    cheat, test, reason = CHEATS[name]
    kernels.register("mine", cheat)

    class Mine(ConvComparison):
        method = "mine"

    assert reason in run_test(Mine, test)


def test_a_method_is_tested_only_with_the_windows_it_supports():
    def pointwise(x, w, **how):
        assert set(w.shape[:-2]) == {1}
        return kernels.conv(x, w, **how, method="im2col")

    def supports(size, strides, dilation):
        return len(size) == 2 and set(size) == {1}

    kernels.register("mine", pointwise, supports)

    class Mine(ConvComparison):
        method = "mine"

    for name in (F32, "test_drawn_shapes", "test_variants__with_jit"):
        assert not run_test(Mine, name)


def test_a_method_without_a_listed_shape_is_tested_with_one_that_it_supports():
    kernels.register("mine", honest, lambda size, strides, dilation: size == (4, 2))

    class Mine(ConvComparison):
        method = "mine"

    assert [spec.inputs[1][:2] for spec in Mine.specs] == [(4, 2)]
    assert not run_test(Mine, F32)


def test_an_unknown_method_is_an_error_of_the_class():
    with pytest.raises(ValueError, match=r"unknown method 'yours'.*call kernels.register before"):

        class Yours(ConvComparison):
            method = "yours"


def attention(q, k, v):
    weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) * q.shape[-1] ** -0.5)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, v)


def blocked_attention(q, k, v):
    """Compute attention one query at a time."""

    def one(q):
        logits = (q[:, None] * k).sum(-1) / jnp.asarray(q.shape[-1] ** 0.5, q.dtype)
        weights = jnp.exp(logits - logits.max(1, keepdims=True))
        weights = weights / weights.sum(1, keepdims=True)
        return (weights[..., None] * v).sum(1)

    return jax.vmap(one, 1, 1)(q)


class AttentionComparison(Comparison):
    reference = attention
    specs = (Spec((2, 5, 2, 4), (2, 7, 2, 4), (2, 7, 2, 4)),)
    batched = (0, 1, 2)


class TestBlockedAttention(AttentionComparison):
    function = blocked_attention
    ratio = 8


# Kernel, the test that rejects it, and a part of the reason.
ATTENTION_CHEATS = {
    "returns zeros": (lambda q, k, v: jnp.zeros_like(q), F32, "The kernel computes something else"),
    "ignores the keys": (
        lambda q, k, v: jnp.broadcast_to(v.mean(1, keepdims=True), q.shape),
        F32,
        "The kernel computes something else",
    ),
    "listed shapes": (
        lambda q, k, v: blocked_attention(q, k, v) * (k.shape[1] == 7),
        "test_drawn_shapes",
        "shape that is not listed",
    ),
    "computes in bfloat16": (
        lambda q, k, v: attention(q.astype(jnp.bfloat16), k, v).astype(q.dtype),
        F32,
        "or in lower precision",
    ),
    "calls the reference": (
        lambda q, k, v: attention(q, k, v),
        "test_it_does_not_call_the_reference",
        "calls the reference",
    ),
    "copies the reference": (
        lambda q, k, v: jnp.einsum(
            "bhqk,bkhd->bqhd",
            jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) * q.shape[-1] ** -0.5),
            v,
        ),
        "test_it_does_not_call_the_reference",
        "computes the same operations as the reference",
    ),
}


@pytest.mark.parametrize("name", ATTENTION_CHEATS)
def test_any_function_that_cheats_is_rejected_with_the_reason(name):
    cheat, test, reason = ATTENTION_CHEATS[name]

    class Mine(AttentionComparison):
        function = cheat
        ratio = 8

    assert reason in run_test(Mine, test)


def _maximum_of_corners(x, *, window, strides=None, padding="valid"):
    """Return the value at the first position of each window."""
    return kernels.avg_pool(x, window, strides=strides, padding=padding)


def test_a_pooling_of_another_kind_is_rejected_with_the_reason():
    class Mine(PoolComparison):
        function = _maximum_of_corners

    assert "The kernel computes something else" in run_test(Mine, F32)
