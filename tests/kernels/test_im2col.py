from fidle_jax.kernels.testing import ConvComparison


class TestIm2col(ConvComparison):
    method = "im2col"
