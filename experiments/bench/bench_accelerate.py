"""Time programs of several JAX libraries with and without `kernels.accelerate`.

Each computes the gradients of a network, or an operation that was reported as slow. Programs of libraries
that are not installed are left out. The line of Keras is one step of `Model.fit`."""

import dataclasses
import functools
import importlib.util
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax
from timing import check_positive, run, save

from fidle_jax import kernels
from fidle_jax.kernels.acceleration import PROGRAM_SECONDS
from fidle_jax.kernels.turns import machine, time_functions, time_in_turns
from fidle_jax.train.run_dir import default_run_dir

CLASSES = 10
TURN = 0.1  # seconds: several calls, since the other program leaves its data in the caches
CONVOLUTIONS = {"xla": lax.conv_general_dilated, "drop_in": kernels.conv_general_dilated}

# A function and its arguments. The first argument is a pytree of parameters.
Program = tuple[Callable[..., Any], tuple[Any, ...]]


def cross_entropy(logits, labels):
    """Return the mean cross-entropy."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def images(batch, *shape):
    """Return normal random images and labels, always the same."""
    x = jax.random.normal(jax.random.key(0), (batch, *shape))
    return x, jax.random.randint(jax.random.key(1), (batch,), 0, CLASSES)


def gradients(logits: Callable[..., Any], params: Any, x: Any, labels: Any) -> Program:
    """Return the program that computes the loss and its gradients."""

    def loss(params, x, labels):
        return cross_entropy(logits(params, x), labels)

    return jax.value_and_grad(loss), (params, x, labels)


def flax_mnist() -> Program:
    """The course's network for digits in Flax's layers."""
    pool = functools.partial(nn.max_pool, window_shape=(2, 2), strides=(2, 2))
    layers = []
    for features in (8, 16):
        layers += [nn.Conv(features, (3, 3), padding="VALID"), nn.relu, pool]
    layers += [lambda x: x.reshape(len(x), -1), nn.Dense(100), nn.relu, nn.Dense(CLASSES)]
    network, (x, labels) = nn.Sequential(layers), images(512, 28, 28, 1)
    params = jax.jit(network.init)(jax.random.key(0), x[:1])
    return gradients(network.apply, params, x, labels)


def nnx_mnist() -> Program:
    """The same network in Flax's NNX."""
    from flax import nnx

    rngs = nnx.Rngs(0)
    pool = functools.partial(nnx.max_pool, window_shape=(2, 2), strides=(2, 2))
    convs = [nnx.Conv(c, f, (3, 3), padding="VALID", rngs=rngs) for c, f in ((1, 8), (8, 16))]
    network = nnx.Sequential(
        *(convs[0], nnx.relu, pool, convs[1], nnx.relu, pool, lambda x: x.reshape(len(x), -1)),
        *(nnx.Linear(400, 100, rngs=rngs), nnx.relu, nnx.Linear(100, CLASSES, rngs=rngs)),
    )
    definition, params = nnx.split(network)
    x, labels = images(512, 28, 28, 1)
    return gradients(lambda params, x: nnx.merge(definition, params)(x), params, x, labels)


def haiku_mnist() -> Program:
    """The same network in Haiku."""
    import haiku as hk

    def network(x):
        pool = functools.partial(
            hk.max_pool, window_shape=(2, 2, 1), strides=(2, 2, 1), padding="VALID"
        )
        for features in (8, 16):
            x = pool(jax.nn.relu(hk.Conv2D(features, 3, padding="VALID")(x)))
        return hk.Linear(CLASSES)(jax.nn.relu(hk.Linear(100)(hk.Flatten()(x))))

    pure, (x, labels) = hk.without_apply_rng(hk.transform(network)), images(512, 28, 28, 1)
    return gradients(pure.apply, pure.init(jax.random.key(0), x[:1]), x, labels)


def equinox_mnist() -> Program:
    """The same network in Equinox: for one image, with the channels first, under `jax.vmap`."""
    import equinox as eqx

    keys = jax.random.split(jax.random.key(0), 4)
    relu, layers = eqx.nn.Lambda(jax.nn.relu), []
    for key, (channels, features) in zip(keys[:2], ((1, 8), (8, 16)), strict=True):
        layers += [eqx.nn.Conv2d(channels, features, 3, key=key), relu, eqx.nn.MaxPool2d(2, 2)]
    layers += [eqx.nn.Lambda(jnp.ravel), eqx.nn.Linear(400, 100, key=keys[2]), relu]
    network = eqx.nn.Sequential([*layers, eqx.nn.Linear(100, CLASSES, key=keys[3])])
    params, static = eqx.partition(network, eqx.is_array)
    x, labels = images(512, 1, 28, 28)
    return gradients(lambda p, x: jax.vmap(eqx.combine(p, static))(x), params, x, labels)


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
    return nn.Dense(CLASSES)(x.mean(axis=(1, 2)))


def vgg(conv, x, blocks=(64, 128, 256, 512)):
    """Blocks of two 3x3 convolutions and max pooling (VGG, Simonyan and Zisserman, 2014), shortened."""
    for features in blocks:
        x = nn.relu(conv(features, (3, 3))(nn.relu(conv(features, (3, 3))(x))))
        x = nn.max_pool(x, (2, 2), (2, 2))
    return nn.Dense(CLASSES)(nn.relu(nn.Dense(512)(x.reshape(len(x), -1))))


def unet(conv, x, widths=(16, 32, 64, 128)):
    """Contracting and expanding blocks with skip connections (U-Net, Ronneberger et al., 2015)."""

    def double(x, features):
        return nn.relu(conv(features, (3, 3))(nn.relu(conv(features, (3, 3))(x))))

    skips = []
    for features in widths[:-1]:
        skips.append(double(x, features))
        x = nn.max_pool(skips[-1], (2, 2), (2, 2))
    x = double(x, widths[-1])
    for features, skip in zip(widths[-2::-1], skips[::-1], strict=True):
        x = jnp.concatenate([nn.ConvTranspose(features, (2, 2), (2, 2))(x), skip], axis=-1)
        x = double(x, features)
    return conv(CLASSES, (1, 1))(x).mean(axis=(1, 2))


def dcgan(conv, x, features=(256, 128, 64)):
    """A generator of transposed convolutions, then a discriminator (DCGAN, Radford et al., 2015)."""
    x = nn.Dense(4 * 4 * features[0])(x).reshape(len(x), 4, 4, features[0])
    for width in features[1:]:
        x = nn.relu(_norm(nn.ConvTranspose(width, (4, 4), (2, 2))(x)))
    x = nn.tanh(nn.ConvTranspose(3, (4, 4), (2, 2))(x))
    for width in features[::-1]:
        x = nn.leaky_relu(_norm(conv(width, (4, 4), 2)(x)), 0.2)
    return nn.Dense(CLASSES)(x.reshape(len(x), -1))


def mobilenet(conv, x, blocks=((64, 1), (128, 2), (128, 1), (256, 2))):
    """Depthwise-separable blocks of (features, strides) (MobileNet, Howard et al., 2017), shortened."""
    conv = functools.partial(conv, use_bias=False)
    x = nn.relu(_norm(conv(32, (3, 3))(x)))
    for features, strides in blocks:
        channels = x.shape[-1]
        x = nn.relu(_norm(conv(channels, (3, 3), strides, feature_group_count=channels)(x)))
        x = nn.relu(_norm(conv(features, (1, 1))(x)))
    return nn.Dense(CLASSES)(x.mean(axis=(1, 2)))


def _norm(x):
    return nn.BatchNorm(use_running_average=False)(x)


def wavenet(conv, x, dilations=(1, 2, 4, 8), features=32):
    """Residual layers of dilated causal 1-D convolutions (WaveNet, van den Oord et al., 2016)."""
    x = conv(features, (7,), 2)(x)
    for dilation in dilations:
        y = nn.tanh(conv(features, (3,), padding="CAUSAL", kernel_dilation=dilation)(x))
        x = x + conv(features, (1,))(y)
    return nn.Dense(CLASSES)(nn.relu(x).mean(axis=1))


def voxnet(conv, x, features=32):
    """3-D convolutions over occupied voxels (VoxNet, Maturana and Scherer, 2015)."""
    x = nn.leaky_relu(conv(features, (5, 5, 5), 2, padding="VALID")(x), 0.1)
    x = nn.leaky_relu(conv(features, (3, 3, 3), padding="VALID")(x), 0.1)
    x = nn.max_pool(x, (2, 2, 2), (2, 2, 2))
    return nn.Dense(CLASSES)(nn.relu(nn.Dense(128)(x.reshape(len(x), -1))))


class Network(nn.Module):
    """One of the functions above as a module, in training mode, with a convolution."""

    function: Callable
    conv_general_dilated: Callable = lax.conv_general_dilated

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
        return cross_entropy(self.logits(parameters, x), labels)


def network(function: Callable[..., Any], *shape: int) -> Program:
    """Return the gradients of a network of the functions above for a batch of ``shape``."""
    module, (x, labels) = Network(function), images(*shape)
    params = jax.jit(module.init)(jax.random.key(0), x[:1])["params"]
    return gradients(module.logits, params, x, labels)


def conv_gradient() -> Program:
    """The gradients of one 3x3 convolution, many times slower in a loop (jax-ml/jax#12868)."""
    w = jax.random.normal(jax.random.key(1), (3, 3, 32, 32)) / 17
    x, _ = images(32, 56, 56, 32)

    def loss(w, x):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jnp.sin(lax.conv_general_dilated(x, w, (1, 1), "SAME", None, None, numbers)).sum()

    return jax.value_and_grad(loss, argnums=(0, 1)), (w, x)


def transposed_3d() -> Program:
    """The gradients of a transposed 3-D convolution in Equinox (jax-ml/jax#31662)."""
    import equinox as eqx

    layer = eqx.nn.ConvTranspose(
        *(3, 64, 1, (3, 3, 3), (2, 2, 2)),
        padding=((1, 1), (1, 1), (1, 1)),
        output_padding=(1, 1, 1),
        dtype=jnp.bfloat16,
        key=jax.random.key(0),
    )
    params, static = eqx.partition(layer, eqx.is_array)
    x = images(1, 64, 64, 64, 32)[0].astype(jnp.bfloat16)

    def loss(params, x):
        return eqx.combine(params, static)(x).mean()

    return jax.vmap(jax.grad(loss), in_axes=(None, 0)), (params, x)


def transposed_1d() -> Program:
    """A transposed 1-D convolution, as for the synthesis of sounds (jax-ml/jax#23783)."""
    w = jax.random.normal(jax.random.key(1), (512, 512, 1)) / 500
    x, _ = images(16, 256, 512)
    numbers = ("NHC", "HIO", "NHC")
    return lambda w, x: lax.conv_transpose(x, w, (256,), "VALID", None, numbers), (w, x)


def depthwise() -> Program:
    """A depthwise convolution in NNX (jax-ml/jax#23713)."""
    from flax import nnx

    settings = {"padding": 1, "feature_group_count": 256, "rngs": nnx.Rngs(0)}
    definition, params = nnx.split(nnx.Conv(256, 256, 3, **settings))
    return lambda params, x: nnx.merge(definition, params)(x), (params, images(1, 124, 124, 256)[0])


RESNET_18 = functools.partial(resnet, stages=((2, 64), (2, 128), (2, 256), (2, 512)))
BOTTLENECK = ((1, 1), (3, 1), (1, 4))
RESNET_50 = functools.partial(
    resnet, stages=((3, 64), (4, 128), (6, 256), (3, 512)), block=BOTTLENECK, stem=7
)
PROGRAMS: dict[str, Callable[[], Program]] = {
    "flax_mnist": flax_mnist,
    "nnx_mnist": nnx_mnist,
    "haiku_mnist": haiku_mnist,
    "equinox_mnist": equinox_mnist,
    "resnet_18": functools.partial(network, RESNET_18, 8, 32, 32, 3),
    "resnet_50": functools.partial(network, RESNET_50, 4, 64, 64, 3),
    "vgg": functools.partial(network, vgg, 16, 32, 32, 3),
    "unet": functools.partial(network, unet, 8, 64, 64, 1),
    "dcgan": functools.partial(network, dcgan, 16, 100),
    "mobilenet": functools.partial(network, mobilenet, 64, 32, 32, 3),
    "wavenet": functools.partial(network, wavenet, 32, 1024, 1),
    "voxnet": functools.partial(network, voxnet, 8, 32, 32, 32, 1),
    "conv_gradient": conv_gradient,
    "transposed_3d": transposed_3d,
    "transposed_1d": transposed_1d,
    "depthwise": depthwise,
}
NEEDS = {"haiku_mnist": "haiku", "equinox_mnist": "equinox", "transposed_3d": "equinox"}
KERAS = "keras_fit"


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the benchmark."""

    only: tuple[Literal[(*PROGRAMS, KERAS)], ...] = (*PROGRAMS, KERAS)
    """Names of the programs."""
    rounds: int = 15
    """Maximum number of turns of each program."""
    seconds: float = 6.0
    """Approximate limit for all turns of one program. Three rounds are always measured."""
    run_seconds: float = PROGRAM_SECONDS
    """Expected run time of the programs, which `accelerate` weighs against the time to compile."""
    output: Path | None = None
    """JSON file of the measurements (default: runs/bench_accelerate/<UTC time>/accelerate.json)."""


def main(config: Config) -> None:
    """Time each program called from Python and in a compiled loop, and write a JSON file."""
    check_positive(config, "rounds", "seconds", "run_seconds")
    where = machine(jax.devices()[0].device_kind)
    print(f"{where}; medians in ms, and seconds to compile, without and with accelerate")
    print(
        f"{'program':14} {'called from Python':^26} {'in a loop':^26} {'compilation':^20}",
        flush=True,
    )
    results = []
    for name in config.only:
        needed = NEEDS.get(name, "keras" if name == KERAS else "jax")
        if importlib.util.find_spec(needed) is None:
            print(f"{name:14} left out: {needed} is not installed", flush=True)
            continue
        result = measure_keras(config) if name == KERAS else measure(PROGRAMS[name](), config)
        results.append({"name": name, **result})
        pairs = (result[column] for column in ("call", "loop", "compile") if column in result)
        cells = (f"{before:9.2f} {after:8.2f} {before / after:6.2f}x" for before, after in pairs)
        print(f"{name:14} " + " ".join(cells), flush=True)
    output = config.output or default_run_dir("bench_accelerate") / "accelerate.json"
    save(output, {"machine": where, "results": results})


def measure(program: Program, config: Config) -> dict[str, Any]:
    """Return the pairs (without, with acceleration) of times called from Python, in a loop and to compile."""
    function, (arrays, structure) = program[0], jax.tree.flatten(program[1])

    def plain(*arrays):
        return function(*structure.unflatten(arrays))

    faster = kernels.accelerate(plain, seconds=config.run_seconds)
    both = {"plain": plain, "accelerated": faster}
    result = {}
    for column, loop in (("call", False), ("loop", True)):
        times = time_functions(both, tuple(arrays), config.rounds, config.seconds, loop, TURN)
        result[column] = [times[name]["milliseconds"] for name in both]
        if not loop:
            result["compile"] = [times[name]["compile_seconds"] for name in both]
    return result


def measure_keras(config: Config) -> dict[str, Any]:
    """Return the pair (without, with acceleration) of times of a step of Keras, with dropout."""
    import os

    os.environ["KERAS_BACKEND"] = "jax"
    import keras
    import numpy as np
    from frameworks import make_case, make_keras_network

    case = make_case("mnist", 512)
    pixels, labels = case.images()
    pixels = (pixels / 255).astype(np.float32)

    def fit(model, epochs):
        model.fit(pixels, labels, batch_size=512, epochs=epochs, verbose=0)

    def faster(model, epochs):
        with kernels.accelerated(seconds=config.run_seconds):
            fit(model, epochs)

    def compile_model():
        model = make_keras_network(case)
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    runs = {
        name: functools.partial(each, compile_model())
        for name, each in (("plain", fit), ("accelerated", faster))
    }
    steps = len(labels) // 512
    turns = time_in_turns(runs, config.rounds, 0.5, config.seconds)
    return {"call": [statistics.median(turns[name]) / steps for name in runs]}


if __name__ == "__main__":
    run(main, Config(), __doc__)
