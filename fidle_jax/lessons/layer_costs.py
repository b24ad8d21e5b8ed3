"""What a convolutional and a dense layer cost, by the course's formulas, and how a CNN's planes shrink."""

from dataclasses import asdict, dataclass
from typing import NamedTuple

from flax import linen as nn

from fidle_jax.kernels.windows import resolve_windows
from fidle_jax.nn import layer_table


class Costs(NamedTuple):
    """Of a layer: the parameters that it learns, and the multiplications that one image takes."""

    params: int
    multiplications: int


@dataclass(frozen=True)
class ConvLayer:
    """A convolutional layer of square kernels, stride 1, without padding.

    Attributes:
        height: of the image, as its ``width`` and its ``planes``.
        kernels: how many; each gives a plane.
        kernel_size: their side.
    """

    height: int
    width: int
    planes: int
    kernels: int
    kernel_size: int

    @property
    def inputs(self) -> int:
        """Numbers that go in."""
        return self.height * self.width * self.planes

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """Height, width and planes of what comes out; ValueError where the kernel is too large."""
        height, width = resolve_windows((self.height, self.width), self.kernel_size).count
        return height, width, self.kernels

    @property
    def outputs(self) -> int:
        """Numbers that come out."""
        height, width, planes = self.output_shape
        return height * width * planes


# The two of the course's CNN.
FIRST = ConvLayer(28, 28, planes=1, kernels=8, kernel_size=3)
SECOND = ConvLayer(13, 13, planes=8, kernels=16, kernel_size=3)


def conv_params(planes: int, kernels: int, kx: int, ky: int) -> int:
    """m(n·kx·ky + 1) for m kernels over n planes: each kernel has its weights and one bias."""
    return kernels * (planes * kx * ky + 1)


def dense_params(inputs: int, neurons: int) -> int:
    """n(m + 1) for n neurons on m inputs: each neuron has a weight an input and one bias."""
    return neurons * (inputs + 1)


def conv_costs(layer: ConvLayer) -> Costs:
    """Of the layer itself; each output takes a product for each value of the window, in all planes."""
    side = layer.kernel_size
    return Costs(
        conv_params(layer.planes, layer.kernels, side, side),
        layer.outputs * layer.planes * side * side,
    )


def dense_costs(layer: ConvLayer) -> Costs:
    """Of a dense layer on the same image that gives as many outputs; each takes a product an input."""
    return Costs(dense_params(layer.inputs, layer.outputs), layer.outputs * layer.inputs)


def numbers_of(layer: ConvLayer) -> dict[str, object]:
    """All of the above by name, for a file."""
    return asdict(layer) | {
        "output_shape": layer.output_shape,
        "convolution": conv_costs(layer)._asdict(),
        "dense": dense_costs(layer)._asdict(),
    }


class Stage(NamedTuple):
    """A layer that changes the shape of what passes it.

    Attributes:
        layer: its name, as in conv_1.
        shape: of what it gives: height, width and planes, or a number of values.
        params: its parameters.
    """

    layer: str
    shape: tuple[int, ...]
    params: int


def stages(model: nn.Module, image_shape: tuple[int, int, int]) -> list[Stage]:
    """How the shape of an image changes on its way through the model; the image itself comes first."""
    passed = [Stage("image", image_shape, 0)]
    for row in layer_table(model, image_shape):
        if (shape := row.output_shape[1:]) != passed[-1].shape:
            passed.append(Stage(row.name, shape, row.parameters))
    return passed
