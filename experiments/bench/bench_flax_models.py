"""Time Flax networks in public shapes with XLA's convolutions and with `kernels.conv_general_dilated`.

The networks use `flax.linen.Conv` as it is, so any function with the signature of
`jax.lax.conv_general_dilated` can be plugged in.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import optax
from timing import check_positive, machine, run, save, time_functions

from fidle_jax import kernels
from fidle_jax.train.run_dir import default_run_dir

CONVOLUTIONS = {"xla": jax.lax.conv_general_dilated, "drop_in": kernels.conv_general_dilated}


def mnist_cnn(conv, x):
    """Flax's MNIST example (examples/mnist)."""
    for features in (32, 64):
        x = nn.avg_pool(nn.relu(conv(features, (3, 3))(x)), (2, 2), (2, 2))
    return nn.Dense(10)(nn.relu(nn.Dense(256)(x.reshape(len(x), -1))))


def resnet(conv, x, stages, block=((3, 1), (3, 1)), stem=3):
    """A residual network of stages of (blocks, channels) (He et al., 2015).

    A block consists of convolutions of (window, share of the channels). A stem of 3x3 is for small
    images; one of 7x7 has strides and is followed by max pooling.
    """
    conv = functools.partial(conv, use_bias=False)
    x = nn.relu(_norm(conv(stages[0][1], (stem, stem), 1 if stem == 3 else 2)(x)))
    x = x if stem == 3 else nn.max_pool(x, (3, 3), (2, 2), "SAME")
    for stage, (blocks, channels) in enumerate(stages):
        for number in range(blocks):
            y, strides = x, 2 if stage > 0 and number == 0 else 1
            for index, (k, share) in enumerate(block):
                is_first = k == 3 and (3, 1) not in block[:index]
                y = _norm(conv(share * channels, (k, k), strides if is_first else 1)(y))
                y = nn.relu(y) if index < len(block) - 1 else y
            if x.shape != y.shape:
                x = _norm(conv(y.shape[-1], (1, 1), strides)(x))
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


class Network(nn.Module):
    """One of the functions above as a module, in training mode, with a convolution."""

    function: Callable
    conv_general_dilated: Callable

    @nn.compact
    def __call__(self, x):
        """Return the logits."""
        conv = functools.partial(nn.Conv, conv_general_dilated=self.conv_general_dilated)
        return self.function(conv, x)

    def logits(self, parameters, x):
        """Return the logits, given the parameters."""
        return self.apply({"params": parameters}, x, mutable="batch_stats")[0]

    def loss(self, parameters, x, labels):
        """Return the mean cross-entropy."""
        logits = self.logits(parameters, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


# Function, shape of the images, batch size.
PROBLEMS = {
    "mnist_cnn": (mnist_cnn, (28, 28, 1), 128),
    "resnet": (functools.partial(resnet, stages=((2, 16), (2, 32), (2, 64))), (32, 32, 3), 64),
    "mobilenet": (mobilenet, (32, 32, 3), 64),
    "wavenet_1d": (wavenet, (1024, 1), 32),
    "voxnet_3d": (voxnet, (32, 32, 32, 1), 8),
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
    """Time the loss and gradients of each network, print one line per network, and write a JSON file."""
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
    function, image, batch = PROBLEMS[name]
    x_key, label_key, init_key = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(x_key, (batch, *image))
    labels = jax.random.randint(label_key, (batch,), 0, 10)
    init = Network(function, jax.lax.conv_general_dilated).init
    arrays, structure = jax.tree.flatten((jax.jit(init)(init_key, x[:1])["params"], x, labels))

    def step(conv, *arrays):
        return jax.value_and_grad(Network(function, conv).loss)(*structure.unflatten(arrays))

    steps = {label: functools.partial(step, conv) for label, conv in CONVOLUTIONS.items()}
    result = time_functions(steps, tuple(arrays), config.rounds, config.seconds, config.loop)
    xla, drop_in = (result[label]["milliseconds"] for label in CONVOLUTIONS)
    print(f"{name:15} {batch:5} {xla:9.2f} {drop_in:9.2f} {xla / drop_in:8.2f}", flush=True)
    return {"name": name, "image": image, "batch": batch, **result, "speedup": xla / drop_in}


if __name__ == "__main__":
    run(main, Config(), __doc__)
