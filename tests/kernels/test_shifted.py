from fidle_jax.kernels.testing import ConvComparison


class TestShifted(ConvComparison):
    method = "shifted"
