"""A network from inside: its kernels, what its layers make of an image, where their cells lie in it."""

import functools
import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float

from fidle_jax.nn.layers import BatchNorm, Conv, MaxPool
from fidle_jax.nn.table import layer_table


class Inside(NamedTuple):
    """What there is to see in a network, for one image.

    Attributes:
        kernels: of each convolution, by its name: height, width, inputs, outputs.
        maps: the input and each layer's output, from "00 input" on: height, width, channels, or features.
            Dropout, which does nothing outside training, is left out.
    """

    kernels: dict[str, Float[np.ndarray, "k1 k2 c_in c_out"]]
    maps: dict[str, np.ndarray]


class Cells(NamedTuple):
    """Where the cells of a layer's maps lie in the image, in pixels along both axes.

    Attributes:
        first: centre of the window that the first cell sees.
        step: from there to the next one's.
    """

    first: float
    step: float


def plain(model: nn.Module) -> nn.Module:
    """The same network with a call for each layer and XLA's convolutions, which are compiled quickly."""
    how: dict[str, Any] = {"fuse": False} | ({"method": "xla"} if hasattr(model, "method") else {})
    return model.clone(**how)


def look_inside(
    model: nn.Module,
    variables: dict[str, Any],
    image: Float[Array | np.ndarray, "height width channel"],
) -> Inside:
    """The kernels of ``model``, and what each of its layers makes of the image, of values from 0 to 1."""
    # Uncompiled: for one image it is there long before a program of the whole network would be.
    _, captured = plain(model).apply(
        variables, jnp.asarray(image)[None], capture_intermediates=True
    )
    kernels, maps = {}, {"00 input": np.asarray(image)}
    for name, kind in _layers(model, image.shape):
        if kind == Conv.__name__:
            kernels[name] = np.asarray(_within(variables["params"], name)["kernel"])
        if kind != "Dropout":
            output = _within(captured["intermediates"], name)["__call__"][0][0]
            maps[f"{len(maps):02d} {name}"] = np.asarray(output)
    return Inside(kernels, maps)


def last_maps(
    model: nn.Module, variables: dict[str, Any], image_shape: tuple[int, int, int]
) -> str | None:
    """Name of the last convolution; None where there is none.

    A convolution without bias leaves that to the norm after it, whose name is given in its place: before
    it the maps have no zero that would mean anything.
    """
    layers = _layers(model, image_shape)
    places = [place for place, (_, kind) in enumerate(layers) if kind == Conv.__name__]
    if not places:
        return None
    name, _ = layers[places[-1]]
    if "bias" in _within(variables["params"], name):
        return name
    after = [name for name, kind in layers[places[-1] :] if kind == BatchNorm.__name__]
    return after[0] if after else name


def cells_of(model: nn.Module, image_shape: tuple[int, int, int], layer: str) -> Cells:
    """Where the cells of that layer's maps lie, by the convolutions and poolings up to it."""
    first, step, reached = 0.0, 1.0, False

    def measure(call, args, kwargs, context):
        nonlocal first, step, reached
        module = context.module
        if not reached and context.method_name == "__call__":
            if isinstance(module, Conv) and module.padding == "valid":
                first += step * (module.kernel_size[0] - 1) / 2
            if isinstance(module, MaxPool):
                first += step * (module.window - 1) / 2
                step *= module.window
            reached = "/".join(module.path) == layer
        return call(*args, **kwargs)

    def apply(images):
        with nn.intercept_methods(measure):
            return plain(model).init_with_output(jax.random.key(0), images)

    jax.eval_shape(apply, jax.ShapeDtypeStruct((1, *image_shape), jnp.float32))
    return Cells(first, step)


def enlarge(
    maps: Float[Array | np.ndarray, "row column"], cells: Cells, image_shape: tuple[int, int, int]
) -> Float[Array, "height width"]:
    """The map at each pixel: linear between the cells' centres, and beyond the outer ones as there."""
    places = [(jnp.arange(size) - cells.first) / cells.step for size in image_shape[:2]]
    return map_coordinates(maps, jnp.meshgrid(*places, indexing="ij"), order=1, mode="nearest")


def _layers(model, image_shape) -> list[tuple[str, str]]:
    """Name and kind of each."""
    rows = layer_table(model, image_shape)
    pairs = (row.layer.removesuffix(")").split(" (") for row in rows)
    return [(name, kind) for name, kind in pairs]


def _within(tree: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """What a layer has there, by its name in the table of layers."""
    return functools.reduce(operator.getitem, name.split("/"), tree)
