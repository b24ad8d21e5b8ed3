"""Kernels and feature maps of a network, and where the cells of a feature map lie in the image."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float

from fidle_jax.nn.layers import BatchNorm, Conv, MaxPool
from fidle_jax.nn.table import layer_table, trace_layers


class Intermediates(NamedTuple):
    """Kernels and layer outputs of a network for one image."""

    kernels: dict[str, Float[np.ndarray, "k1 k2 c_in c_out"]]  # of the convolutions, by layer name
    # The input ("00 input") and the output of each layer ("01 conv_1"), (height, width, channel) or
    # (feature,), without dropout layers and outputs of other shapes.
    maps: dict[str, np.ndarray]


class Grid(NamedTuple):
    """Pixel coordinates of the cells of a feature map in the input image, the same along both axes."""

    first: float  # centre of the receptive field of the first cell
    step: float  # distance between neighbouring cells


def compute_intermediates(
    model: nn.Module,
    variables: dict[str, Any],
    image: Float[Array | np.ndarray, "height width channel"],
) -> Intermediates:
    """Return the kernels of ``model`` and the output of each layer for an image from 0 to 1."""

    def compute(variables, image) -> dict[str, Array]:
        _, captured = model.apply(variables, image[None], capture_intermediates=True)
        found: dict = flatten_dict(captured["intermediates"], sep="/")
        # The output of the model itself is named "__call__" and is not needed.
        outputs = {name.removesuffix("/__call__"): values[0] for name, values in found.items()}
        return {k: x[0] for k, x in outputs.items() if getattr(x, "ndim", 0) in (2, 4)}

    outputs = jax.jit(compute)(variables, jnp.asarray(image))
    kernels, maps = {}, {"00 input": np.asarray(image)}
    params: dict = flatten_dict(variables["params"], sep="/")
    height, width, channels = image.shape
    for row in layer_table(model, (height, width, channels)):
        kernel = params.get(f"{row.name}/kernel")
        if row.kind == Conv.__name__ and np.ndim(kernel) == 4:
            kernels[row.name] = np.asarray(kernel)
        if row.kind != "Dropout" and row.name in outputs:
            maps[f"{len(maps):02d} {row.name}"] = np.asarray(outputs[row.name])
    return Intermediates(kernels, maps)


def last_feature_maps(
    model: nn.Module, image_shape: tuple[int, int, int]
) -> tuple[str, Grid] | None:
    """Return the name of the last convolution and the positions of its cells, or None if there is none.

    If it has no bias, return the batch norm after it, because only there is zero a meaningful value.
    """
    modules: list[nn.Module] = []
    trace_layers(model, image_shape, lambda module, x, output: modules.append(module))
    convs = [i for i, module in enumerate(modules) if isinstance(module, Conv)]
    if not convs:
        return None
    norms = [i for i in range(convs[-1], len(modules)) if isinstance(modules[i], BatchNorm)]
    last = norms[0] if norms and modules[convs[-1]].plain else convs[-1]
    first, step = 0.0, 1.0
    for module in modules[: last + 1]:
        if isinstance(module, Conv) and module.padding == "valid":
            first += step * (module.kernel_size[0] - 1) / 2
        if isinstance(module, MaxPool):
            first += step * (module.window - 1) / 2
            step *= module.window
    return "/".join(modules[last].path), Grid(first, step)


def resize_map(
    values: Float[Array | np.ndarray, "row column"], grid: Grid, image_shape: tuple[int, int, int]
) -> Float[Array, "height width"]:
    """Interpolate a feature map linearly at each pixel. Pixels beyond the outer cells repeat them."""
    positions = [(jnp.arange(size) - grid.first) / grid.step for size in image_shape[:2]]
    return map_coordinates(values, jnp.meshgrid(*positions, indexing="ij"), order=1, mode="nearest")
