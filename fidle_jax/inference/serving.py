"""What a trained network says to a drawing or a photograph, and what its layers make of it."""

import base64
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, PyTree, UInt8

from fidle_jax.data.augment import scale
from fidle_jax.inference.files import read_image
from fidle_jax.inference.load import Trained
from fidle_jax.inference.prepare import prepare
from fidle_jax.nn.intermediates import unfused
from fidle_jax.nn.layers import Conv, Dense, MaxPool
from fidle_jax.nn.table import layer_table

MOST_MAPS = 16  # of a layer; a person sees no more at once
SHOWN = (Conv, MaxPool, Dense)


class Layer(NamedTuple):
    """A layer whose activations an answer has.

    Attributes:
        name: as in the table of layers.
        shape: of all its activations: height, width, channels; or neurons.
    """

    name: str
    shape: tuple[int, ...]


class Answer(NamedTuple):
    """What the network says to one image.

    Attributes:
        seen: the image as the network was given it.
        probabilities: of the classes, in their order.
        maps: of each layer, in the order of `answered_layers`: its first 16 feature maps, or all neurons,
            from its least value (0) to its greatest (255).
    """

    seen: UInt8[np.ndarray, "height width channel"]
    probabilities: Float[np.ndarray, " class"]
    maps: Sequence[UInt8[np.ndarray, "map height width"] | UInt8[np.ndarray, " neuron"]]


def answered_layers(trained: Trained) -> list[Layer]:
    """Every convolution, pooling and dense layer but the last, whose values the probabilities are."""
    kinds = {kind.__name__ for kind in SHOWN}
    layers = []
    for row in layer_table(trained.model, trained.image_shape):
        if row.kind in kinds:
            layers.append(Layer(row.name, row.output_shape[1:]))
    return layers[:-1]


def compile_answer(trained: Trained) -> Callable[[bytes], Answer]:
    """A function from an image file's bytes to the answer, compiled here, once.

    It raises InputError, in one line, where the bytes are no image that can be used.
    """
    model = unfused(trained.model)
    image = jax.ShapeDtypeStruct((1, *trained.image_shape), jnp.uint8)
    forward = jax.jit(_forward, static_argnums=0).lower(model, trained.variables, image).compile()

    def answer(content: bytes) -> Answer:
        seen = prepare(read_image(content), trained)
        probabilities, maps = jax.device_get(forward(trained.variables, seen[None]))
        return Answer(seen, probabilities, maps)

    return answer


def as_json(answer: Answer) -> dict[str, Any]:
    """The answer as JSON takes it: bytes in base64, row by row, map by map."""
    return {
        "probabilities": [float(each) for each in answer.probabilities],
        "seen": _text(answer.seen),
        "maps": list(map(_text, answer.maps)),
    }


def _forward(
    model: nn.Module, variables: PyTree, images: UInt8[Array, "1 height width channel"]
) -> tuple[Float[Array, " class"], list[UInt8[Array, "..."]]]:
    """The probabilities, and the pixels of every shown layer."""
    activations = []

    def record(call, args, kwargs, context):
        output = call(*args, **kwargs)
        if isinstance(context.module, SHOWN) and context.method_name == "__call__":
            activations.append(output[0])
        return output

    with nn.intercept_methods(record):
        logits = model.apply(variables, scale(images))
    return jax.nn.softmax(logits[0]), [_pixels(each) for each in activations[:-1]]


def _pixels(x: Float[Array, "..."]) -> UInt8[Array, "..."]:
    if x.ndim == 3:
        x = jnp.moveaxis(x[..., :MOST_MAPS], -1, 0)
    height = jnp.maximum(x.max() - x.min(), jnp.finfo(x.dtype).tiny)
    return jnp.round(255 * ((x - x.min()) / height)).astype(jnp.uint8)


def _text(pixels: UInt8[np.ndarray, "..."]) -> str:
    return base64.b64encode(np.ascontiguousarray(pixels)).decode("ascii")
