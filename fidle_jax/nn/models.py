"""The networks, from images to logits, and their names on the command line."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from fidle_jax.errors import InputError, check_name
from fidle_jax.nn import ModelName
from fidle_jax.nn.layers import (
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
    he_normal,
    normalize_contrast,
)


class Network(nn.Module):
    """Base class of the networks. A subclass defines ``forward``, and ``smallest_image`` if it pools.

    For the report, the output of a layer is (height, width, channel) or (feature,) for each image.
    """

    classes: int = 10  # or number of other outputs
    dropout: tuple[float, ...] = ()  # rate of each dropout layer
    axis_name: str | None = None  # name of the pmap axis that shards the batch, for batch norms

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch ..."],
        *,
        train: bool = False,
        example_index: Int[Array, " batch"] | None = None,
    ) -> Float[Array, "batch class"]:
        """Return the logits, or the predictions of a regression.

        Args:
            x: Images (batch, height, width, channel), or any features for `DNN`.
            train: Apply dropout, and use the statistics of the batch in batch norms.
            example_index: Position of each example in the whole batch (default: 0, 1, ...). The dropout masks
                depend on it. Negative numbers mark padding, which batch norms ignore.
        """
        return self.forward(x, {"train": train, "example_index": example_index})

    def forward(self, x: Array, mode: dict[str, Any]) -> Array:
        """Apply the layers. ``mode`` contains the keyword arguments of dropout and batch norm."""
        raise NotImplementedError

    def smallest_image(self) -> int:
        """Return the smallest height and width that the pooling layers accept."""
        return 1

    def _dropout(self, number, x, mode):
        return Dropout(self.dropout[number - 1], name=f"dropout_{number}")(x, **mode)


class CNN(Network):
    """The course's convolutional networks: blocks of 3x3 convolutions, then two dense layers.

    The last convolution of a block has valid padding and is followed by 2x2 max pooling and dropout. The
    others keep the image size. The default is the network for digits. On 28x28x1 images it has
    80 + 1,168 + 40,100 + 1,010 = 42,358 parameters. "v1" and "v2" in `MODELS` are for traffic signs.
    """

    blocks: tuple[tuple[int, ...], ...] = ((8,), (16,))  # output channels of each convolution
    hidden: int = 100  # neurons of the hidden dense layer
    dropout: tuple[float, ...] = (0.2, 0.2, 0.5)

    def forward(self, x, mode):
        """Apply the layers."""
        numbers = itertools.count(1)

        def conv(features, padding):
            name = f"conv_{next(numbers)}"
            return Conv(features, padding=padding, name=name)

        for i, (*inner, last) in enumerate(self.blocks, start=1):
            for features in inner:
                x = conv(features, "same")(x)
            x = MaxPool(name=f"pool_{i}")(conv(last, "valid")(x))
            x = self._dropout(i, x, mode)
        x = Flatten(name="flatten")(x)
        x = Dense(self.hidden, jax.nn.relu, name="dense_1")(x)
        x = self._dropout(len(self.blocks) + 1, x, mode)
        return Dense(self.classes, name="dense_2")(x)

    def smallest_image(self) -> int:
        """See `Network`. Each block needs twice the side after it, and two pixels."""
        return 3 * 2 ** len(self.blocks) - 2


class DNN(Network):
    """A dense network. The default is the course's baseline for digits: 784-100-100-10."""

    hidden: tuple[int, ...] = (100, 100)  # neurons of each hidden layer
    activation: Callable[[Array], Array] = jax.nn.relu  # of the hidden layers
    dropout: tuple[float, ...] = (
        0.0,
        0.0,
    )  # rates of the first hidden layers; the others have none

    def forward(self, x, mode):
        """Apply the layers."""
        x = Flatten(name="flatten")(x)
        for i, features in enumerate(self.hidden, start=1):
            x = Dense(features, self.activation, name=f"dense_{i}")(x)
            if i <= len(self.dropout) and self.dropout[i - 1]:
                x = self._dropout(i, x, mode)
        return Dense(self.classes, name=f"dense_{len(self.hidden) + 1}")(x)


class NormedCNN(Network):
    """The course's third network for traffic signs: 5x5 convolutions with batch norms after the ReLU."""

    classes: int = 43
    dropout: tuple[float, ...] = (0.2, 0.2, 0.4)

    def forward(self, x, mode):
        """Apply the layers."""

        def normalized(x, number):
            # Constants of Keras, with which the course's results were obtained.
            norm = BatchNorm(self.axis_name, momentum=0.99, epsilon=1e-3, name=f"norm_{number}")
            return norm(x, **mode)

        for number, features in enumerate((32, 64, 128), start=1):
            conv = Conv(features, (5, 5), padding="same", name=f"conv_{number}")
            x = normalized(conv(x), number)
            if number != 2:
                pooling = (number + 1) // 2
                x = MaxPool(name=f"pool_{pooling}")(x)
                x = self._dropout(pooling, x, mode)
        x = Flatten(name="flatten")(x)
        x = normalized(Dense(512, jax.nn.relu, name="dense_1")(x), 4)
        x = self._dropout(3, x, mode)
        return Dense(self.classes, name="dense_2")(x)

    def smallest_image(self) -> int:
        """See `Network`."""
        return 4


class Compact(Network):
    """A network for small colour images that two CPU cores train in minutes.

    On a CPU, a convolution of few pixels with many channels runs at up to twice the rate of one of many
    pixels with few channels. So each block starts with the pooled convolution, which one kernel computes.
    The others follow on a quarter of the pixels, and are residual (He et al., 2016) if they keep the number
    of channels. Pooling precedes the batch norm and the ReLU. With ``contrast``, the input is the image with
    normalized local contrast, and its grey copy. "small" and "tiny" in `MODELS` are for digits.
    """

    classes: int = 43
    blocks: tuple[tuple[int, ...], ...] = ((32,), (64, 96), (128, 128))  # as in `CNN`
    stem: int = 5  # kernel size of the first convolution
    hidden: int = 256  # neurons of the hidden dense layer
    width: float = 1.0  # factor for all numbers of channels and neurons
    dropout: tuple[float, ...] = (0.3, 0.5)
    momentum: float = 0.95  # of the batch norms
    contrast: bool = True  # normalize the local contrast, for photographs

    def forward(self, x, mode):
        """Apply the layers."""
        numbers = itertools.count(1)

        def normalized(x, residual=None):
            norm = BatchNorm(self.axis_name, self.momentum, name=f"norm_{next(numbers)}")
            x = norm(x, **mode)
            return jax.nn.relu(x if residual is None else x + residual)

        def conv(block, number, features):
            side = self.stem if (block, number) == (1, 1) else 3
            return Conv(
                features,
                (side, side),
                padding="same",
                plain=True,
                kernel_init=he_normal,
                name=f"conv_{block}_{number}",
            )

        def widened(number):
            return max(round(self.width * number), 1)

        if self.contrast:
            light = x.mean(-1, keepdims=True) - 0.5
            x = jnp.concatenate([normalize_contrast(x) / 2, light], axis=-1)
        for i, block in enumerate(self.blocks, start=1):
            first, *others = map(widened, block)
            x = normalized(MaxPool(name=f"pool_{i}")(conv(i, 1, first)(x)))
            for j, features in enumerate(others, start=2):
                y = conv(i, j, features)(x)
                x = normalized(y, x if features == x.shape[-1] else None)
        x = Flatten(name="flatten")(x)
        x = self._dropout(1, x, mode)
        x = normalized(Dense(widened(self.hidden), name="dense_1")(x))
        x = self._dropout(2, x, mode)
        return Dense(self.classes, name="dense_2")(x)

    def smallest_image(self) -> int:
        """See `Network`."""
        return 2 ** len(self.blocks)


MODELS: dict[ModelName, Network] = {
    "cnn": CNN(),
    "dnn": DNN(),
    # The course's three networks for traffic signs (notebook GTSRB5).
    "v1": CNN(classes=43, blocks=((96,), (192,)), hidden=1500),
    "v2": CNN(
        classes=43,
        blocks=((64, 64), (128, 128), (256, 256)),
        hidden=512,
        dropout=(0.2, 0.2, 0.2, 0.5),
    ),
    "v3": NormedCNN(),
    "compact": Compact(),
    # 469,931 parameters on 32x32x3 images: compact's convolutions, and a quarter of its hidden neurons.
    "compact_small": Compact(hidden=64),
    # For digits: 46,114 and 9,222 parameters on 28x28x1 images with ten classes.
    "small": Compact(
        blocks=((16,), (32, 32), (48,)), hidden=40, dropout=(0.0, 0.0), contrast=False
    ),
    "tiny": Compact(blocks=((8,), (16, 16), (16,)), hidden=20, dropout=(0.0, 0.0), contrast=False),
}


def make_model(
    name: str,
    classes: int,
    image_shape: tuple[int, int, int],
    dropout: Sequence[float] | None = None,
    width: float = 1.0,
) -> Network:
    """Return the model ``name``. ``dropout`` replaces its own rates. ``width`` is only for `Compact`.

    Raises:
        InputError: The name is unknown, the rates or the width do not fit the model, or the images are too
            small.
    """
    check_name("model", name, MODELS)
    model: Network = MODELS[name].clone(classes=classes)  # pyright: ignore[reportArgumentType]
    if isinstance(model, Compact):
        model = model.clone(width=width)
    elif width != 1:
        raise InputError(
            f"--width is {width:g}; it must be 1 with --model {name}; use --model compact, "
            "compact_small, small or tiny"
        )
    if min(image_shape[:2]) < (side := model.smallest_image()):
        raise InputError(
            f"images of {image_shape[0]}x{image_shape[1]} are too small for the model {name!r}; "
            f"expected at least {side}x{side}; use --model dnn"
        )
    if dropout is None:
        return model
    if len(dropout) != len(model.dropout) or not all(0 <= rate < 1 for rate in dropout):
        raise InputError(
            f"dropout {' '.join(map(str, dropout))} does not fit the model {name!r}; expected "
            f"{len(model.dropout)} rates, each at least 0 and less than 1"
        )
    return model.clone(dropout=tuple(dropout))
