"""Figures of a convolution at one place of its window after the other, in 1, 2 and 3 dimensions."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from fidle_jax.lessons.convolution import Step
from fidle_jax.report.lessons.convolution import (
    PALE,
    PAPER,
    WARM,
    canvas,
    draw_cells,
    outline,
    plain,
)
from fidle_jax.report.style import GREY, SMALL, TEXT, VERMILLION


def written_sum(step: Step, kernel: Float[np.ndarray, "*window"]) -> tuple[str, str]:
    """The sum of the window's products: with both factors of each, and with the products."""
    factors = [
        f"{plain(value)}·{plain(weight) if weight >= 0 else f'({plain(weight)})'}"
        for value, weight in zip(step.values.ravel(), kernel.ravel(), strict=True)
    ]
    products = [plain(each) if each >= 0 else f"({plain(each)})" for each in step.products.ravel()]
    return " + ".join(factors), f"= {' + '.join(products)} = {plain(step.total)}"


def _label(axes, x, y, text, size=TEXT, **how):
    axes.text(x, y, text, **{"ha": "center", "va": "center", "size": size} | how)


def _texts(values: Float[np.ndarray, "row column"]) -> list[list[str]]:
    return [list(map(plain, row)) for row in values]


def plane_slides(
    image: Float[np.ndarray, "row column"],
    kernel: Float[np.ndarray, "kx ky"],
    steps: Sequence[Step],
) -> list[Figure]:
    """A figure for each step: image with the window, kernel, products, sum, and the result so far."""
    return [_plane_slide(image, kernel, steps[: count + 1]) for count in range(len(steps))]


def _plane_slide(image, kernel, steps):
    (rows, columns), (height, width) = image.shape, kernel.shape
    down, along = rows - height + 1, columns - width + 1
    gap, top = 1.3, 1.4
    lefts = np.cumsum([0.5, columns + gap, width + gap, width + gap])
    figure, axes = canvas(lefts[-1] + along + 0.5, top + rows + 3)
    middle = top + (rows - height) / 2
    step = steps[-1]
    y, x = step.place

    def in_window(row, column):
        return y <= row < y + height and x <= column < x + width

    def counted(row, column):
        return PALE if kernel[row, column] else PAPER

    draw_cells(
        axes,
        lefts[0],
        top,
        _texts(image),
        fill=lambda r, c: counted(r - y, c - x) if in_window(r, c) else PAPER,
        ink=lambda r, c: "black" if in_window(r, c) else GREY,
    )
    outline(axes, lefts[0] + x, top + y, width, height)
    draw_cells(axes, lefts[1], middle, _texts(kernel), fill=counted)
    draw_cells(
        axes,
        lefts[2],
        middle,
        _texts(step.products),
        fill=counted,
        ink=lambda r, c: "black" if kernel[r, c] else GREY,
    )
    _draw_result(axes, lefts[3], middle + (height - down) / 2, steps, down, along)
    titles = ("image", "kernel", "products", "result")
    for left, title, wide in zip(lefts, titles, (columns, width, width, along), strict=True):
        _label(axes, left + wide / 2, 0.75, title, weight="bold")
    for left, sign in zip(lefts[1:], "×=Σ", strict=True):
        _label(axes, left - gap / 2, middle + height / 2, sign, size=TEXT + 4)
    _draw_sum(axes, top + rows + 1, step, kernel)
    return figure


def _draw_result(axes, left, top, steps, down, along, layer=()):
    """The sums so far in the plane of the result that ``layer`` is the index of; the last is framed."""
    texts = [[""] * along for _ in range(down)]
    for step in steps:
        if step.place[:-2] == layer:
            row, column = step.place[-2:]
            texts[row][column] = plain(step.total)
    draw_cells(axes, left, top, texts, fill=lambda r, c: WARM if texts[r][c] else PAPER)
    if steps[-1].place[:-2] == layer:
        row, column = steps[-1].place[-2:]
        outline(axes, left + column, top + row, 1, 1)


def _draw_sum(axes, top, step, kernel):
    middle = np.mean(axes.get_xlim())
    for line, text in enumerate(written_sum(step, kernel)):
        _label(axes, middle, top + line, text)


def signal_figure(
    signal: Float[np.ndarray, " place"],
    kernel: Float[np.ndarray, " kx"],
    steps: Sequence[Step],
) -> Figure:
    """All steps of a signal below each other: the kernel under its window, and the sum beside it."""
    places, size = len(signal), len(kernel)
    left, pitch = 2.4, 1.3
    words = left + places + 0.7
    figure, axes = canvas(words + 6.4, pitch * (len(steps) + 2) + 0.8)
    draw_cells(axes, left, 0.4, _texts(signal[None]), fill=lambda row, column: PALE)
    _label(axes, left - 0.3, 0.9, "signal", ha="right", weight="bold")
    for row, step in enumerate(steps, start=1):
        top, start = 0.4 + pitch * row, left + step.place[0]
        draw_cells(axes, start, top, _texts(kernel[None]))
        outline(axes, start, top, size, 1)
        _label(
            axes,
            words,
            top + 0.5,
            f"{written_sum(step, kernel)[0]} = {plain(step.total)}",
            ha="left",
        )
    top = 0.4 + pitch * (len(steps) + 1)
    result = np.array([[step.total for step in steps]])
    draw_cells(axes, left + (size - 1) / 2, top, _texts(result), fill=lambda row, column: WARM)
    _label(axes, left - 0.3, 0.9 + pitch, "kernel", ha="right", weight="bold")
    _label(axes, left - 0.3, top + 0.5, "result", ha="right", weight="bold")
    return figure


def cube_slides(
    cube: Float[np.ndarray, "depth row column"],
    kernel: Float[np.ndarray, "kz kx ky"],
    steps: Sequence[Step],
) -> list[Figure]:
    """A figure for each step: the cube in space and slice by slice, kernel, products, sum, result so far."""
    return [_cube_slide(cube, kernel, steps[: count + 1]) for count in range(len(steps))]


def _cube_slide(cube, kernel, steps):
    step = steps[-1]
    sides = np.array(kernel.shape)
    counts = np.array(cube.shape) - sides + 1
    gap, top, left = 0.4, 2.6, 6.6
    figure, axes = canvas(18.2, 12.4)
    _draw_in_space(axes, 1.0, top, cube.shape, step.place, sides)
    _label(axes, 3.4, 0.75, "cube", weight="bold")
    pitch = cube.shape[2] + gap
    middle = left + (len(cube) * pitch - gap) / 2
    _label(axes, middle, 0.75, "its slices, from front to back", weight="bold")
    z, y, x = step.place
    for depth, plane in enumerate(cube):
        at = left + depth * pitch
        draw_cells(axes, at, top, _texts(plane))
        _label(axes, at + cube.shape[2] / 2, top - 0.6, str(depth + 1), size=SMALL)
        if z <= depth < z + sides[0]:
            outline(axes, at + x, top + y, sides[2], sides[1])
    top, wide, apart = 7.6, sides[0] * (sides[2] + gap) - gap, 1.5
    lefts = 1.0 + np.arange(3) * (wide + apart)
    for at, title in zip(lefts, ("kernel", "products", "result"), strict=True):
        _label(axes, at + wide / 2, top - 0.8, title, weight="bold")
    for at, sign in zip(lefts[1:], ("=", "Σ"), strict=True):
        _label(axes, at - apart / 2, top + sides[1] / 2, sign, size=TEXT + 4)
    for depth in range(sides[0]):
        along = depth * (sides[2] + gap)

        def counted(row, column, weights=kernel[depth]):
            return PALE if weights[row, column] else PAPER

        draw_cells(axes, lefts[0] + along, top, _texts(kernel[depth]), fill=counted)
        draw_cells(axes, lefts[1] + along, top, _texts(step.products[depth]), fill=counted)
    for depth in range(counts[0]):
        at = lefts[2] + depth * (counts[2] + gap)
        _draw_result(axes, at, top, steps, counts[1], counts[2], layer=(depth,))
    _draw_sum(axes, top + sides[1] + 1.1, step, kernel)
    return figure


def _draw_in_space(axes, left, top, shape, place, sides):
    """The window within the whole, in a cabinet projection: depth goes back to the upper right."""

    def flat(z, y, x):
        return left + x + 0.55 * z, top + y - 0.45 * z

    low, high = np.array(place), np.array(place) + sides
    lines = {"facecolor": "none", "edgecolor": "#9AA0A6", "linewidth": 0.8}
    nothing = np.zeros(3, int)
    # What the window hides comes before it, what stands before the window after it.
    for axis, at in ((0, shape[0]), (1, shape[1]), (2, 0)):
        _draw_face(axes, flat, nothing, shape, axis, at, lines | {"linestyle": ":"})
    for axis, at, face in (
        (0, low[0], VERMILLION),
        (1, low[1], "#F0A06A"),
        (2, high[2], "#A34700"),
    ):
        _draw_face(axes, flat, low, high, axis, at, {"facecolor": face, "edgecolor": "white"})
    for axis, at in ((0, 0), (1, 0), (2, shape[2])):
        _draw_face(axes, flat, nothing, shape, axis, at, lines)


def _draw_face(axes, flat, low, high, axis, at, how):
    """The unit squares of a box's face that lies at ``at`` along ``axis``."""
    first, second = (other for other in range(3) if other != axis)
    for a in range(low[first], high[first]):
        for b in range(low[second], high[second]):
            corners = []
            for point in ((a, b), (a, b + 1), (a + 1, b + 1), (a + 1, b)):
                corners.append(flat(*np.insert(point, axis, at)))
            axes.add_patch(Polygon(corners, **how))
