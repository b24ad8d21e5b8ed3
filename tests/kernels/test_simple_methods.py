import chex
import jax.numpy as jnp
import numpy as np

from fidle_jax import kernels
from fidle_jax.kernels.testing import ConvComparison


class TestXla(ConvComparison):
    method = "xla"


class TestForward(ConvComparison):
    method = "forward"


class TestIm2col(ConvComparison):
    method = "im2col"


class TestShifted(ConvComparison):
    method = "shifted"


class TestFft(ConvComparison):
    method = "fft"
    local = False


def test_fft_of_a_large_window_is_within_a_few_roundings():
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in [(1, 40, 40, 2), (25, 25, 2, 3)])
    y, expected = (kernels.conv(x, w, method=method) for method in ("fft", "xla"))
    chex.assert_trees_all_close(y, expected, rtol=0, atol=1e-6 * float(abs(expected).max()))
