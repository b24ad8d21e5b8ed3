"""The course's networks for images of digits, and the names that the command line knows them by."""

import jax
from flax import linen as nn
from jaxtyping import Array, Float, Int

from fidle_jax.errors import InputError, check_name
from fidle_jax.nn.layers import Conv, Dense, Dropout, Flatten, MaxPool


class CNN(nn.Module):
    """The course's CNN (Fidle, sequence 2): two convolutions, each pooled, and two dense layers.

    On images of 28x28x1 and ten classes it has 80 + 1,168 + 40,100 + 1,010 = 42,358 parameters.

    Attributes:
        classes: number of classes.
        dropout: rates after the first pooling, the second, and the hidden dense layer.
        fuse: compute each convolution and its pooling by one kernel. The result is the same; without
            it each layer is a call of its own, which a table or a look inside needs.
    """

    classes: int = 10
    dropout: tuple[float, ...] = (0.2, 0.2, 0.5)
    fuse: bool = True

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width channel"],
        *,
        train: bool = False,
        example_index: Int[Array, " batch"] | None = None,
    ) -> Float[Array, "batch class"]:
        """The logits."""
        for i, features in enumerate((8, 16), start=1):
            conv, pool = Conv(features, name=f"conv_{i}"), MaxPool(name=f"pool_{i}")
            x = conv(x, pool=pool.window) if self.fuse else pool(conv(x))
            x = _dropout(self, i)(x, train=train, example_index=example_index)
        x = Flatten(name="flatten")(x)
        x = Dense(100, jax.nn.relu, name="dense_1")(x)
        x = _dropout(self, 3)(x, train=train, example_index=example_index)
        return Dense(self.classes, name="dense_2")(x)


class DNN(nn.Module):
    """The course's baseline without convolutions: 784-100-100-10 on digits.

    Attributes:
        classes: number of classes.
        dropout: rates after the two hidden layers; the course has none.
        fuse: nothing to fuse here; there so that every model is made alike.
    """

    classes: int = 10
    dropout: tuple[float, ...] = (0.0, 0.0)
    fuse: bool = True

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width channel"],
        *,
        train: bool = False,
        example_index: Int[Array, " batch"] | None = None,
    ) -> Float[Array, "batch class"]:
        """The logits."""
        x = Flatten(name="flatten")(x)
        for i in (1, 2):
            x = Dense(100, jax.nn.relu, name=f"dense_{i}")(x)
            if self.dropout[i - 1]:
                x = _dropout(self, i)(x, train=train, example_index=example_index)
        return Dense(self.classes, name="dense_3")(x)


def _dropout(model: nn.Module, number: int) -> Dropout:
    return Dropout(model.dropout[number - 1], name=f"dropout_{number}")


MODELS = {"cnn": CNN, "dnn": DNN}


def make_model(
    name: str,
    classes: int,
    image_shape: tuple[int, int, int],
    dropout: tuple[float, ...] | None = None,
) -> nn.Module:
    """The model of that name; ``dropout`` stands in for its own rates.

    Raises:
        InputError: an unknown name, rates of the wrong number or size, images too small.
    """
    check_name("model", name, MODELS)
    if name == "cnn" and min(image_shape[:2]) < 10:
        raise InputError(
            f"images of {image_shape[0]}x{image_shape[1]} are too small for the model 'cnn', whose "
            "two convolutions and poolings need 10x10 at least; take --model dnn"
        )
    model = MODELS[name](classes=classes)
    if dropout is None:
        return model
    if len(dropout) != len(model.dropout) or not all(0 <= rate < 1 for rate in dropout):
        raise InputError(
            f"dropout {' '.join(map(str, dropout))} does not fit the model {name!r}; expected "
            f"{len(model.dropout)} rates, each at least 0 and less than 1"
        )
    return model.clone(dropout=tuple(dropout))
