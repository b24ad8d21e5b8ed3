from fidle_jax.kernels.testing import ConvComparison


class TestPallas(ConvComparison):
    method = "pallas"
