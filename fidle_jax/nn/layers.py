"""The layers of the course's networks as Flax modules over `fidle_jax.kernels`."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from fidle_jax import kernels

# Keras's default, with which the course's figures were had.
kernel_init = nn.initializers.glorot_uniform()


class Conv(nn.Module):
    """Convolution with stride 1, with bias and ReLU or plain; with ``pool``, max pooling too, in one kernel.

    Attributes:
        features: number of kernels.
        kernel_size: their sides.
        padding: as `kernels.conv` takes it.
        plain: without bias and ReLU, as a normalization that follows wants it.
        kernel_init: of the kernel.
        method: how it is computed: of `kernels.conv`, or with ``pool`` of `kernels.conv_pool`.
    """

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    padding: str | Sequence[tuple[int, int]] = "valid"
    plain: bool = False
    kernel_init: Callable = kernel_init
    method: str = "auto"

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], pool: int | None = None
    ) -> Float[Array, "batch out_height out_width feature"]:
        """The activations; pooled over tiles of side ``pool`` where it is given."""
        kernel_shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, kernel_shape)
        how: dict[str, Any] = {"padding": self.padding, "method": self.method}
        if self.plain:
            if pool is None:
                return kernels.conv(x, kernel, **how)
            return kernels.conv_pool(x, kernel, window=pool, activation=None, **how)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        if pool is None:
            return jax.nn.relu(kernels.conv(x, kernel, **how) + bias)
        return kernels.conv_pool(x, kernel, bias, window=pool, **how)


class MaxPool(nn.Module):
    """Max pooling over tiles; what is left over at the lower and right edges is dropped."""

    window: int = 2

    def __call__(
        self, x: Float[Array, "batch height width channel"]
    ) -> Float[Array, "batch out_height out_width channel"]:
        """The largest value of each tile."""
        return kernels.max_pool(x, self.window)


class Dropout(nn.Module):
    """Dropout whose mask depends on (the rng "dropout", the layer, the example's index) alone."""

    rate: float

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch ..."],
        *,
        train: bool,
        example_index: Int[Array, " batch"] | None = None,
    ) -> Float[Array, "batch ..."]:
        """The values as they are, or in training each zeroed with probability ``rate``."""
        if not train or self.rate == 0:
            return x
        if example_index is None:
            example_index = jnp.arange(x.shape[0])
        return kernels.dropout(x, self.rate, self.make_rng("dropout"), example_index)


class BatchNorm(nn.Module):
    """Batch normalization (Ioffe and Szegedy, 2015) by the whole batch's statistics, however it is spread.

    Flax's own takes each device's mean and averages those, which is wrong where some have fewer
    examples, and NaN where one has none. Indices below 0 mark what fills a batch up.

    Attributes:
        axis_name: of the mapped axis that batches are spread over, if there is one.
        momentum: share of the running statistics that a step leaves as it is.
        epsilon: added to the variance.
    """

    axis_name: str | None = None
    momentum: float = 0.99
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *spatial channel"],
        *,
        train: bool,
        example_index: Int[Array, " batch"] | None = None,
    ) -> Float[Array, "batch *spatial channel"]:
        """Each channel to mean 0 and variance 1, then scaled and shifted by learned amounts."""
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
    """All axes but the first made one."""

    def __call__(self, x: Float[Array, "batch ..."]) -> Float[Array, "batch feature"]:
        """The same values, one row an example."""
        return x.reshape(x.shape[0], math.prod(x.shape[1:]))


class Dense(nn.Module):
    """Fully connected layer with bias and an optional activation."""

    features: int
    activation: Callable[[Array], Array] | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch channel"]) -> Float[Array, "batch feature"]:
        """The activations."""
        kernel = self.param("kernel", kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x = x @ kernel + bias
        return x if self.activation is None else self.activation(x)
