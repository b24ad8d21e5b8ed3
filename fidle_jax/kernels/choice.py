"""Which method "auto" takes, by shape."""

import jax

from fidle_jax.kernels.windows import Windows


def choose_conv(x_shape, w_shape, windows: Windows, groups: int) -> str:
    if jax.default_backend() != "cpu":
        return "xla"
    if w_shape[-2] == 1 and groups > 1:
        return "shifted"
    return "im2col"


def choose_pool(x_shape, windows: Windows) -> str:
    return "tiles" if jax.default_backend() == "cpu" else "xla"


def choose_conv_pool(x_shape, w_shape, windows: Windows, pool: Windows, groups: int) -> str:
    return "fused" if jax.default_backend() == "cpu" else "xla"
