import functools
import itertools
import os
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fidle_jax import kernels
from fidle_jax.kernels import checks, forward
from fidle_jax.kernels.comparison import Subject, measure
from fidle_jax.kernels.specs import CONV_SPECS
from fidle_jax.kernels.testing import ConvComparison


@pytest.mark.slow
class TestXla(ConvComparison):
    method = "xla"


class TestForward(ConvComparison):
    method = "forward"


@pytest.mark.parametrize("odd", [np.inf, np.nan])
@pytest.mark.parametrize("position", [*itertools.product(range(3), repeat=2)])
def test_forward_is_infinite_or_nan_exactly_if_the_definition_is(odd, position, monkeypatch):
    monkeypatch.setattr(forward, "KERNEL_BYTES", 1)  # several chunks
    rng = np.random.default_rng(0)
    x, w = (rng.uniform(0.1, 1, s).astype("f") for s in ((3, 6, 5, 2), (3, 3, 2, 4)))
    w[*position, 1, 2] = odd

    def gradients(method):
        y, pullback = jax.vjp(lambda *a: kernels.conv(*a, padding=(0, 2), method=method), x, w)
        return y, *pullback(jnp.ones_like(y))

    for ours, theirs in zip(*map(gradients, ("forward", "reference")), strict=True):
        finite = np.isfinite(theirs)
        np.testing.assert_array_equal(np.isfinite(ours), finite)
        np.testing.assert_allclose(ours[finite], theirs[finite], rtol=1e-5)


class TestIm2col(ConvComparison):
    method = "im2col"


@pytest.mark.slow
class TestShifted(ConvComparison):
    method = "shifted"


@pytest.mark.slow
class TestFft(ConvComparison):
    method = "fft"
    local = False
    odd_numbers = False


# Methods whose classes are slow, and attributes of their `Subject`.
SLOW_METHODS = {
    "reference": {"ratio": 4},
    "xla": {},
    "shifted": {},
    "winograd": {"mixed": "w", "ratio": 4},
    "fft": {"local": False},
    "pallas": {},
}


@pytest.mark.parametrize("method", SLOW_METHODS)
def test_errors_and_gradients_under_vmap_are_those_of_the_comparison_classes(method):
    by = [functools.partial(kernels.conv, method=name) for name in (method, "reference", "xla")]
    subject, spec = Subject(method, *by, **SLOW_METHODS[method]), CONV_SPECS[0]
    measure(subject, spec, "float32", odd=subject.local)
    measure(subject, spec, "bfloat16", ["normal"])
    name = "vmap of its gradients"
    checks.check_transformations(subject, spec, {name: checks.REVERSE_MODE[name]})


@pytest.mark.slow
def test_all_built_in_methods_on_three_devices():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=3", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "pytest", "-q", "tests/kernels", "-m", ""]
    command += ["-k", "pmap or shard_map"]
    subprocess.run(command, env=os.environ | flags, check=True)


def test_fft_of_a_large_window_is_within_a_few_roundings():
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in [(1, 40, 40, 2), (25, 25, 2, 3)])
    y, expected = (kernels.conv(x, w, method=method) for method in ("fft", "xla"))
    chex.assert_trees_all_close(y, expected, rtol=0, atol=1e-6 * float(abs(expected).max()))
