"""The layers of the course's networks as Flax modules over `fidle_jax.kernels`."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float, Int, Key

from fidle_jax import kernels

TRUNCATED_DEVIATION = 0.87962566103423978  # of a normal variable between -2 and 2
CONTRAST_WINDOW, CONTRAST_EPSILON = 9, 0.03  # also used by the ONNX export


def glorot_uniform(
    rng: Key[Array, ""], shape: Sequence[int], dtype: jax.typing.DTypeLike = jnp.float32
) -> Float[Array, "*shape"]:
    """Return `flax.linen.initializers.glorot_uniform` up to rounding, the default of Keras.

    The numbers are drawn along one axis, which compiles in a tenth of the time.
    """
    scale = math.sqrt(6 / (math.prod(shape[:-2]) * (shape[-2] + shape[-1])))
    return scale * jax.random.uniform(rng, (math.prod(shape),), dtype, -1).reshape(shape)


def he_normal(
    rng: Key[Array, ""], shape: Sequence[int], dtype: jax.typing.DTypeLike = jnp.float32
) -> Float[Array, "*shape"]:
    """Return `flax.linen.initializers.he_normal` up to rounding, drawn as in `glorot_uniform`."""
    scale = math.sqrt(2 / math.prod(shape[:-1])) / TRUNCATED_DEVIATION
    return scale * jax.random.truncated_normal(rng, -2, 2, (math.prod(shape),), dtype).reshape(
        shape
    )


class Conv(nn.Module):
    """Convolution with stride 1, bias and ReLU."""

    features: int  # number of output channels
    kernel_size: tuple[int, int] = (3, 3)  # height and width
    padding: str | Sequence[tuple[int, int]] = "valid"  # see `jax.lax.conv_general_dilated`
    plain: bool = False  # omit the bias and ReLU, for a layer that is followed by a normalization
    kernel_init: Callable = glorot_uniform

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"]
    ) -> Float[Array, "batch out_height out_width feature"]:
        """Return the activations."""
        kernel_shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, kernel_shape)
        x, kernel = promote_dtype(x, kernel, dtype=None)
        numbers = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), self.padding, dimension_numbers=numbers)
        if self.plain:
            return y
        return jax.nn.relu(y + self.param("bias", nn.initializers.zeros, (self.features,)))


class MaxPool(nn.Module):
    """Max pooling with stride ``window``. Incomplete windows at the edges are dropped."""

    window: int = 2

    def __call__(
        self, x: Float[Array, "batch height width channel"]
    ) -> Float[Array, "batch out_height out_width channel"]:
        """Return the maximum of each window. Raise ValueError if the image has none."""
        if min(x.shape[1:-1]) < self.window:
            raise ValueError(
                f"an image of {x.shape[1]}x{x.shape[2]} is too small for max pooling; expected at least "
                f"{self.window} pixels on each side; use larger images or fewer poolings"
            )
        return nn.max_pool(x, (self.window, self.window), (self.window, self.window))


class Dropout(nn.Module):
    """Dropout. The mask depends only on the rng "dropout", the layer, and the position in the batch."""

    rate: float

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch ..."],
        *,
        train: bool,
        example_index: Int[Array, " batch"] | None = None,
    ) -> Float[Array, "batch ..."]:
        """Return ``x``, or in training set values to zero with probability ``rate``."""
        if not train or self.rate == 0:
            return x
        if example_index is None:
            example_index = jnp.arange(x.shape[0])
        return kernels.dropout(x, self.rate, self.make_rng("dropout"), example_index)


class BatchNorm(nn.Module):
    """Batch normalization (Ioffe and Szegedy, 2015) with exact statistics of a sharded, padded batch.

    Flax's own layer averages the means of the devices, which is wrong if some devices have fewer examples.
    Example indices below 0 mark padding.
    """

    axis_name: str | None = None  # name of the pmap axis that shards the batch
    momentum: float = 0.99  # share of the running statistics that remains after a step
    epsilon: float = 1e-5  # added to the variance

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *spatial channel"],
        *,
        train: bool,
        example_index: Int[Array, " batch"] | None = None,
    ) -> Float[Array, "batch *spatial channel"]:
        """Normalize each channel, then apply a learned scale and bias."""
        shape = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        running = [
            self.variable("batch_stats", "mean", jnp.zeros, shape),
            self.variable("batch_stats", "var", jnp.ones, shape),
        ]
        if train:
            examples, mean, variance = self._statistics(x, example_index)
            kept = jnp.where(examples > 0, self.momentum, 1)
        else:
            mean, variance = (each.value for each in running)
        if train and not self.is_initializing():
            for each, now in zip(running, (mean, variance), strict=True):
                each.value = (kept * each.value + (1 - kept) * now).astype(each.value.dtype)
        factor = scale * jax.lax.rsqrt(variance + self.epsilon).astype(x.dtype)
        return (x - mean.astype(x.dtype)) * factor + bias

    def _statistics(self, x, example_index):
        counts = jnp.ones(x.shape[0]) if example_index is None else example_index >= 0
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        counts = counts.astype(wide.dtype).reshape(-1, *[1] * (x.ndim - 1))
        axes = tuple(range(x.ndim - 1))
        examples = self._sum(counts.sum())
        values = jnp.maximum(examples, 1) * math.prod(x.shape[1:-1])
        mean = self._sum((wide * counts).sum(axes)) / values
        return examples, mean, self._sum((jnp.square(wide - mean) * counts).sum(axes)) / values

    def _sum(self, sums):
        if self.axis_name is None or self.is_initializing():
            return sums
        return jax.lax.psum(sums, self.axis_name)


class Flatten(nn.Module):
    """Reshape to one row per example."""

    def __call__(self, x: Float[Array, "batch ..."]) -> Float[Array, "batch feature"]:
        """Return the reshaped values."""
        return x.reshape(x.shape[0], math.prod(x.shape[1:]))


class Dense(nn.Module):
    """Fully connected layer with bias and an optional activation."""

    features: int
    activation: Callable[[Array], Array] | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch channel"]) -> Float[Array, "batch feature"]:
        """Return the activations."""
        kernel = self.param("kernel", glorot_uniform, (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x = x @ kernel + bias
        return x if self.activation is None else self.activation(x)


def normalize_contrast(
    x: Float[Array, "batch height width channel"],
    window: int = CONTRAST_WINDOW,
    epsilon: float = CONTRAST_EPSILON,
) -> Float[Array, "batch height width channel"]:
    """Subtract the local mean and divide by the local standard deviation, both over all channels.

    Args:
        x: Images.
        window: Side of the square window in pixels, odd.
        epsilon: Standard deviation of noise, which is not amplified to 1.

    References:
        Jarrett et al., "What is the best multi-stage architecture for object recognition?" (2009), who use a
        Gaussian window. Sermanet and LeCun (2011) apply it to traffic signs.
    """
    centred = x - _local_mean(x, window)
    variance = _local_mean(jnp.square(centred), window)
    return centred / jnp.sqrt(variance + epsilon**2)


def _local_mean(x, window) -> Float[Array, "batch height width 1"]:
    # A banded matrix per axis takes a tenth of the time of XLA's window sums on a CPU.
    averages = []
    for size in x.shape[1:3]:
        index = np.arange(size)
        near = np.abs(index[:, None] - index) <= window // 2
        averages.append(jnp.asarray(near / near.sum(axis=1, keepdims=True), x.dtype))
    return jnp.einsum("yi,nij,xj->nyx", averages[0], x.mean(-1), averages[1])[..., None]
