"""The networks, and the names that the command line knows them by."""

import itertools
from collections.abc import Callable, Sequence

import jax
from flax import linen as nn
from jaxtyping import Array, Float, Int

from fidle_jax.errors import InputError, check_name
from fidle_jax.nn.compact import Compact
from fidle_jax.nn.layers import BatchNorm, Conv, Dense, Dropout, Flatten, MaxPool


class CNN(nn.Module):
    """The course's convolutional networks (Fidle, sequence 2): blocks of 3x3 convolutions, two dense layers.

    A block ends in a valid convolution, max pooling over 2x2 and dropout; the convolutions before
    its last keep the image's size. As it stands it is the network for digits: on images of 28x28x1
    and ten classes 80 + 1,168 + 40,100 + 1,010 = 42,358 parameters. Those for traffic signs are
    "v1" and "v2" of `MODELS`.

    Attributes:
        classes: number of classes.
        blocks: kernels of each convolution, block by block.
        hidden: neurons of the hidden dense layer.
        dropout: rates after each block and after the hidden dense layer.
        fuse: compute a block's last convolution and its pooling by one kernel. The result is the
            same; without it each layer is a call of its own, which a table or a look inside needs.
        method: how convolutions are computed (see `Conv`).
    """

    classes: int = 10
    blocks: tuple[tuple[int, ...], ...] = ((8,), (16,))
    hidden: int = 100
    dropout: tuple[float, ...] = (0.2, 0.2, 0.5)
    fuse: bool = True
    method: str = "auto"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width channel"],
        *,
        train: bool = False,
        example_index: Int[Array, " batch"] | None = None,
    ) -> Float[Array, "batch class"]:
        """The logits."""
        numbers = itertools.count(1)
        for i, (*inner, last) in enumerate(self.blocks, start=1):
            for features in inner:
                x = _conv(self, next(numbers), features, "same")(x)
            conv, pool = _conv(self, next(numbers), last, "valid"), MaxPool(name=f"pool_{i}")
            x = conv(x, pool=pool.window) if self.fuse else pool(conv(x))
            x = _dropout(self, i)(x, train=train, example_index=example_index)
        x = Flatten(name="flatten")(x)
        x = Dense(self.hidden, jax.nn.relu, name="dense_1")(x)
        x = _dropout(self, len(self.blocks) + 1)(x, train=train, example_index=example_index)
        return Dense(self.classes, name="dense_2")(x)

    def smallest_image(self) -> int:
        """Height and width of the smallest images that leave something after the last pooling."""
        side = 1
        for _ in self.blocks:
            side = 2 * side + 2
        return side


class DNN(nn.Module):
    """A network without convolutions; as it stands the course's baseline on digits: 784-100-100-10.

    Attributes:
        classes: number of classes, or of other outputs.
        hidden: neurons of each hidden layer.
        activation: of the hidden layers.
        dropout: rates after the hidden layers, from the first on; 0 where there are fewer. The course has
            none.
        fuse: nothing to fuse here; there so that every model is made alike.
    """

    classes: int = 10
    hidden: tuple[int, ...] = (100, 100)
    activation: Callable[[Array], Array] = jax.nn.relu
    dropout: tuple[float, ...] = (0.0, 0.0)
    fuse: bool = True

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch ..."],
        *,
        train: bool = False,
        example_index: Int[Array, " batch"] | None = None,
    ) -> Float[Array, "batch class"]:
        """The logits, or for another objective what it takes."""
        x = Flatten(name="flatten")(x)
        for i, features in enumerate(self.hidden, start=1):
            x = Dense(features, self.activation, name=f"dense_{i}")(x)
            if i <= len(self.dropout) and self.dropout[i - 1]:
                x = _dropout(self, i)(x, train=train, example_index=example_index)
        return Dense(self.classes, name=f"dense_{len(self.hidden) + 1}")(x)

    def smallest_image(self) -> int:
        """Height and width of the smallest images: there is no convolution that would need more."""
        return 1


class NormedCNN(nn.Module):
    """The course's third network for traffic signs: convolutions of 5x5 with batch norms after their ReLU.

    Attributes:
        classes: number of classes.
        dropout: rates after the two poolings and after the hidden dense layer.
        fuse: nothing to fuse here, as a batch norm stands before each pooling; there so that every model
            is made alike.
        method: how convolutions are computed (see `Conv`).
        axis_name: of the mapped axis that batches are spread over, if there is one.
    """

    classes: int = 43
    dropout: tuple[float, ...] = (0.2, 0.2, 0.4)
    fuse: bool = True
    method: str = "auto"
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width channel"],
        *,
        train: bool = False,
        example_index: Int[Array, " batch"] | None = None,
    ) -> Float[Array, "batch class"]:
        """The logits."""
        how = {"train": train, "example_index": example_index}

        def normalized(x, number):
            # Keras's constants, with which the course's figures were had.
            norm = BatchNorm(self.axis_name, momentum=0.99, epsilon=1e-3, name=f"norm_{number}")
            return norm(x, **how)

        for number, features in enumerate((32, 64, 128), start=1):
            conv = Conv(features, (5, 5), padding="same", method=self.method, name=f"conv_{number}")
            x = normalized(conv(x), number)
            if number != 2:
                pooling = (number + 1) // 2
                x = MaxPool(name=f"pool_{pooling}")(x)
                x = _dropout(self, pooling)(x, **how)
        x = Flatten(name="flatten")(x)
        x = normalized(Dense(512, jax.nn.relu, name="dense_1")(x), 4)
        x = _dropout(self, 3)(x, **how)
        return Dense(self.classes, name="dense_2")(x)

    def smallest_image(self) -> int:
        """Height and width of the smallest images that leave something after the last pooling."""
        return 4


def _conv(model: CNN, number: int, features: int, padding: str) -> Conv:
    return Conv(features, padding=padding, method=model.method, name=f"conv_{number}")


def _dropout(model: nn.Module, number: int) -> Dropout:
    return Dropout(model.dropout[number - 1], name=f"dropout_{number}")


MODELS = {
    "cnn": CNN(),
    "dnn": DNN(),
    # The course's three for the traffic signs of GTSRB (notebook GTSRB5).
    "v1": CNN(classes=43, blocks=((96,), (192,)), hidden=1500),
    "v2": CNN(
        classes=43,
        blocks=((64, 64), (128, 128), (256, 256)),
        hidden=512,
        dropout=(0.2, 0.2, 0.2, 0.5),
    ),
    "v3": NormedCNN(),
    "compact": Compact(),
}


def make_model(
    name: str,
    classes: int,
    image_shape: tuple[int, int, int],
    dropout: Sequence[float] | None = None,
    width: float = 1.0,
) -> nn.Module:
    """The model of that name; ``dropout`` stands in for its own rates, ``width`` is as of `Compact`.

    Raises:
        InputError: an unknown name, rates of the wrong number or size, images too small, a width of a
            model that has none.
    """
    check_name("model", name, MODELS)
    model = MODELS[name].clone(classes=classes)
    if isinstance(model, Compact):
        model = model.clone(width=width)
    elif width != 1:
        raise InputError(
            f"--width is {width:g}; expected 1 with --model {name}: compact alone has others"
        )
    if min(image_shape[:2]) < (side := model.smallest_image()):
        raise InputError(
            f"images of {image_shape[0]}x{image_shape[1]} are too small for the model {name!r}, whose "
            f"convolutions and poolings need {side}x{side} at least; take --model dnn"
        )
    if dropout is None:
        return model
    if len(dropout) != len(model.dropout) or not all(0 <= rate < 1 for rate in dropout):
        raise InputError(
            f"dropout {' '.join(map(str, dropout))} does not fit the model {name!r}; expected "
            f"{len(model.dropout)} rates, each at least 0 and less than 1"
        )
    return model.clone(dropout=tuple(dropout))
