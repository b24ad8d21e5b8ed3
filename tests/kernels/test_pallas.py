"""Test the Pallas kernels: interpreted, as tiles of an interpreted TPU, and lowered for TPU and GPU."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from jax.experimental import pallas as pl
from jax.sharding import AbstractDevice, AbstractMesh

from fidle_jax import kernels
from fidle_jax.kernels.auto import table_rows
from fidle_jax.kernels.checks import assert_close
from fidle_jax.kernels.comparison import measure
from fidle_jax.kernels.testing import ConvComparison, PoolComparison, Spec

X = jnp.asarray(np.random.default_rng(0).normal(size=(2 * jax.device_count(), 7, 8, 3)), "f")
W = jnp.asarray(np.random.default_rng(1).normal(size=(3, 2, 3, 4)), "f")
conv = functools.partial(kernels.conv, strides=(2, 1), padding="same", method="pallas")
pool = functools.partial(kernels.max_pool, window=3, strides=2, padding="same")


@pytest.mark.slow
class TestPallas(ConvComparison):
    method = "pallas"


@pytest.mark.slow
class TestPallasMaxPool(PoolComparison):
    method = "pallas"
    ratio = 1


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "bool", "float8_e4m3fn", "float16"])
def test_max_pool_of_narrow_types_equals_the_reference_exactly(dtype):
    x = jnp.asarray(np.random.default_rng(0).integers(-100, 100, X.shape)).astype(dtype)
    y, expected = pool(x, method="pallas"), pool(x, method="reference")
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.astype("f"), expected.astype("f"))


def test_max_pool_of_nan_and_infinities_equals_the_reference():
    odd = np.random.default_rng(0).choice(
        [-np.inf, 1, np.inf, np.nan], X.shape, p=[0.6, 0.3, 0.05, 0.05]
    )
    y, expected = (pool(odd.astype("f"), method=method) for method in ("pallas", "reference"))
    assert np.isnan(expected).any()
    assert np.isneginf(expected).any()
    np.testing.assert_array_equal(y, expected)


CALLS = {
    "conv": lambda x: conv(x, W),
    "gradient in the images": jax.grad(lambda x: (conv(x, W) ** 2).sum()),
    "gradient in the kernel": lambda x: jax.grad(lambda w: (conv(x, w) ** 2).sum())(W),
    "max_pool": functools.partial(pool, method="pallas"),
}
each_call = pytest.mark.parametrize("name", CALLS)


@each_call
def test_a_symbolic_batch_size_is_supported(name):
    (batch,) = export.symbolic_shape("b")
    shape = jax.ShapeDtypeStruct((batch, *X.shape[1:]), X.dtype)
    exported = export.export(jax.jit(CALLS[name]))(shape)
    assert_close(exported.call(X), CALLS[name](X), 16)


# More than one block of rows (64), of channels and of features (64), and numbers that fill no block.
BLOCK_SPECS = [
    Spec((3, 7, 9, 5), (3, 2, 5, 4), strides=(1, 1), padding="same", dilation=(1, 1)),
    Spec((2, 9, 11, 70), (3, 3, 70, 90), strides=(2, 1), padding="same", dilation=(1, 1)),
    Spec((1, 12, 13, 4), (2, 3, 2, 6), strides=(3, 2), padding=1, dilation=(2, 3), groups=2),
    Spec((2, 20, 130), (4, 65, 130), strides=(1,), padding="valid", dilation=(2,), groups=2),
]


@pytest.fixture
def interpreted_blocks(monkeypatch):
    """Interpret the programs that are compiled on a TPU or GPU."""
    pallas_call = pl.pallas_call

    def interpreted(*arguments, **how):
        return pallas_call(*arguments, **how | {"interpret": True})

    monkeypatch.setattr(pl, "pallas_call", interpreted)
    monkeypatch.setattr(lax, "platform_dependent", lambda *arrays, default, **_: default(*arrays))


@pytest.mark.usefixtures("interpreted_blocks")
@pytest.mark.parametrize("spec", BLOCK_SPECS, ids=str)
def test_blocks_of_compiled_programs_compute_the_reference(spec):
    measure(TestPallas.subject(), spec, "float32", ["normal"])


@pytest.mark.usefixtures("interpreted_blocks")
@pytest.mark.parametrize("shape", [(3, 9, 8, 5), (2, 13, 70)])
def test_blocks_of_compiled_programs_compute_the_maximum_exactly(shape):
    x = np.random.default_rng(0).normal(size=shape).astype("f")
    y, expected = (jax.jit(functools.partial(pool, method=m))(x) for m in ("pallas", "reference"))
    np.testing.assert_array_equal(y, expected)


TARGETS = {
    "tpu": ("TPU v5 lite", "tpu", "@tpu_custom_call"),
    "cuda": ("NVIDIA H100", "gpu", "@__gpu$xla.gpu.triton"),
}
OLD = tuple(map(int, jax.__version__.split(".")[:2])) < (0, 12)


@each_call
@pytest.mark.parametrize("platform", TARGETS)
@pytest.mark.parametrize("x64", [False, True])
# JAX 0.12 deprecates Triton in favour of Mosaic GPU, in which a program manages memory itself.
@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated")
@pytest.mark.skipif(OLD, reason="JAX below 0.12 lowers only for devices that it finds")
def test_a_call_is_lowered_for_a_tpu_and_a_gpu(name, platform, x64):
    kind, family, target = TARGETS[platform]
    device = AbstractDevice(kind, 1, platform=family)
    with (
        jax.sharding.use_abstract_mesh(AbstractMesh((), (), abstract_device=device)),
        jax.enable_x64(x64),
    ):
        lowered = jax.jit(CALLS[name]).trace(X).lower(lowering_platforms=(platform,))
    assert target in lowered.as_text()


def test_auto_cannot_select_it():
    assert not any("pallas" in row.milliseconds for row in table_rows())


def test_importing_the_kernels_does_not_import_pallas():
    program = (
        "import sys, fidle_jax.kernels; assert 'jax.experimental.pallas' not in sys.modules, 'slow'"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
