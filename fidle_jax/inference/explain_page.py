"""Draw the methods of `fidle_jax.inference.explain` and describe how to read them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import softmax

from fidle_jax.inference.explain import STEPS, Explanation
from fidle_jax.report.html import brief_percent, read_texts
from fidle_jax.report.lesson import Picture, Section
from fidle_jax.report.network import feature_maps, learned_kernels
from fidle_jax.report.style import BLUE, SMALL, TEXT, VERMILLION, WIDTH, new_figure, png, short

SIGNED, UNSIGNED = "RdBu_r", "viridis"  # as in the figure of the kernels, red is positive
MAX_BARS = 10
MAX_LETTERS = 26  # of the name of a class


class Example(NamedTuple):
    """An input of the network, its name, and its true class if it is known."""

    name: str
    pixels: UInt8[np.ndarray, "height width channel"]
    truth: int | None = None


class Panel(NamedTuple):
    """A map over the whole image, at any resolution."""

    title: str
    values: Float[np.ndarray, "row column"]
    signed: bool = False  # centre the colours at 0 instead of starting there
    limit: float | None = None  # upper end of the colours (default: maximum of the absolute values)


def make_sections(
    examples: list[Example], explanations: list[Explanation], class_names: tuple[str, ...]
) -> list[Section]:
    """Return a section for each method, with a picture of each example, and one for the kernels."""
    first = explanations[0]
    values = {"steps": STEPS, "layer": first.layer, "side": first.side}
    texts = read_texts("explain.md.j2", "fidle_jax.inference", **values)
    pictures = {name: [] for name in texts}
    for number, (example, one) in enumerate(zip(examples, explanations, strict=True), start=1):
        subject = f"{example.name}, class {class_names[one.target]}"
        captions = _captions(summarise(example, one, class_names))
        for name, figure in draw_methods(example, one, class_names).items():
            title, caption = f"{texts[name][0]}: {subject}", f"{subject}{captions.get(name, '')}."
            pictures[name].append(Picture(f"{name}_{number}", title, caption, png(figure)))
    if first.intermediates.kernels:
        figure = png(learned_kernels(first.intermediates.kernels))
        pictures["kernels"].append(Picture("kernels", "The kernels", "By convolution.", figure))
    else:
        del texts["kernels"]
    return [Section(*texts[name], pictures[name]) for name in texts]


def summarise(example: Example, one: Explanation, class_names: tuple[str, ...]) -> dict[str, Any]:
    """Return the numbers of an explanation for explanation.json."""
    probabilities = softmax(one.logits)
    answer = int(one.logits.argmax())
    fall = one.logits[one.target] - one.occluded[..., one.target]
    total = float(one.integrated.sum())
    return {
        "name": example.name,
        "truth": None if example.truth is None else class_names[example.truth],
        "answer": class_names[answer],
        "probability": float(probabilities[answer]),
        "target": class_names[one.target],
        "probabilities": dict(zip(class_names, map(float, probabilities), strict=True)),
        "integrated_gradients": {
            "baseline": one.baseline.tolist(),
            "sum": total,
            "difference": one.difference,
            "error": total - one.difference,
        },
        "grad_cam": {"layer": one.layer},
        "occlusion": {
            "side": one.side,
            "largest_fall": float(fall.max()),
            "answer_changes": float((one.occluded.argmax(-1) != answer).mean()),
        },
    }


def _captions(numbers: dict[str, Any]) -> dict[str, str]:
    answer = f"; the answer is {numbers['answer']} with {100 * numbers['probability']:.1f} %"
    if numbers["truth"] is not None:
        answer += f", the true class is {numbers['truth']}"
    integrated, occlusion = numbers["integrated_gradients"], numbers["occlusion"]
    completeness = (
        f"; the values sum to {integrated['sum']:.4f}, the logits differ by "
        f"{integrated['difference']:.4f}: an error of {integrated['error']:.4f}"
    )
    changes = f"; the answer changes at {100 * occlusion['answer_changes']:.0f} % of the positions"
    return {
        "answer": answer,
        "integrated_gradients": completeness.replace("-", "−"),
        "occlusion": changes,
    }


def draw_methods(
    example: Example, one: Explanation, class_names: tuple[str, ...]
) -> dict[str, Figure]:
    """Return the figure of each method by name, without Grad-CAM if there is none."""
    image, target = example.pixels, one.target
    fall = one.logits[target] - one.occluded[..., target]
    remaining = softmax(one.occluded, axis=-1)[..., target]
    panels = {
        "saliency": [
            Panel("gradient", one.gradient.sum(-1), signed=True),
            Panel("absolute gradient", np.abs(one.gradient).max(-1)),
        ],
        "integrated_gradients": [
            Panel("integrated gradients", one.integrated.sum(-1), signed=True)
        ],
        "occlusion": [
            Panel("fall of the logit", fall, signed=True),
            Panel("remaining probability", remaining, limit=1.0),
        ],
    }
    if one.cam is not None:
        panels["grad_cam"] = [Panel("Grad-CAM", one.cam)]
    figures = {name: draw_maps(image, *each) for name, each in panels.items()}
    if one.cam is not None and one.cam.max() > 2 * one.cam.min():
        axes, level = figures["grad_cam"].axes[0], one.cam.max() / 2
        axes.contour(one.cam, levels=[level], colors=VERMILLION, linewidths=2.5)
    figures["answer"] = draw_answer(image, one.logits, class_names, target, example.truth)
    figures["layers"] = feature_maps(one.intermediates.maps, list(class_names))
    return figures


def draw_answer(
    image: UInt8[np.ndarray, "height width channel"],
    logits: Float[np.ndarray, " class"],
    class_names: Sequence[str],
    target: int,
    truth: int | None = None,
) -> Figure:
    """Draw the image and the probabilities of at most ten classes. The target has another colour."""
    values = softmax(logits)
    shown = np.arange(len(values))
    if len(shown) > MAX_BARS:
        shown = np.argsort(-values, kind="stable")[:MAX_BARS]
    figure = new_figure(height=3.4)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.4))
    _draw_image(left, image)
    colours = [VERMILLION if each == target else BLUE for each in shown]
    bars = right.barh(range(len(shown)), values[shown], color=colours)
    labels = [brief_percent(float(value)) for value in values[shown]]
    right.bar_label(bars, labels, padding=4, fontsize=SMALL)
    names = [
        short(class_names[int(each)], MAX_LETTERS) + (" (true)" if each == truth else "")
        for each in shown
    ]
    right.set_yticks(range(len(shown)), names, fontsize=SMALL)
    for label, each in zip(right.get_yticklabels(), shown, strict=True):
        label.set_color(VERMILLION if each == target else "black")
    right.set(xlim=(0, 1.25), xticks=[])
    right.tick_params(length=0)
    right.invert_yaxis()
    right.spines[["top", "right", "bottom"]].set_visible(False)
    return figure


def draw_maps(image: UInt8[np.ndarray, "height width channel"], *panels: Panel) -> Figure:
    """Draw the image and each map next to it, with colour bars below."""
    columns = 1 + len(panels)
    figure = new_figure(height=WIDTH / columns + 0.75)
    figure.set_layout_engine("constrained", wspace=0.06)
    above, below = figure.subplots(2, columns, height_ratios=(24, 1))
    _draw_image(above[0], image)
    above[0].set_title("image", fontsize=TEXT)
    below[0].set_axis_off()
    height, width, _ = image.shape
    for axes, bar_axes, panel in zip(above[1:], below[1:], panels, strict=True):
        limit = panel.limit or float(np.abs(panel.values).max()) or 1.0
        drawn = axes.imshow(
            panel.values,
            cmap=SIGNED if panel.signed else UNSIGNED,
            vmin=-limit if panel.signed else 0,
            vmax=limit,
            extent=(-0.5, width - 0.5, height - 0.5, -0.5),
            interpolation="nearest",
        )
        axes.set_title(panel.title, fontsize=TEXT)
        axes.set(xticks=[], yticks=[])
        bar = figure.colorbar(drawn, cax=bar_axes, orientation="horizontal")
        ticks = (-limit, 0, limit) if panel.signed else (0, limit)
        labels = [f"{tick:.2g}".replace("-", "−") for tick in ticks]
        bar.set_ticks(ticks, labels=labels, fontsize=SMALL)
    return figure


def _draw_image(axes: Axes, image: np.ndarray) -> None:
    shown = image.squeeze(axis=2) if image.shape[2] == 1 else image
    axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
