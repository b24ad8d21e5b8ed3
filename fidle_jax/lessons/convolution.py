"""Lesson: convolution window by window in 1 to 3 dimensions, image sizes, and costs (Fidle, sequence 2)."""

import importlib.resources
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Float
from PIL import Image

from fidle_jax.errors import InputError
from fidle_jax.kernels import avg_pool, conv, max_pool
from fidle_jax.kernels.geometry import resolve_geometry
from fidle_jax.lessons import convolution_figures as figures
from fidle_jax.lessons.figures import number
from fidle_jax.lessons.flags import Convolution
from fidle_jax.lessons.page import Frames, Lesson
from fidle_jax.nn import CNN, layer_table
from fidle_jax.report.lesson import Table

# The kernel and the first three sums, 10, 11 and 12, are those of the slides.
IMAGE = np.array(
    [[1, 2, 3, 2, 1], [1, 2, 3, 4, 5], [1, 2, 3, 2, 1], [5, 4, 3, 2, 1], [1, 2, 3, 2, 1]],
    np.float32,
)
KERNEL = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]], np.float32)
SIGNAL = np.array([1, 1, 1, 5, 5, 5, 2, 2], np.float32)
SIGNAL_KERNEL = np.array([-1, 0, 1], np.float32)
CUBE = np.array(
    [
        [[1, 2, 1], [0, 3, 1], [2, 1, 0]],
        [[2, 0, 1], [1, 4, 2], [0, 2, 1]],
        [[0, 1, 2], [3, 1, 0], [1, 2, 5]],
    ],
    np.float32,
)
CUBE_KERNEL = np.array([[[1, 0], [0, 1]], [[0, 1], [1, 0]]], np.float32)
POOLED = np.array([[1, 3, 2, 1], [4, 2, 0, 5], [6, 1, 1, 2], [0, 2, 3, 2]], np.float32)
KERNELS = {
    name: np.array(rows, np.float32)
    for name, rows in {
        "identity": [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
        "blur": [[1 / 9] * 3] * 3,
        "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
        "Sobel x": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
        "Sobel y": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
        "Laplacian": [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
    }.items()
}

Stage = tuple[str, tuple[int, ...], int]


class Step(NamedTuple):
    """One position of the window.

    Attributes:
        start: Index of the window's first value in the image, and of the sum in the result.
        values: Values of the image in the window.
        products: Values times kernel.
        total: Sum of the products.
    """

    start: tuple[int, ...]
    values: Float[np.ndarray, "*window"]
    products: Float[np.ndarray, "*window"]
    total: float


def convolve(
    image: Float[np.ndarray, "*spatial"], kernel: Float[np.ndarray, "*window"], method: str = "auto"
) -> Float[np.ndarray, "*count"]:
    """Convolve one channel with one kernel, with stride 1 and without padding.

    Raises:
        ValueError: The image is smaller than the kernel, or has another number of axes.
    """
    x, w = jnp.asarray(image)[None, ..., None], jnp.asarray(kernel)[..., None, None]
    return np.asarray(conv(x, w, method=method))[0, ..., 0]


def pool(image: Float[np.ndarray, "*spatial"]) -> Float[np.ndarray, "*count"]:
    """Max-pool one channel, with size and stride 2."""
    return np.asarray(max_pool(jnp.asarray(image)[None, ..., None]))[0, ..., 0]


def halve(image: Float[np.ndarray, "*spatial"]) -> Float[np.ndarray, "*count"]:
    """Reduce an image to half its size with 2x2 means."""
    return np.asarray(avg_pool(jnp.asarray(image)[None, ..., None]))[0, ..., 0]


def window_steps(
    image: Float[np.ndarray, "*spatial"], kernel: Float[np.ndarray, "*window"]
) -> list[Step]:
    """Return each step of `convolve`. The last index changes fastest.

    Raises:
        ValueError: As in `convolve`.
    """
    totals = convolve(image, kernel, method="reference")
    steps = []
    for start in np.ndindex(totals.shape):
        window = tuple(slice(i, i + k) for i, k in zip(start, kernel.shape, strict=True))
        steps.append(Step(start, image[window], image[window] * kernel, float(totals[start])))
    return steps


class Costs(NamedTuple):
    """Parameters of a layer, and multiplications for one image."""

    params: int
    multiplications: int


class ConvLayer(NamedTuple):
    """A convolutional layer with square kernels, stride 1, and no padding."""

    height: int
    width: int
    planes: int
    kernels: int
    kernel_size: int

    def __str__(self) -> str:
        image = f"{self.height}×{self.width}×{self.planes}"
        kernels = f"{self.kernels} kernel{'s' * (self.kernels > 1)}"
        return f"{image} to {kernels} of {self.kernel_size}×{self.kernel_size}"

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the output. ValueError if the kernel is too large."""
        height, width = resolve_geometry((self.height, self.width), self.kernel_size).count
        return height, width, self.kernels

    @property
    def inputs(self) -> int:
        """Number of input values."""
        return math.prod(self[:3])

    @property
    def outputs(self) -> int:
        """Number of output values."""
        return math.prod(self.output_shape)

    @property
    def costs(self) -> Costs:
        """Costs of the layer. A kernel has its weights and one bias."""
        k = self.kernel_size
        params = self.kernels * (self.planes * k * k + 1)
        return Costs(params, self.outputs * self.planes * k * k)

    @property
    def dense_costs(self) -> Costs:
        """Costs of a dense layer with the same numbers of inputs and outputs."""
        return Costs(self.outputs * (self.inputs + 1), self.outputs * self.inputs)


# The convolutional layers of the course's CNN.
FIRST = ConvLayer(28, 28, planes=1, kernels=8, kernel_size=3)
SECOND = ConvLayer(13, 13, planes=8, kernels=16, kernel_size=3)


def stages(model: nn.Module, image_shape: tuple[int, int, int]) -> list[Stage]:
    """Return the image, then each layer that changes its shape, as (name, shape, parameters)."""
    passed: list[Stage] = [("image", image_shape, 0)]
    for row in layer_table(model, image_shape):
        if (shape := row.output_shape[1:]) != passed[-1][1]:
            passed.append((row.name, shape, row.parameters))
    return passed


def load_photograph() -> Float[np.ndarray, "height width"]:
    """Return the head and the camera of scikit-image's cameraman at half size, from 0 to 1."""
    path = importlib.resources.files("skimage").joinpath("data", "camera.png")
    try:
        with path.open("rb") as file, Image.open(file) as photograph:
            values = np.asarray(photograph.convert("L"), np.float32) / 255
    except OSError as error:
        raise InputError(f"cannot read {path} ({error}); reinstall scikit-image") from None
    return halve(values[50:306, 130:386])


def teach(flags: Convolution) -> Lesson:
    """Create the lesson. Raise InputError if the photograph is missing."""
    steps = window_steps(IMAGE, KERNEL)
    passed = stages(CNN(), (28, 28, 1))
    asked = ConvLayer(flags.height, flags.width, flags.planes, flags.kernels, flags.kernel_size)
    layers = [FIRST, SECOND, asked]
    total = sum(params for _, _, params in passed)
    photograph = load_photograph()
    effects = {name: convolve(photograph, kernel) for name, kernel in KERNELS.items()}
    # The results of kernels with sum 0 have both signs.
    signed = [name for name, kernel in KERNELS.items() if abs(kernel.sum()) < 1e-6]
    layouts = [(3, "valid", 1), (3, "valid", 2), (3, "same", 1), (3, "same", 2), (5, "valid", 1)]
    return Lesson(
        values={
            "first_row": ", ".join(number(step.total) for step in steps if step.start[0] == 0),
            "sides": ", ".join(str(shape[0]) for _, shape, _ in passed[1:] if len(shape) == 3),
            "parameters": total,
            "first": FIRST,
            "gigabytes": 4 * asked.dense_costs.params / 1e9,
        },
        shown={
            "principle": _frames(IMAGE, KERNEL, steps),
            "signal": figures.signal_figure(
                SIGNAL, SIGNAL_KERNEL, window_steps(SIGNAL, SIGNAL_KERNEL)
            ),
            "cube": _frames(CUBE, CUBE_KERNEL, window_steps(CUBE, CUBE_KERNEL)),
            "sizes": figures.layouts_figure([*layouts, (2, "pooling", 2)]),
            "pooling": figures.pooling_figure(POOLED, pool(POOLED)),
            "stages": Table(
                ["layer", "output shape", "parameters"],
                [
                    [layer, "×".join(map(str, shape)), f"{params:,}" if params else "–"]
                    for layer, shape, params in passed
                ]
                + [["total", "", f"{total:,}"]],
            ),
            "kernels": figures.kernels_figure(KERNELS),
            "photograph": figures.effects_figure(effects, signed),
            "parameters": Table(
                ["parameters", "convolution", "dense"], list(map(_formulas, layers))
            ),
            "multiplications": Table(
                ["multiplications", "convolution", "dense", "ratio"],
                list(map(_multiplications, layers)),
            ),
        },
        numbers={
            "sums": [step.total for step in steps],
            "stages": [
                {"layer": layer, "shape": shape, "params": params}
                for layer, shape, params in passed
            ],
            "parameters": total,
            "layers": [
                each._asdict()
                | {"output_shape": each.output_shape, "convolution": each.costs._asdict()}
                | {"dense": each.dense_costs._asdict()}
                for each in layers
            ],
        },
        cover="principle",
    )


def _frames(image: np.ndarray, kernel: np.ndarray, steps: list[Step]) -> Frames:
    labels = [f"window {i} of {len(steps)}: {step.total:g}" for i, step in enumerate(steps, 1)]
    return Frames(figures.window_slides(image, kernel, steps), labels, seconds=1.6)


def _formulas(layer: ConvLayer) -> list[str]:
    k = layer.kernel_size
    return [
        str(layer),
        f"{layer.kernels:,}·({layer.planes:,}·{k}·{k} + 1) = {layer.costs.params:,}",
        f"{layer.outputs:,}·({layer.inputs:,} + 1) = {layer.dense_costs.params:,}",
    ]


def _multiplications(layer: ConvLayer) -> list[str]:
    few, many = layer.costs.multiplications, layer.dense_costs.multiplications
    ratio = f"{many / few:,.0f}" if many >= 10 * few else f"{many / few:.2g}"
    return [str(layer), f"{few:,}", f"{many:,}", ratio]
