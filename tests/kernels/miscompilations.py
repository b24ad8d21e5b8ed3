"""Programs that some releases of JAX compile incorrectly for CPU, as reproducers for bug reports.

Run ``python miscompilations.py`` to test the installed release, or name the programs to run. The
script needs only JAX and NumPy. Each program runs in its own process, because some of them crash or
hang. A program is either a reported bug or a building block of this project's kernels, at a shape
that XLA splits across threads. Inputs are small integers, so every correct result is exact.
"""

import argparse
import os
import signal
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

TIMEOUT = 300  # seconds; each program takes a few, but much longer on a busy machine


def matvec_then_sum():
    """Reduce a batch of matrix-vector products (jax-ml/jax#39103)."""
    rows = jnp.arange(32_769.0)[:, None] * jnp.array([1.0, 0.0, 0.0])
    squared_norm = jax.vmap(lambda row: jnp.sum((jnp.eye(3) @ row) ** 2))
    assert_equal(jax.jit(squared_norm)(rows), np.arange(32_769.0) ** 2, rtol=1e-6)


def matvec_then_sum_float64():
    """Reduce a batch of float64 matrix-vector products (jax-ml/jax#39103)."""
    with jax.enable_x64(True):
        rows = jnp.arange(16_385.0)[:, None] * jnp.array([1.0, 0.0, 0.0])
        squared_norm = jax.vmap(lambda row: jnp.sum((jnp.eye(3) @ row) ** 2))
        assert_equal(jax.jit(squared_norm)(rows), np.arange(16_385.0) ** 2, rtol=1e-12)


def rank_8_product_then_sum():
    """Reduce a product of rank 8 (jax-ml/jax#39257): crashes or hangs."""
    a, b = jnp.ones((10, 4, 6)), jnp.ones((10, 4, 6, 9, 9, 9, 9, 9))

    def log_sum(a, b):
        return jnp.log(jnp.maximum(jnp.sum(a[..., None, None, None, None, None] * b, axis=2), 1e-9))

    assert_equal(jax.jit(log_sum)(a, b), np.full((10, 4, 9, 9, 9, 9, 9), np.log(6)), rtol=1e-6)


def rank_7_product_then_sum():
    """Reduce a product of rank 7 with an axis of size 1 (jax-ml/jax#40412): crashes."""
    a, b = integers(3, 1, 2, 2, 8, 8, 8), integers(3, 1, 2, 2, 8, 8, 8, seed=1)
    assert_equal(jax.jit(lambda a, b: jnp.sum(a * b, axis=3))(a, b), np.sum(a * b, axis=3))


def sum_of_broadcast():
    """Sum a broadcast array (tensorflow/tensorflow#126812): wrong and nondeterministic."""
    total = jax.jit(lambda x: jnp.sum(jnp.broadcast_to(x, (2, 1024, 1024))))
    for _ in range(300):
        assert_equal(total(jnp.ones((1024, 1))), 2.0**21)


def two_fft_convolutions():
    """Differentiate two convolutions by FFT in one program: hangs, as the FFTs wait for each other."""
    x, w = integers(64, 32, 32, 8), integers(2, 5, 5, 8, 8, seed=1)

    def loss(w, x):
        return sum(jnp.sum(fft_convolution(x, w[i]) ** 2) for i in range(2))

    step = jax.jit(jax.value_and_grad(loss))
    for _ in range(20):
        value, gradient = step(w, x)
        assert np.isfinite(value), value
        assert np.isfinite(gradient).all()


def fft_chain():
    """Transform each image of a batch forward and back, in several independent chains."""
    x = integers(4, 64, 64, 64)

    def chains(x):
        return jnp.stack(
            [
                jnp.fft.irfftn(jnp.fft.rfftn(x[i], axes=(1, 2)) * (i + 1), axes=(1, 2))
                for i in range(4)
            ]
        )

    expected = x * np.arange(1, 5)[:, None, None, None]
    for _ in range(20):
        assert_equal(jax.jit(chains)(x), expected, atol=1e-4)


def matmul(dtype=jnp.float32):
    """Multiply the matrix of patches by the matrix of kernels, with both gradients."""
    a, b = integers(40_000, 75), integers(75, 16, seed=1)
    c = integers(40_000, 16, seed=2)

    def product(a, b):
        return jnp.matmul(a, b, preferred_element_type=jnp.float32)

    y, transpose = jax.jit(lambda a, b: jax.vjp(product, a, b))(cast(a, dtype), cast(b, dtype))
    assert_equal(y, a @ b)
    da, db = jax.jit(lambda f, c: f(c))(transpose, jnp.asarray(c, jnp.float32))
    assert_equal(da, c @ b.T, rtol=rounding(dtype))
    assert_equal(db, a.T @ c, rtol=rounding(dtype), atol=1)


def matmul_bfloat16():
    """Multiply matrices in bfloat16 and accumulate in float32, with both gradients."""
    matmul(jnp.bfloat16)


def batched_matmul(dtype=jnp.float32):
    """Multiply batches of matrices, as Winograd's method does."""
    a, b = integers(36, 2_048, 32), integers(36, 32, 24, seed=1)
    y = jax.jit(lambda a, b: jnp.matmul(a, b, preferred_element_type=jnp.float32))(
        cast(a, dtype), cast(b, dtype)
    )
    assert_equal(y, a @ b)


def batched_matmul_bfloat16():
    """Multiply batches of bfloat16 matrices."""
    batched_matmul(jnp.bfloat16)


def matvec(dtype=jnp.float32):
    """Multiply a tall matrix by a vector, and its transpose by another."""
    a, x, y = integers(65_537, 64), integers(64, seed=1), integers(65_537, seed=2)

    def both(a, x, y):
        dot = lambda p, q: jnp.matmul(p, q, preferred_element_type=jnp.float32)  # noqa: E731
        return dot(a, x), dot(y, a)

    ax, ya = jax.jit(both)(cast(a, dtype), cast(x, dtype), cast(y, dtype))
    assert_equal(ax, a @ x)
    assert_equal(ya, y @ a)


def matvec_bfloat16():
    """Multiply a tall bfloat16 matrix by a vector."""
    matvec(jnp.bfloat16)


def grouped_einsum(dtype=jnp.float32):
    """Multiply the patches of each group of channels by its kernels."""
    a, b = integers(16_385, 9, 4, 8), integers(9, 8, 4, 6, seed=1)
    einsum = jax.jit(
        lambda a, b: jnp.einsum("rvgc,vcgf->rgf", a, b, preferred_element_type=jnp.float32)
    )
    assert_equal(einsum(cast(a, dtype), cast(b, dtype)), np.einsum("rvgc,vcgf->rgf", a, b))


def grouped_einsum_bfloat16():
    """Multiply the bfloat16 patches of each group of channels by its kernels."""
    grouped_einsum(jnp.bfloat16)


def convolution(dtype=jnp.float32):
    """Convolve a batch of images with XLA's convolution, with both gradients."""
    x, w, c = (
        integers(64, 28, 28, 8),
        integers(3, 3, 8, 16, seed=1),
        integers(64, 26, 26, 16, seed=2),
    )
    y, transpose = jax.jit(lambda x, w: jax.vjp(xla_convolution, x, w))(
        cast(x, dtype), cast(w, dtype)
    )
    dx, dw = jax.jit(lambda f, c: f(c))(transpose, cast(c, dtype))
    expected, expected_dx, expected_dw = numpy_convolution(x, w, c)
    assert_equal(y, expected, rtol=rounding(dtype), atol=1)
    assert_equal(dx, expected_dx, rtol=rounding(dtype), atol=1)
    assert_equal(dw, expected_dw, rtol=rounding(dtype), atol=8)


def convolution_bfloat16():
    """Convolve a batch of bfloat16 images with XLA's convolution, with both gradients."""
    convolution(jnp.bfloat16)


def fft_convolution_forward():
    """Convolve a batch of images by FFT."""
    x, w = integers(64, 28, 28, 8), integers(3, 3, 8, 16, seed=1)
    y = jax.jit(fft_convolution)(jnp.asarray(x, jnp.float32), jnp.asarray(w, jnp.float32))
    expected, _, _ = numpy_convolution(x, w, np.zeros((64, 26, 26, 16)))
    assert_equal(y[:, :26, :26], expected, atol=1e-2)


def matmul_then_reductions(dtype=jnp.float32):
    """Reduce a matrix product along each axis: bias, activation, sum, maximum, squares."""
    a, b, bias = integers(32_769, 24), integers(24, 20, seed=1), integers(20, seed=2)

    def reductions(a, b, bias):
        y = jnp.matmul(a, b, preferred_element_type=jnp.float32) + bias
        z = jnp.maximum(y, 0)
        return z.sum(0), z.sum(1), z.max(0), z.max(1), (y * y).sum(1), z.reshape(-1, 3, 20).max(1)

    y = a @ b + bias
    z = np.maximum(y, 0)
    expected = z.sum(0), z.sum(1), z.max(0), z.max(1), (y * y).sum(1), z.reshape(-1, 3, 20).max(1)
    actual = jax.jit(reductions)(cast(a, dtype), cast(b, dtype), jnp.asarray(bias, jnp.float32))
    for value, correct in zip(actual, expected, strict=True):
        assert_equal(value, correct, rtol=1e-6)


def matmul_then_reductions_bfloat16():
    """Reduce a product of bfloat16 matrices along each axis."""
    matmul_then_reductions(jnp.bfloat16)


def small_products_then_sum(dtype=jnp.float32):
    """Reduce products of tiny matrices in a large batch, as in Winograd's transforms."""
    x, b = integers(32_769, 6, 6), integers(6, 6, seed=1)

    def energy(x, b):
        y = jnp.einsum("ij,njk,lk->nil", b, x, b, preferred_element_type=jnp.float32)
        return jnp.abs(y).sum((1, 2)), y.sum(0)

    y = np.einsum("ij,njk,lk->nil", b, x, b, optimize=True)
    absolute, total = jax.jit(energy)(cast(x, dtype), cast(b, dtype))
    # The intermediate product is rounded to bfloat16.
    wide = dtype == jnp.float32
    assert_equal(
        absolute, np.abs(y).sum((1, 2)), rtol=1e-6 if wide else 2e-2, atol=0 if wide else 16
    )
    assert_equal(total, y.sum(0), rtol=1e-6 if wide else 2e-2, atol=0 if wide else 2e3)


def small_products_then_sum_bfloat16():
    """Reduce products of tiny bfloat16 matrices in a large batch."""
    small_products_then_sum(jnp.bfloat16)


def reductions(dtype=jnp.float32):
    """Reduce a feature map along each set of axes: sums, means of squares, pooling windows."""
    x = integers(257, 24, 24, 16)

    def reduce(x):
        wide = x.astype(jnp.float32)
        windows = x.reshape(257, 12, 2, 12, 2, 16)
        return (
            wide.sum((0, 1, 2)),
            wide.sum((1, 2, 3)),
            (wide * wide).sum((1, 2)),
            windows.max((2, 4)),
        )

    expected = (
        x.sum((0, 1, 2)),
        x.sum((1, 2, 3)),
        (x * x).sum((1, 2)),
        x.reshape(257, 12, 2, 12, 2, 16).max((2, 4)),
    )
    for value, correct in zip(jax.jit(reduce)(cast(x, dtype)), expected, strict=True):
        assert_equal(value, correct)


def reductions_bfloat16():
    """Reduce a bfloat16 feature map along each set of axes."""
    reductions(jnp.bfloat16)


def gradient_of_broadcasts():
    """Differentiate sums and means of broadcast biases: the gradients reduce broadcast constants."""
    bias = jnp.zeros(16)

    def loss(bias, x):
        return jnp.mean(x + bias) * x.size + jnp.sum(jnp.broadcast_to(bias, (257, 24, 24, 16)))

    gradient = jax.jit(jax.grad(loss))
    for _ in range(20):
        assert_equal(gradient(bias, jnp.ones((257, 24, 24, 16))), 2 * 257 * 24 * 24, rtol=1e-6)


def sums_of_broadcasts():
    """Sum broadcast arrays along several axes, as weights of padded windows and masks are."""
    x, image = integers(64, 28, 28, 1), integers(28, 28, 1, seed=1)

    def sums(x, image):
        y, images = (
            jnp.broadcast_to(x, (64, 28, 28, 32)),
            jnp.broadcast_to(image, (512, 28, 28, 16)),
        )
        return (
            y.sum(),
            y.sum((1, 2)),
            y.sum((0, 3)),
            images.sum(),
            images.sum(0),
            images.sum((1, 2)),
        )

    y, images = np.broadcast_to(x, (64, 28, 28, 32)), np.broadcast_to(image, (512, 28, 28, 16))
    expected = (
        y.sum(),
        y.sum((1, 2)),
        y.sum((0, 3)),
        images.sum(),
        images.sum(0),
        images.sum((1, 2)),
    )
    for _ in range(5):
        actual = jax.jit(sums)(jnp.asarray(x, jnp.float32), jnp.asarray(image, jnp.float32))
        for value, correct in zip(actual, expected, strict=True):
            assert_equal(value, correct)


def in_loop():
    """Multiply and reduce in a loop, where XLA uses other code than outside of one."""
    a, b = integers(4, 16_385, 25), integers(25, 8, seed=1)

    def step(total, a):
        y = jnp.maximum(a @ b, 0)
        return total + y.sum(0), (y.max(1), (y * y).sum(1))

    b = jnp.asarray(b, jnp.float32)
    total, (largest, squares) = jax.jit(lambda a: lax.scan(step, jnp.zeros(8), a))(
        jnp.asarray(a, jnp.float32)
    )
    y = np.maximum(a @ np.asarray(b, np.float64), 0)
    assert_equal(total, y.sum((0, 1)))
    assert_equal(largest, y.max(2))
    assert_equal(squares, (y * y).sum(2))


PROGRAMS = {
    name: function
    for name, function in list(globals().items())
    if getattr(function, "__module__", None) == __name__ and callable(function)
}


def integers(*shape, seed=0):
    """Return integers from -3 to 3 as float64."""
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float64)


def cast(x, dtype):
    """Return ``x`` as a JAX array of ``dtype``."""
    return jnp.asarray(x, dtype)


def rounding(dtype):
    """Return the relative error of one rounding to ``dtype``, or 0 for float32."""
    return 0 if dtype == jnp.float32 else 2.0**-8


def assert_equal(actual, expected, rtol=0.0, atol=0.0):
    """Assert that ``actual`` equals the float64 array ``expected``, up to rounding."""
    np.testing.assert_allclose(np.asarray(actual, np.float64), expected, rtol=rtol, atol=atol)


def xla_convolution(x, w):
    """Convolve images with kernels, channels last, without padding."""
    return lax.conv_general_dilated(
        x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def fft_convolution(x, w):
    """Convolve images with kernels by FFT, with circular padding."""
    sizes = x.shape[1:3]
    x_hat = jnp.fft.rfftn(x, axes=(1, 2))
    w_hat = jnp.conj(jnp.fft.rfftn(w, sizes, axes=(0, 1)))
    return jnp.fft.irfftn(jnp.einsum("nhwc,hwcf->nhwf", x_hat, w_hat), sizes, axes=(1, 2))


def numpy_convolution(x, w, c):
    """Return the convolution of ``x`` with ``w`` and the gradients for the cotangents ``c``."""
    y, dx, dw = np.zeros(c.shape), np.zeros(x.shape), np.zeros(w.shape)
    height, width = c.shape[1:3]
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            window = np.s_[:, i : i + height, j : j + width]
            y += x[window] @ w[i, j]
            dx[window] += c @ w[i, j].T
            dw[i, j] = np.tensordot(x[window], c, ([0, 1, 2], [0, 1, 2]))
    return y, dx, dw


def run(names, timeout=TIMEOUT):
    """Run programs in a child process. Yield each name with "ok", "wrong: ...", "crash: ..." or "hang: ...".

    After a crash or a hang, a new child process runs the remaining programs.
    """
    # An executable from the persistent cache would hide what the installed release compiles.
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    environment["JAX_PLATFORMS"] = "cpu"
    names = list(names)
    while names:
        command = [sys.executable, __file__, "--here", *names]
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as child:
            while names:
                timer = threading.Timer(timeout, child.kill)
                timer.start()
                outcome = child.stdout.readline().rstrip("\n")
                timer.cancel()
                if not outcome:
                    break
                yield names.pop(0), outcome
        if names:
            killed = child.returncode == -signal.SIGKILL
            hang, crash = (
                f"hang: no result after {timeout} s",
                f"crash: exit status {child.returncode}",
            )
            yield names.pop(0), hang if killed else crash


def outcome_of(program):
    """Run a program in this process. Return "ok" or "wrong: ...", on one line."""
    try:
        program()
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        details = [line for line in lines if line.startswith(("Mismatched", "Max abs"))]
        return f"wrong: {type(error).__name__}: " + "; ".join(details or lines[:2])
    return "ok"


def main():
    """Run the programs named on the command line, or all of them, and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="program; default: all")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds for each program")
    parser.add_argument(
        "--here", action="store_true", help="run in this process, without a timeout"
    )
    args = parser.parse_args()
    names = args.names or list(PROGRAMS)
    if args.here:
        for name in names:
            print(outcome_of(PROGRAMS[name]), flush=True)
        return 0
    print(
        f"Python {sys.version.split()[0]}, JAX {jax.__version__}, NumPy {np.__version__}",
        flush=True,
    )
    failed = False
    for name, outcome in run(names, args.timeout):
        print(f"{name}: {outcome}", flush=True)
        failed |= outcome != "ok"
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
