"""Flax networks in the shapes of public ones, each over any function of the signature of XLA's convolution.

What a user of Flax would plug `fidle_jax.kernels.conv_general_dilated` into. Their convolutions are
`flax.linen.Conv` and `flax.nnx.Conv` as they come; nothing else in them is of this project.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key, PyTree


class MnistCnn(nn.Module):
    """Flax's MNIST example (examples/mnist, its linen edition)."""

    conv: Callable = nn.Conv

    @nn.compact
    def __call__(self, x):
        for features in (32, 64):
            x = nn.relu(self.conv(features, (3, 3))(x))
            x = nn.avg_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Dense(256)(x.reshape(x.shape[0], -1)))
        return nn.Dense(10)(x)


class NnxMnistCnn(nnx.Module):
    """Flax's MNIST example, its nnx edition, without its dropout and batch norm."""

    def __init__(self, image: Sequence[int], rngs: nnx.Rngs, conv: Callable = nnx.Conv):
        height, width, channels = image
        self.conv1 = conv(channels, 32, (3, 3), rngs=rngs)
        self.conv2 = conv(32, 64, (3, 3), rngs=rngs)
        self.linear1 = nnx.Linear(height // 4 * (width // 4) * 64, 256, rngs=rngs)
        self.linear2 = nnx.Linear(256, 10, rngs=rngs)

    def __call__(self, x):
        for conv in (self.conv1, self.conv2):
            x = nnx.avg_pool(nnx.relu(conv(x)), (2, 2), (2, 2))
        return self.linear2(nnx.relu(self.linear1(x.reshape(x.shape[0], -1))))


class ResNetBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut (Flax's examples/imagenet)."""

    features: int
    strides: tuple[int, int]
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x):
        y = nn.relu(self.norm()(self.conv(self.features, (3, 3), self.strides)(x)))
        y = self.norm()(self.conv(self.features, (3, 3))(y))
        if x.shape != y.shape:
            x = self.norm()(self.conv(self.features, (1, 1), self.strides)(x))
        return nn.relu(x + y)


class ResNet(nn.Module):
    """A residual network for images of 32x32 (He et al., 2015): a 3x3 stem, stages of basic blocks."""

    stage_sizes: Sequence[int] = (2, 2, 2)
    features: int = 16
    conv: Callable = nn.Conv

    @nn.compact
    def __call__(self, x):
        conv = functools.partial(self.conv, use_bias=False)
        norm = functools.partial(nn.BatchNorm, use_running_average=False)
        x = nn.relu(norm()(conv(self.features, (3, 3))(x)))
        for stage, blocks in enumerate(self.stage_sizes):
            for block in range(blocks):
                strides = (2, 2) if stage > 0 and block == 0 else (1, 1)
                x = ResNetBlock(self.features * 2**stage, strides, conv, norm)(x)
        return nn.Dense(10)(x.mean(axis=(1, 2)))


class MobileNet(nn.Module):
    """Depthwise-separable blocks of (features, strides) (MobileNet, Howard et al., 2017), cut short."""

    blocks: Sequence[tuple[int, int]] = ((64, 1), (128, 2), (128, 1), (256, 2))
    conv: Callable = nn.Conv

    @nn.compact
    def __call__(self, x):
        conv = functools.partial(self.conv, use_bias=False)
        norm = functools.partial(nn.BatchNorm, use_running_average=False)
        x = nn.relu(norm()(conv(32, (3, 3))(x)))
        for features, strides in self.blocks:
            channels = x.shape[-1]
            depthwise = conv(channels, (3, 3), (strides, strides), feature_group_count=channels)
            x = nn.relu(norm()(depthwise(x)))
            x = nn.relu(norm()(conv(features, (1, 1))(x)))
        return nn.Dense(10)(x.mean(axis=(1, 2)))


class WaveNet(nn.Module):
    """Residual layers of causal, ever more dilated 1-D convolutions (van den Oord et al., 2016)."""

    dilations: Sequence[int] = (1, 2, 4, 8)
    features: int = 32
    conv: Callable = nn.Conv

    @nn.compact
    def __call__(self, x):
        x = self.conv(self.features, (7,), (2,))(x)
        for dilation in self.dilations:
            conv = functools.partial(self.conv, self.features, (3,), padding="CAUSAL")
            y = nn.tanh(conv(kernel_dilation=(dilation,))(x))
            x = x + self.conv(self.features, (1,))(y)
        return nn.Dense(10)(nn.relu(x).mean(axis=1))


class VoxNet(nn.Module):
    """3-D convolutions over occupied voxels (VoxNet, Maturana and Scherer, 2015)."""

    features: int = 32
    conv: Callable = nn.Conv

    @nn.compact
    def __call__(self, x):
        x = nn.leaky_relu(self.conv(self.features, (5, 5, 5), (2, 2, 2), padding="VALID")(x), 0.1)
        x = nn.leaky_relu(self.conv(self.features, (3, 3, 3), padding="VALID")(x), 0.1)
        x = nn.max_pool(x, (2, 2, 2), (2, 2, 2))
        x = nn.relu(nn.Dense(128)(x.reshape(x.shape[0], -1)))
        return nn.Dense(10)(x)


@dataclasses.dataclass(frozen=True)
class Network:
    """A network as pure functions.

    Attributes:
        init: from a key to parameters.
        logits: from parameters and images to ten numbers an image; in training mode.
    """

    init: Callable[[Key[Array, ""]], PyTree]
    logits: Callable[[PyTree, Float[Array, "batch *spatial channel"]], Float[Array, "batch 10"]]

    def loss(
        self,
        parameters: PyTree,
        x: Float[Array, "batch *spatial channel"],
        labels: Int[Array, " batch"],
    ) -> Float[Array, ""]:
        """The mean cross-entropy."""
        log_probabilities = jax.nn.log_softmax(self.logits(parameters, x))
        return -jnp.take_along_axis(log_probabilities, labels[:, None], axis=1).mean()


@dataclasses.dataclass(frozen=True)
class Problem:
    """What a network is trained on.

    Attributes:
        network: made of a function that convolves.
        image: sizes of the spatial axes and number of channels.
        batch: examples a step.
    """

    network: Callable[[Callable], Network]
    image: tuple[int, ...]
    batch: int


def linen_problem(module: Callable[..., nn.Module], image: tuple[int, ...], batch: int) -> Problem:
    """Of a linen module, called with its convolution layer as ``conv``."""

    def network(conv_general_dilated):
        layer = functools.partial(nn.Conv, conv_general_dilated=conv_general_dilated)
        made = module(conv=layer)

        def init(key):
            return made.init(key, jnp.zeros((1, *image)))["params"]

        def logits(parameters, x):
            return made.apply({"params": parameters}, x, mutable=["batch_stats"])[0]

        return Network(init, logits)

    return Problem(network, image, batch)


def nnx_problem(module: Callable[..., nnx.Module], image: tuple[int, ...], batch: int) -> Problem:
    """Of an nnx module, called with the image's sizes, ``rngs`` and ``conv``."""

    def network(conv_general_dilated):
        layer = functools.partial(nnx.Conv, conv_general_dilated=conv_general_dilated)

        def init(key):
            return nnx.state(module(image, rngs=nnx.Rngs(key), conv=layer), nnx.Param)

        def logits(parameters, x):
            made = module(image, rngs=nnx.Rngs(0), conv=layer)
            nnx.update(made, parameters)
            return made(x)

        return Network(init, logits)

    return Problem(network, image, batch)


PROBLEMS = {
    "mnist_cnn": linen_problem(MnistCnn, (28, 28, 1), 128),
    "mnist_cnn_nnx": nnx_problem(NnxMnistCnn, (28, 28, 1), 128),
    "resnet": linen_problem(ResNet, (32, 32, 3), 64),
    "mobilenet": linen_problem(MobileNet, (32, 32, 3), 64),
    "wavenet_1d": linen_problem(WaveNet, (1024, 1), 32),
    "voxnet_3d": linen_problem(VoxNet, (32, 32, 32, 1), 8),
}
