"""Time Flax networks in public shapes with XLA's convolutions and with `kernels.conv_general_dilated`.

The networks use `flax.linen.Conv` and `flax.nnx.Conv` as they are, so any function with the signature
of `jax.lax.conv_general_dilated` can be plugged in.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from timing import check_positive, machine, run, save, time_functions

from fidle_jax import kernels
from fidle_jax.train.run_dir import default_run_dir

CONVOLUTIONS = {"xla": jax.lax.conv_general_dilated, "drop_in": kernels.conv_general_dilated}


def mnist_cnn(conv, x):
    """Flax's MNIST example (examples/mnist)."""
    for features in (32, 64):
        x = nn.avg_pool(nn.relu(conv(features, (3, 3))(x)), (2, 2), (2, 2))
    return nn.Dense(10)(nn.relu(nn.Dense(256)(x.reshape(len(x), -1))))


class NnxMnistCnn(nnx.Module):
    """Flax's MNIST example with nnx, without its dropout and batch norm."""

    def __init__(self, image: tuple[int, ...], conv: Callable, rngs: nnx.Rngs):
        height, width, channels = image
        self.conv1 = conv(channels, 32, (3, 3), rngs=rngs)
        self.conv2 = conv(32, 64, (3, 3), rngs=rngs)
        self.linear1 = nnx.Linear(height // 4 * (width // 4) * 64, 256, rngs=rngs)
        self.linear2 = nnx.Linear(256, 10, rngs=rngs)

    def __call__(self, x):
        for conv in (self.conv1, self.conv2):
            x = nnx.avg_pool(nnx.relu(conv(x)), (2, 2), (2, 2))
        return self.linear2(nnx.relu(self.linear1(x.reshape(len(x), -1))))


def resnet(conv, x, stages=(2, 2, 2), features=16):
    """A residual network for images of 32x32 (He et al., 2015), as in Flax's examples/imagenet."""
    conv = functools.partial(conv, use_bias=False)
    x = nn.relu(_norm(conv(features, (3, 3))(x)))
    for stage, blocks in enumerate(stages):
        for block in range(blocks):
            width, strides = features * 2**stage, 2 if stage > 0 and block == 0 else 1
            y = nn.relu(_norm(conv(width, (3, 3), strides)(x)))
            y = _norm(conv(width, (3, 3))(y))
            if x.shape != y.shape:
                x = _norm(conv(width, (1, 1), strides)(x))
            x = nn.relu(x + y)
    return nn.Dense(10)(x.mean(axis=(1, 2)))


def mobilenet(conv, x, blocks=((64, 1), (128, 2), (128, 1), (256, 2))):
    """Depthwise-separable blocks of (features, strides) (MobileNet, Howard et al., 2017), shortened."""
    conv = functools.partial(conv, use_bias=False)
    x = nn.relu(_norm(conv(32, (3, 3))(x)))
    for features, strides in blocks:
        channels = x.shape[-1]
        x = nn.relu(_norm(conv(channels, (3, 3), strides, feature_group_count=channels)(x)))
        x = nn.relu(_norm(conv(features, (1, 1))(x)))
    return nn.Dense(10)(x.mean(axis=(1, 2)))


def _norm(x):
    return nn.BatchNorm(use_running_average=False)(x)


def wavenet(conv, x, dilations=(1, 2, 4, 8), features=32):
    """Residual layers of dilated causal 1-D convolutions (WaveNet, van den Oord et al., 2016)."""
    x = conv(features, (7,), 2)(x)
    for dilation in dilations:
        y = nn.tanh(conv(features, (3,), padding="CAUSAL", kernel_dilation=dilation)(x))
        x = x + conv(features, (1,))(y)
    return nn.Dense(10)(nn.relu(x).mean(axis=1))


def voxnet(conv, x, features=32):
    """3-D convolutions over occupied voxels (VoxNet, Maturana and Scherer, 2015)."""
    x = nn.leaky_relu(conv(features, (5, 5, 5), 2, padding="VALID")(x), 0.1)
    x = nn.leaky_relu(conv(features, (3, 3, 3), padding="VALID")(x), 0.1)
    x = nn.max_pool(x, (2, 2, 2), (2, 2, 2))
    return nn.Dense(10)(nn.relu(nn.Dense(128)(x.reshape(len(x), -1))))


class LinenNetwork(nn.Module):
    """One of the functions above as a linen module."""

    function: Callable
    conv: Callable

    @nn.compact
    def __call__(self, x):
        return self.function(self.conv, x)


@dataclasses.dataclass(frozen=True)
class Problem:
    """A network, the shape of its images, and its batch size."""

    network: Callable
    image: tuple[int, ...]
    batch: int

    def build(self, conv_general_dilated: Callable) -> tuple[Callable, Callable]:
        """Return the functions key -> parameters and (parameters, images) -> logits, in training mode."""
        kind = nnx if self.network is NnxMnistCnn else nn
        conv = functools.partial(kind.Conv, conv_general_dilated=conv_general_dilated)
        if kind is nnx:
            structure = nnx.graphdef(self.network(self.image, conv, nnx.Rngs(0)))
            return (
                lambda key: nnx.state(self.network(self.image, conv, nnx.Rngs(key)), nnx.Param),
                lambda parameters, x: nnx.merge(structure, parameters)(x),
            )
        module = LinenNetwork(self.network, conv)
        return (
            lambda key: module.init(key, jnp.zeros((1, *self.image)))["params"],
            lambda params, x: module.apply({"params": params}, x, mutable="batch_stats")[0],
        )


def compute_loss(logits: Callable, parameters, x, labels):
    """Return the mean cross-entropy of the network's logits."""
    log_probabilities = jax.nn.log_softmax(logits(parameters, x))
    return -jnp.take_along_axis(log_probabilities, labels[:, None], axis=1).mean()


PROBLEMS = {
    "mnist_cnn": Problem(mnist_cnn, (28, 28, 1), 128),
    "mnist_cnn_nnx": Problem(NnxMnistCnn, (28, 28, 1), 128),
    "resnet": Problem(resnet, (32, 32, 3), 64),
    "mobilenet": Problem(mobilenet, (32, 32, 3), 64),
    "wavenet_1d": Problem(wavenet, (1024, 1), 32),
    "voxnet_3d": Problem(voxnet, (32, 32, 32, 1), 8),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the benchmark."""

    only: tuple[Literal[tuple(PROBLEMS)], ...] = tuple(PROBLEMS)
    """Names of the networks."""
    rounds: int = 15
    """Maximum number of turns of each convolution."""
    seconds: float = 6.0
    """Approximate limit for all turns on one network. Three rounds are always measured."""
    loop: bool = False
    """Time the steps in one compiled loop, instead of one by one."""
    output: Path | None = None
    """JSON file of the measurements (default: runs/bench_flax_models/<UTC time>/flax_models.json)."""


def main(config: Config) -> None:
    """Measure loss and gradients of each network, print a line for each, and write the numbers."""
    check_positive(config, "rounds", "seconds")
    calls = "in a compiled loop" if config.loop else "call by call"
    where = f"{machine(jax.devices()[0].device_kind)}, {calls}"
    print(f"{where}; loss and gradients of a batch, medians in ms")
    print(f"{'network':15} {'batch':>5} {'xla':>9} {'drop-in':>9} {'speedup':>8}", flush=True)
    results = [measure(name, config) for name in config.only]
    output = config.output or default_run_dir("bench_flax_models") / "flax_models.json"
    save(output, {"machine": where, "results": results})


def measure(name: str, config: Config) -> dict[str, Any]:
    """Time loss and gradients of a network with each convolution, on the same data."""
    problem = PROBLEMS[name]
    x_key, label_key, init_key = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(x_key, (problem.batch, *problem.image))
    labels = jax.random.randint(label_key, (problem.batch,), 0, 10)
    parameters = jax.jit(problem.build(jax.lax.conv_general_dilated)[0])(init_key)
    arrays, structure = jax.tree.flatten((parameters, x, labels))

    def step(conv, *arrays):
        loss = functools.partial(compute_loss, problem.build(conv)[1])
        return jax.value_and_grad(loss)(*structure.unflatten(arrays))

    steps = {label: functools.partial(step, conv) for label, conv in CONVOLUTIONS.items()}
    result = time_functions(steps, tuple(arrays), config.rounds, config.seconds, config.loop)
    xla, drop_in = (result[label]["milliseconds"] for label in CONVOLUTIONS)
    print(f"{name:15} {problem.batch:5} {xla:9.2f} {drop_in:9.2f} {xla / drop_in:8.2f}", flush=True)
    about = {"name": name, "image": problem.image, "batch": problem.batch}
    return {**about, **result, "speedup": xla / drop_in}


if __name__ == "__main__":
    run(main, Config(), __doc__)
