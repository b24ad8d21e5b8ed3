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
from fidle_jax.kernels import conv
from fidle_jax.kernels.geometry import resolve_geometry
from fidle_jax.lessons import convolution_figures as figures
from fidle_jax.lessons.convolution_figures import Grid, Step, Window
from fidle_jax.lessons.figures import number
from fidle_jax.lessons.flags import Convolution
from fidle_jax.lessons.page import Lesson
from fidle_jax.nn import CNN, layer_table
from fidle_jax.nn.graph import INPUT, Node
from fidle_jax.nn.table import Row
from fidle_jax.report.lesson import DrawingNetwork, Slides, Table
from fidle_jax.report.style import png

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


def convolve(image: Grid, kernel: Window, method: str = "auto") -> Float[np.ndarray, "*count"]:
    """Convolve one channel with one kernel, with stride 1 and without padding.

    Raises:
        ValueError: The image is smaller than the kernel, or has another number of axes.
    """
    x, w = jnp.asarray(image)[None, ..., None], jnp.asarray(kernel)[..., None, None]
    return np.asarray(conv(x, w, method=method))[0, ..., 0]


def window_steps(image: Grid, kernel: Window) -> list[Step]:
    """Return each step of `convolve`. The last index changes fastest."""
    totals = convolve(image, kernel, method="reference")
    steps = []
    for start in np.ndindex(totals.shape):
        window = tuple(slice(i, i + k) for i, k in zip(start, kernel.shape, strict=True))
        steps.append(Step(start, image[window], image[window] * kernel, float(totals[start])))
    return steps


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

    def costs(self) -> dict[str, dict[str, int]]:
        """Return the parameters, and the multiplications for one image, of two layers.

        "convolution" is this layer, "dense" a dense layer with the same numbers of inputs and outputs.
        Each kernel and each neuron has one bias.
        """
        weights = self.planes * self.kernel_size**2
        inputs, outputs = math.prod(self[:3]), math.prod(self.output_shape)
        return {
            "convolution": {
                "params": self.kernels * (weights + 1),
                "multiplications": outputs * weights,
            },
            "dense": {"params": outputs * (inputs + 1), "multiplications": outputs * inputs},
        }


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
    return values[50:306, 130:386].reshape(128, 2, 128, 2).mean(axis=(1, 3))


def teach(flags: Convolution) -> Lesson:
    """Create the lesson. Raise InputError if the photograph is missing."""
    steps = window_steps(IMAGE, KERNEL)
    passed = stages(CNN(), (28, 28, 1))
    asked = ConvLayer(flags.height, flags.width, flags.planes, flags.kernels, flags.kernel_size)
    layers = [FIRST, SECOND, asked]
    total = sum(params for _, _, params in passed)
    costs = [each.costs() for each in layers]
    photograph = load_photograph()
    effects = {name: convolve(photograph, kernel) for name, kernel in KERNELS.items()}
    layouts = [(3, "valid", 1), (3, "valid", 2), (3, "same", 1), (3, "same", 2), (5, "valid", 1)]
    return Lesson(
        values={
            "first_row": ", ".join(number(step.total) for step in steps if step.start[0] == 0),
            "sides": ", ".join(str(shape[0]) for _, shape, _ in passed[1:] if len(shape) == 3),
            "gigabytes": 4 * costs[-1]["dense"]["params"] / 1e9,
        },
        shown={
            "principle": _slides(IMAGE, KERNEL),
            "signal": _slides(SIGNAL, SIGNAL_KERNEL),
            "cube": _slides(CUBE, CUBE_KERNEL),
            "drawing": _drawing_network(),
            "sizes": figures.layouts_figure([*layouts, (2, "pooling", 2)]),
            "pooling": figures.pooling_figure(POOLED),
            "stages": Table(
                ["layer", "output shape", "parameters"],
                [
                    [layer, "×".join(map(str, shape)), f"{params:,}" if params else "–"]
                    for layer, shape, params in passed
                ]
                + [["total", "", f"{total:,}"]],
            ),
            "photograph": figures.effects_figure(KERNELS, effects),
            "costs": Table(
                [
                    "layer",
                    "parameters",
                    "dense parameters",
                    "multiplications",
                    "dense multiplications",
                ],
                [
                    [
                        str(layer),
                        *(
                            f"{k[m]:,}"
                            for m in ("params", "multiplications")
                            for k in each.values()
                        ),
                    ]
                    for layer, each in zip(layers, costs, strict=True)
                ],
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
                layer._asdict() | {"output_shape": layer.output_shape} | each
                for layer, each in zip(layers, costs, strict=True)
            ],
        },
        cover="principle",
    )


def _drawing_network() -> DrawingNetwork:
    """Return `KERNELS` as one convolution, and max pooling, for the reader's drawing of 28x28 pixels."""
    kernel = np.stack(list(KERNELS.values()), axis=-1)[:, :, None]
    weights, names = {"kernel": kernel}, list(KERNELS)
    nodes = [
        Node("conv", "convolution", INPUT, weights, {"padding": "valid"}),
        Node("max_pool", "pooling", "convolution", options={"window": 2}),
    ]
    formula = f"{len(names)}·3·3 = {kernel.size}"
    layers = [Row("convolution", "Conv", (None, 26, 26, len(names)), kernel.size, formula)]
    layers.append(Row("pooling", "MaxPool", (None, 13, 13, len(names)), 0, ""))
    maps = {"convolution": names, "pooling": names}
    seven = [[(0.26, 0.2), (0.74, 0.18), (0.45, 0.85)]]
    return DrawingNetwork(nodes, layers, maps, 28, seven)


def _slides(image: Grid, kernel: Window) -> Slides:
    steps = window_steps(image, kernel)
    labels = [f"window {i} of {len(steps)}: {step.total:g}" for i, step in enumerate(steps, 1)]
    pngs = list(map(png, figures.window_slides(image, kernel, steps)))
    return Slides(pngs, labels, seconds=1.6)
