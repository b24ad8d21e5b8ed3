"""What an answer depends on: gradients in the pixels, integrated gradients, Grad-CAM and occlusion.

Images have values from 0 to 1. The networks are Flax modules that give logits, and to each image of a batch
what they would give to it alone.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, UInt8

from fidle_jax.data.augment import scale
from fidle_jax.errors import InputError
from fidle_jax.inference.load import Trained
from fidle_jax.nn.intermediates import (
    Intermediates,
    compute_intermediates,
    feature_grid,
    last_feature_maps,
    resize_map,
    unfused,
)

BATCH_SIZE = 64
STEPS = 2 * BATCH_SIZE  # of integrated gradients
GREY = 0.5
MOST_PLACES = 32  # of the square that occludes, along each side


class IntegratedGradients(NamedTuple):
    """What each value of an image adds to a logit, against a start.

    Attributes:
        values: of each pixel and channel.
        difference: the logit of the image less that of the start, to which the values should sum up.
    """

    values: Float[np.ndarray, "height width channel"]
    difference: float

    @property
    def error(self) -> float:
        """The sum of the values less the difference: it vanishes with the length of a step."""
        return float(self.values.sum()) - self.difference


class Explanation(NamedTuple):
    """What a network answers to an image, and what the logit of one class, the target, depends on.

    Attributes:
        logits: of each class.
        target: the class.
        start: the colour of the start of integrated gradients, and of the square that occludes.
        gradient: as of `saliency`.
        integrated: as of `integrated_gradients`.
        layer: whose maps Grad-CAM weighs; None where there is no convolution.
        cam: Grad-CAM at each pixel; None there, too.
        side: of the square that occludes, in pixels.
        occluded: as of `occlusion`.
        inside: the network's kernels, and what its layers make of the image.
    """

    logits: Float[np.ndarray, " class"]
    target: int
    start: Float[np.ndarray, " channel"]
    gradient: Float[np.ndarray, "height width channel"]
    integrated: IntegratedGradients
    layer: str | None
    cam: Float[np.ndarray, "height width"] | None
    side: int
    occluded: Float[np.ndarray, "row column class"]
    inside: Intermediates


def explain(
    trained: Trained, image: UInt8[np.ndarray, "height width channel"], target: int | None = None
) -> Explanation:
    """All of it, for the class ``target``, or the one that the network answers.

    The square has a quarter of the image's smaller side.

    Raises:
        InputError: the logits are no finite numbers.
    """
    model, variables = unfused(trained.model), trained.variables
    x = np.asarray(scale(image))
    inside = compute_intermediates(model, variables, x)
    logits = inside.maps[list(inside.maps)[-1]]
    if not np.isfinite(logits).all():
        raise InputError(
            "the run's network answers with what is no finite number; give a run that trained well"
        )
    target = int(logits.argmax()) if target is None else target
    start = background(x)
    size = min(x.shape[:2])
    side = size // 4 | 1
    layer = last_feature_maps(model, variables, x.shape)
    cam = None
    if layer is not None:
        maps = grad_cam(model, variables, x, target, layer)
        cam = np.asarray(resize_map(maps, feature_grid(model, x.shape, layer), x.shape))
    return Explanation(
        logits=logits,
        target=target,
        start=start,
        gradient=np.asarray(saliency(model, variables, x, target)),
        integrated=integrated_gradients(model, variables, x, target, start),
        layer=layer,
        cam=cam,
        side=side,
        occluded=np.asarray(
            occlusion(model, variables, x, start, side, stride=-(-size // MOST_PLACES))
        ),
        inside=inside,
    )


def background(image: Float[np.ndarray, "height width channel"]) -> Float[np.ndarray, " channel"]:
    """The colour that more than half of the border's pixels have; mid-grey where there is none such."""
    border = np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])
    colours, counts = np.unique(border, axis=0, return_counts=True)
    if 2 * counts.max() > len(border):
        return colours[counts.argmax()]
    return np.full(image.shape[-1:], GREY, image.dtype)


def saliency(
    model: nn.Module,
    variables: dict[str, Any],
    image: Float[Array | np.ndarray, "height width channel"],
    target: int,
) -> Float[Array, "height width channel"]:
    """The gradient of the logit of class ``target`` in the image's values.

    Simonyan, Vedaldi and Zisserman, "Deep inside convolutional networks" (2014); their picture is the
    largest size over the channels.
    """
    return _gradients(model, variables, image[None], target)[0]


def integrated_gradients(
    model: nn.Module,
    variables: dict[str, Any],
    image: Float[Array | np.ndarray, "height width channel"],
    target: int,
    start: Float[Array | np.ndarray, "channel"]
    | Float[Array | np.ndarray, "#height #width channel"],
    steps: int = STEPS,
) -> IntegratedGradients:
    """The mean gradient on the straight way from ``start`` to the image, times the way.

    Sundararajan, Taly and Yan, "Axiomatic attribution for deep networks" (2017). The gradient is taken in
    the middle of each of the ``steps``, which grow with the square of their number.
    """
    pixels = np.asarray(image)
    first = np.broadcast_to(start, pixels.shape)
    # A network that normalizes contrast changes most where there is hardly any: there steps are short.
    places = ((np.arange(steps) + 0.5) / steps).astype(pixels.dtype)
    passed = first + (places**3)[:, None, None, None] * (pixels - first)
    gradients = _in_batches(lambda x: _gradients(model, variables, x, target), passed)
    ends = _logits(model, variables, np.stack([first, pixels]))[:, target]
    mean = np.einsum("i,i...->...", 3 * places**2 / steps, gradients)
    return IntegratedGradients((pixels - first) * mean, float(ends[1] - ends[0]))


def grad_cam(
    model: nn.Module,
    variables: dict[str, Any],
    image: Float[Array | np.ndarray, "height width channel"],
    target: int,
    layer: str,
) -> Float[Array, "row column"]:
    """The maps of ``layer``, each by the mean gradient of the logit in it, summed; 0 in place of less.

    Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization"
    (2017). The layer is named as in the table of layers.
    """
    return _grad_cam(model, variables, image[None], target, layer)


def occlusion(
    model: nn.Module,
    variables: dict[str, Any],
    image: Float[Array | np.ndarray, "height width channel"],
    colour: Float[Array | np.ndarray, "channel"],
    side: int,
    stride: int = 1,
) -> Float[Array, "row column class"]:
    """The logits with a square of ``side`` pixels, an odd number, laid over the image.

    Its centre is each ``stride``-th pixel, from the middle of the first stride on; what lies outside of the
    image is cut off. Zeiler and Fergus, "Visualizing and understanding convolutional networks" (2014).
    """
    pixels = np.asarray(image)
    down, right = (
        np.abs(np.arange(size) - np.arange((stride - 1) // 2, size, stride)[:, None]) <= side // 2
        for size in pixels.shape[:2]
    )
    covered = down[:, None, :, None] & right[None, :, None, :]
    images = np.where(covered[..., None], np.asarray(colour, pixels.dtype), pixels)
    logits = _in_batches(lambda x: _logits(model, variables, x), images.reshape(-1, *pixels.shape))
    return logits.reshape(len(down), len(right), -1)


@functools.partial(jax.jit, static_argnums=0)
def _logits(model, variables, images):
    return model.apply(variables, images)


@functools.partial(jax.jit, static_argnums=0)
def _gradients(model, variables, images, target):
    return jax.grad(lambda x: model.apply(variables, x)[:, target].sum())(images)


@functools.partial(jax.jit, static_argnums=(0, 4))
def _grad_cam(model, variables, images, target, layer):
    def logit_and_maps(added):
        maps = None

        def add(call, args, kwargs, context):
            nonlocal maps
            output = call(*args, **kwargs)
            if context.method_name == "__call__" and "/".join(context.module.path) == layer:
                maps, output = output, output + added
            return output

        with nn.intercept_methods(add):
            return model.apply(variables, images)[0, target], maps

    _, maps = jax.eval_shape(logit_and_maps, 0.0)
    # The gradient in what is added to the maps is the gradient in the maps.
    gradient, maps = jax.grad(logit_and_maps, has_aux=True)(jnp.zeros(maps.shape, maps.dtype))
    return jax.nn.relu(maps[0] @ gradient[0].mean((0, 1)))


def _in_batches(
    call: Callable[[Float[np.ndarray, "batch height width channel"]], Array],
    images: Float[np.ndarray, "image height width channel"],
) -> Array:
    """``call`` of all the images; all batches have one size, so that one program does."""
    # A loop here, as XLA's convolutions are several times slower within its own on a CPU.
    whole = np.resize(images, (len(images) + -len(images) % BATCH_SIZE, *images.shape[1:]))
    parts = [call(whole[i : i + BATCH_SIZE]) for i in range(0, len(whole), BATCH_SIZE)]
    return jnp.concatenate(parts)[: len(images)]
