"""Attribution methods: gradients, integrated gradients, Grad-CAM and occlusion.

Images have values from 0 to 1. Networks are Flax modules that return logits. The output for an image must
not depend on the other images of its batch.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, UInt8

from fidle_jax.data.augment import scale
from fidle_jax.inference.load import Run, compute_logits, map_batches
from fidle_jax.nn.intermediates import (
    compute_intermediates,
    last_feature_maps,
    resize_map,
)

BATCH_SIZE = 64
STEPS = 2 * BATCH_SIZE  # number of steps of integrated gradients
GREY = 0.5
MAX_POSITIONS = 32  # maximum number of positions of the occluding square along each axis

Images = Float[Array | np.ndarray, "batch height width channel"]
Pixels = Float[np.ndarray, "height width channel"]
Variables = dict[str, Any]
Index = int | Int[Array, ""]  # an array in compiled functions


class Example(NamedTuple):
    """An input of the network, its name, and its true class if it is known."""

    name: str
    pixels: UInt8[np.ndarray, "height width channel"]
    truth: int | None = None


class Explanation(NamedTuple):
    """Logits of an example, and attribution maps for the logit of the target class."""

    example: Example
    logits: Float[np.ndarray, " class"]
    target: int  # index of the explained class
    baseline: Float[np.ndarray, " channel"]  # colour of the baseline and of the occluding square
    gradient: Pixels
    integrated: Pixels  # integrated gradients
    difference: float  # logit of the image minus logit of the baseline
    layer: str | None  # used by Grad-CAM; None without convolutions
    cam: Float[np.ndarray, "height width"] | None
    side: int  # side length of the occluding square in pixels
    occluded: Float[np.ndarray, "row column class"]  # logits for each position of the square
    maps: dict[str, np.ndarray]  # the input and the output of each layer


def explain(trained: Run, example: Example, target: int | None = None) -> Explanation:
    """Apply all methods to the class ``target`` (default: the predicted class)."""
    model, variables = trained.model, trained.variables
    x = np.asarray(scale(example.pixels))
    maps = compute_intermediates(model, variables, x).maps
    logits = np.asarray(compute_logits(model, variables, x[None]))[0]
    target = int(logits.argmax()) if target is None else target
    baseline = border_colour(x)
    size = min(x.shape[:2])
    side, stride = size // 4 | 1, -(-size // MAX_POSITIONS)
    layer = cam = None
    if found := last_feature_maps(model, x.shape):
        layer, grid = found
        cam = np.asarray(resize_map(grad_cam(model, variables, x, target, layer), grid, x.shape))
    integrated, difference = integrated_gradients(model, variables, x, target, baseline)
    return Explanation(
        example=example,
        logits=logits,
        target=target,
        baseline=baseline,
        gradient=np.asarray(saliency(model, variables, x[None], target))[0],
        integrated=integrated,
        difference=difference,
        layer=layer,
        cam=cam,
        side=side,
        occluded=occlusion(model, variables, x, baseline, side, stride),
        maps=maps,
    )


def border_colour(image: Pixels) -> Float[np.ndarray, " channel"]:
    """Return the majority colour of the border pixels. If no colour has a majority, return mid-grey."""
    border = np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])
    colours, counts = np.unique(border, axis=0, return_counts=True)
    if 2 * counts.max() > len(border):
        return colours[counts.argmax()]
    return np.full(image.shape[-1:], GREY, image.dtype)


@functools.partial(jax.jit, static_argnums=0)
def saliency(model: nn.Module, variables: Variables, images: Images, target: Index) -> Images:
    """Return the gradient of the logit of class ``target`` with respect to each image.

    References:
        Simonyan, Vedaldi and Zisserman, "Deep inside convolutional networks" (2014).
    """
    return jax.grad(lambda x: compute_logits(model, variables, x)[:, target].sum())(images)


def integrated_gradients(
    model: nn.Module,
    variables: Variables,
    image: Pixels,
    target: int,
    baseline: Float[np.ndarray, " channel"],
    steps: int = STEPS,
) -> tuple[Pixels, float]:
    """Compute integrated gradients along the straight path from a uniform baseline to ``image``.

    Returns:
        The attribution of each value, and the logit of the image minus the logit of the baseline. The
        sum of the attributions converges to this difference as ``steps`` increases.

    References:
        Sundararajan, Taly and Yan, "Axiomatic attribution for deep networks" (2017).
    """
    first = np.broadcast_to(baseline, image.shape)
    # With contrast normalisation, the output changes most near the baseline, which has no contrast. Use
    # smaller steps there: substitute t = s³ and apply the midpoint rule.
    s = ((np.arange(steps) + 0.5) / steps).astype(image.dtype)
    images = first + (s**3)[:, None, None, None] * (image - first)
    gradients = map_batches(lambda x: saliency(model, variables, x, target), images, BATCH_SIZE)
    mean = np.einsum("i,i...->...", 3 * s**2 / steps, gradients)
    start, end = compute_logits(model, variables, np.stack([first, image]))[:, target]
    return (image - first) * mean, float(end - start)


@functools.partial(jax.jit, static_argnums=(0, 4))
def grad_cam(
    model: nn.Module,
    variables: Variables,
    image: Float[Array | np.ndarray, "height width channel"],
    target: Index,
    layer: str,
) -> Float[Array, "row column"]:
    """Compute Grad-CAM: weight the feature maps by their mean gradients, sum them, and apply ReLU.

    ``layer`` is a name of the layer table.

    References:
        Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based
        localization" (2017).
    """

    def logit_and_maps(added):
        maps = None

        def add(call, args, kwargs, context):
            nonlocal maps
            output = call(*args, **kwargs)
            if context.method_name == "__call__" and "/".join(context.module.path) == layer:
                maps, output = output, output + added
            return output

        with nn.intercept_methods(add):
            logits = jnp.asarray(model.apply(variables, image[None]))
            return logits[0, target], maps

    _, maps = jax.eval_shape(logit_and_maps, 0.0)
    # Add zeros to the feature maps. The gradient with respect to the zeros equals the gradient with
    # respect to the maps.
    gradient, maps = jax.grad(logit_and_maps, has_aux=True)(jnp.zeros(maps.shape, maps.dtype))
    return jax.nn.relu(maps[0] @ gradient[0].mean((0, 1)))


def occlusion(
    model: nn.Module,
    variables: Variables,
    image: Pixels,
    colour: Float[np.ndarray, " channel"],
    side: int,
    stride: int = 1,
) -> Float[np.ndarray, "row column class"]:
    """Return the logits of the image with one square covered, for each position of the square.

    ``side`` must be odd. The centre of the square moves by ``stride`` pixels. The centre of the first square
    is at pixel (stride - 1) // 2 of each axis.

    References:
        Zeiler and Fergus, "Visualizing and understanding convolutional networks" (2014).
    """
    rows, columns = (
        np.abs(np.arange(size) - np.arange((stride - 1) // 2, size, stride)[:, None]) <= side // 2
        for size in image.shape[:2]
    )
    covered = rows[:, None, :, None] & columns[None, :, None, :]
    images = np.where(covered[..., None], np.asarray(colour, image.dtype), image)
    images = images.reshape(-1, *image.shape)
    logits = map_batches(lambda x: compute_logits(model, variables, x), images, BATCH_SIZE)
    return logits.reshape(len(rows), len(columns), -1)
