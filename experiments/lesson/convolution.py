"""What a convolution computes, window by window, what it makes of sizes, and why it is not a dense layer."""

import dataclasses
import importlib.resources
from typing import TYPE_CHECKING

from _convolution_windows import dimensions, principle
from _lesson import Flags, Lesson, check_range, main

from fidle_jax.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from fidle_jax.lessons.layer_costs import ConvLayer, Stage
    from fidle_jax.report.lesson import Section


@dataclasses.dataclass(frozen=True)
class Convolution(Flags):
    """The layer that is set against a dense one, beside the two of the course."""

    height: int = 200
    """Of the image."""
    width: int = 200
    """Of the image."""
    planes: int = 3
    """Of the image: 1 of a grey one, 3 of colours."""
    kernels: int = 8
    """How many the layer has; each gives a plane."""
    kernel_size: int = 3
    """Side of its kernels."""


def teach(flags: Convolution) -> Lesson:
    """The lesson; raises InputError where a flag is out of its range, or the photograph is not there."""
    _check(flags)
    from fidle_jax.lessons.convolution import IMAGE, KERNEL, window_steps
    from fidle_jax.lessons.layer_costs import (
        FIRST,
        SECOND,
        ConvLayer,
        conv_costs,
        dense_costs,
        numbers_of,
        stages,
    )
    from fidle_jax.nn import CNN

    steps = window_steps(IMAGE, KERNEL)
    passed = stages(CNN(), (28, 28, 1))
    params = sum(stage.params for stage in passed)
    asked = ConvLayer(flags.height, flags.width, flags.planes, flags.kernels, flags.kernel_size)
    layers = [FIRST, SECOND, asked]
    first_row = [f"{step.total:g}" for step in steps if step.place[0] == 0]
    sides = [str(stage.shape[0]) for stage in passed[1:] if len(stage.shape) == 3]
    return Lesson(
        title="Convolution",
        summary=(
            "A kernel slides over an image. At each place the values under it are multiplied by its own, one "
            "by one, and the products are summed. The same few weights serve everywhere, so that a "
            "convolutional layer learns far fewer than a dense one, and finds a pattern wherever it is."
        ),
        facts={
            "first row of the result": ", ".join(first_row),
            "sides of the planes in the course's CNN": ", ".join(sides),
            "its parameters": f"{params:,}",
            "those of its first layer": f"{conv_costs(FIRST).params:,}",
            "those of a dense layer in its place": f"{dense_costs(FIRST).params:,}",
        },
        sections=[
            principle(steps),
            dimensions(),
            _sizes(),
            _chain(passed),
            _effects(),
            _costs(layers),
        ],
        numbers={
            "sums": [step.total for step in steps],
            "stages": [stage._asdict() for stage in passed],
            "parameters": params,
            "layers": list(map(numbers_of, layers)),
        },
    )


def _check(flags: Convolution) -> None:
    for name in ("height", "width", "planes", "kernels"):
        check_range(name, getattr(flags, name), 1, 10_000)
    # A larger kernel would have no place in the image.
    check_range("kernel-size", flags.kernel_size, 1, min(flags.height, flags.width))


def _sizes() -> "Section":
    from fidle_jax.lessons.convolution import POOLED, pool
    from fidle_jax.report.lesson import Section, picture
    from fidle_jax.report.lessons.convolution_sizes import (
        layouts_figure,
        make_layout,
        pooling_figure,
    )

    layouts = [
        *(
            make_layout("", 3, padding, stride)
            for padding in ("valid", "same")
            for stride in (1, 2)
        ),
        make_layout("", 5, "valid", 1),
        make_layout("pooling", 2, "valid", 2),
    ]
    return Section(
        "Padding, strides and pooling",
        "Without padding (valid) a window of k has ⌊(n − k) / s⌋ + 1 places along n values at stride s. With "
        "padding (same) it has ⌈n / s⌉: at stride 1 the image keeps its size.",
        [
            picture(
                "sizes",
                "How padding and strides change an image's size",
                "Left of each arrow an image of 7×7, right of it the result; beside its size, what becomes "
                "of 28. Framed: the first window and its value; dashed: the next. Dotted cells are padding "
                "with zeros. White cells are under no window: the last row and column of seven are lost to "
                "a pooling.",
                layouts_figure(layouts),
            ),
            picture(
                "pooling",
                "Max pooling 2×2",
                "Max pooling keeps the largest value of each tile of 2×2, framed, and has no parameters.",
                pooling_figure(POOLED, pool(POOLED)),
            ),
        ],
    )


def _chain(passed: "list[Stage]") -> "Section":
    from fidle_jax.report.lesson import Section, picture
    from fidle_jax.report.lessons.convolution_sizes import chain_figure, chain_table

    return Section(
        "Through the course's network",
        shown=[
            picture(
                "chain",
                "The shapes in the course's CNN from the image to the ten classes",
                "Each square is a plane, drawn to scale, and each bar a row of values; the parameters of a "
                "layer stand under its name. Planes become smaller and more. Nearly all parameters are "
                "those of the first dense layer.",
                chain_figure(passed),
            ),
            chain_table(passed),
        ],
    )


def _effects() -> "Section":
    from fidle_jax.lessons.convolution import KERNELS, convolve, is_signed
    from fidle_jax.report.lesson import Section, picture
    from fidle_jax.report.lessons.convolution import effects_figure, kernels_figure

    signed = [name for name, kernel in KERNELS.items() if is_signed(kernel)]
    digit, photograph = (
        effects_figure({name: convolve(image, kernel) for name, kernel in KERNELS.items()}, signed)
        for image in (_digit(), _photograph())
    )
    return Section(
        "What kernels can do",
        "These six were made by hand. A network learns its own, and often finds some that resemble them.",
        [
            picture(
                "kernels",
                "The values of six classic kernels",
                "Blue: above zero; orange: below. Where the values sum up to 1 the brightness is kept; where "
                "they sum up to 0 a uniform area gives 0.",
                kernels_figure(KERNELS),
            ),
            picture(
                "digit",
                "The six kernels on a digit",
                "A digit of MNIST. Grey: values from 0 (black) to 1 (white), what lies outside is cut off. "
                "Colours: signed values with zero in the middle; each picture has its own scale, and its "
                "strongest hundredth has the colours of the ends.",
                digit,
            ),
            picture(
                "photograph",
                "The six kernels on a photograph",
                "A photograph of 128×128 in the same colours. Sobel x answers to vertical edges, Sobel y to "
                "horizontal ones, the Laplacian to both sides of any edge and to fine detail.",
                photograph,
            ),
        ],
    )


def _digit() -> "np.ndarray":
    from fidle_jax.data.sample import load_sample

    split = load_sample(0).read("train")
    return split.images[split.labels == 5][0, :, :, 0].astype("float32") / 255


def _photograph() -> "np.ndarray":
    """The cameraman that scikit-image has in its wheel, his head and camera, at half the size."""
    import numpy as np
    from PIL import Image

    from fidle_jax.lessons.convolution import halve

    path = importlib.resources.files("skimage").joinpath("data", "camera.png")
    try:
        with path.open("rb") as file, Image.open(file) as photograph:
            values = np.asarray(photograph.convert("L"), np.float32) / 255
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}); reinstall scikit-image") from None
    return halve(values[50:306, 130:386])


def _costs(layers: "list[ConvLayer]") -> "Section":
    from fidle_jax.lessons.layer_costs import dense_costs
    from fidle_jax.report.lesson import Section, picture
    from fidle_jax.report.lessons.convolution import costs_figure, costs_tables

    params, multiplications = costs_tables(layers)
    return Section(
        "Why not a dense layer",
        "m kernels of kx·ky over n planes have m·(n·kx·ky + 1) parameters, however large the image is. "
        "n neurons on m inputs have n·(m + 1). Here the dense layer gives as many outputs as the "
        "convolution.\n\n"
        "The parameters of the last dense layer alone would take "
        f"{4 * dense_costs(layers[-1]).params / 1e9:,.3g} GB as float32.",
        [
            params,
            picture(
                "costs",
                "Parameters of convolutional and dense layers",
                "Parameters of a convolution and of a dense layer in its place. Mind the scale: it is "
                "logarithmic.",
                costs_figure(layers),
            ),
            multiplications,
        ],
    )


if __name__ == "__main__":
    main("convolution", __doc__, Convolution(), teach)
