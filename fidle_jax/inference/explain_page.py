"""Draw the methods of `fidle_jax.inference.explain` and describe how to read them."""

import html
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import softmax

from fidle_jax.inference.explain import STEPS, Explanation
from fidle_jax.report.html import brief_percent, read_texts, rounded, show_png
from fidle_jax.report.lesson import Picture, Section
from fidle_jax.report.network import feature_maps
from fidle_jax.report.style import BLUE, SMALL, TEXT, VERMILLION, WIDTH, new_figure, png, short

SIGNED, UNSIGNED = "RdBu_r", "viridis"  # as in the figure of the kernels, red is positive
MAX_BARS = 10
MAX_LETTERS = 26  # of the name of a class


class Figures(NamedTuple):
    """An explanation whose figures a notebook shows."""

    explanation: Explanation
    class_names: tuple[str, ...]

    def __repr__(self) -> str:
        """Return one line."""
        one = self.explanation
        notes = _notes(one, self.class_names)["answer"]
        return f"<{one.example.name}: class {self.class_names[one.target]} explained{notes}>"

    def _repr_html_(self) -> str:
        figures = draw_methods(self.explanation, self.class_names)
        shown = [
            f"<h4>{name.replace('_', ' ')}</h4>{show_png(png(figures[name]))}" for name in figures
        ]
        return f"<pre>{html.escape(repr(self))}</pre>{''.join(shown)}"


def make_sections(explanations: list[Explanation], class_names: tuple[str, ...]) -> list[Section]:
    """Return a section for each method, with a picture of each example."""
    first = explanations[0]
    values = {"steps": STEPS, "layer": first.layer, "side": first.side}
    texts = read_texts("explain.md.j2", "fidle_jax.inference", **values)
    pictures = {name: [] for name in texts}
    for number, one in enumerate(explanations, start=1):
        subject = f"{one.example.name}, class {class_names[one.target]}"
        notes = _notes(one, class_names)
        for name, figure in draw_methods(one, class_names).items():
            title, caption = f"{texts[name][0]}: {subject}", f"{subject}{notes.get(name, '')}."
            pictures[name].append(Picture(f"{name}_{number}", title, caption, png(figure)))
    return [Section(*texts[name], shown) for name, shown in pictures.items() if shown]


def summarise(one: Explanation, class_names: tuple[str, ...]) -> dict[str, Any]:
    """Return the numbers of an explanation for explanation.json."""
    probabilities, truth = softmax(one.logits), one.example.truth
    return {
        "name": one.example.name,
        "truth": None if truth is None else class_names[truth],
        "answer": class_names[one.logits.argmax()],
        "probability": float(probabilities.max()),
        "target": class_names[one.target],
        "probabilities": dict(zip(class_names, map(float, probabilities), strict=True)),
        "integrated_gradients": {
            "baseline": one.baseline.tolist(),
            "sum": float(one.integrated.sum()),
            "difference": one.difference,
        },
    }


def _notes(one: Explanation, class_names: tuple[str, ...]) -> dict[str, str]:
    """Return the ends of captions, by method."""
    answer, truth = int(one.logits.argmax()), one.example.truth
    text = f"; the answer is {class_names[answer]} with {100 * softmax(one.logits)[answer]:.1f} %"
    if truth is not None:
        text += f", the true class is {class_names[truth]}"
    total, changes = one.integrated.sum(), (one.occluded.argmax(-1) != answer).mean()
    sums = f"; the values sum to {rounded(total)}, the logits differ by {rounded(one.difference)}"
    return {
        "answer": text,
        "integrated_gradients": sums.replace("-", "−"),
        "occlusion": f"; the answer changes at {100 * changes:.0f} % of the positions",
    }


def draw_methods(one: Explanation, class_names: tuple[str, ...]) -> dict[str, Figure]:
    """Map the name of each method to its figure, and add the figures "answer" and "layers".

    If there is no Grad-CAM, omit it.
    """
    image, target = one.example.pixels, one.target
    fall = one.logits[target] - one.occluded[..., target]
    signed = {
        "saliency": (one.gradient.sum(-1), "gradient"),
        "integrated_gradients": (one.integrated.sum(-1), "contribution"),
        "occlusion": (fall, "fall of the logit"),
    }
    figures = {name: draw_map(image, *drawn, signed=True) for name, drawn in signed.items()}
    if one.cam is not None:
        figures["grad_cam"] = draw_map(image, one.cam, "Grad-CAM")
    if one.cam is not None and one.cam.max() > 2 * one.cam.min():
        axes, level = figures["grad_cam"].axes[0], one.cam.max() / 2
        axes.contour(one.cam, levels=[level], colors=VERMILLION, linewidths=2.5)
    figures["answer"] = draw_answer(one, class_names)
    figures["layers"] = feature_maps(one.maps, list(class_names))
    return figures


def draw_answer(one: Explanation, class_names: tuple[str, ...]) -> Figure:
    """Draw the image and the probabilities of at most ten classes. The target has another colour."""
    values = softmax(one.logits)
    shown = np.arange(len(values))
    if len(shown) > MAX_BARS:
        shown = np.argsort(-values, kind="stable")[:MAX_BARS]
    figure = new_figure(height=3.4)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.4))
    _draw_image(left, one.example.pixels)
    colours = [VERMILLION if each == one.target else BLUE for each in shown]
    bars = right.barh(range(len(shown)), values[shown], color=colours)
    labels = [brief_percent(float(value)) for value in values[shown]]
    right.bar_label(bars, labels, padding=4, fontsize=SMALL)
    names = [
        short(class_names[each], MAX_LETTERS) + (" (true)" if each == one.example.truth else "")
        for each in shown
    ]
    right.set_yticks(range(len(shown)), names, fontsize=SMALL)
    right.set(xlim=(0, 1.25), xticks=[])
    right.tick_params(length=0)
    right.invert_yaxis()
    right.spines[["top", "right", "bottom"]].set_visible(False)
    return figure


def draw_map(
    image: UInt8[np.ndarray, "height width channel"],
    values: Float[np.ndarray, "row column"],
    title: str,
    signed: bool = False,
) -> Figure:
    """Draw the image, and next to it a map over the whole image, at any resolution.

    The colours of a signed map are centred at 0. The others start at 0.
    """
    figure = new_figure(height=WIDTH / 2 + 0.75)
    figure.set_layout_engine("constrained", wspace=0.06)
    (left, right), (empty, bar) = figure.subplots(2, 2, height_ratios=(24, 1))
    _draw_image(left, image)
    left.set_title("image", fontsize=TEXT)
    empty.set_axis_off()
    height, width, _ = image.shape
    limit = float(np.abs(values).max()) or 1.0
    drawn = right.imshow(
        values,
        cmap=SIGNED if signed else UNSIGNED,
        vmin=-limit if signed else 0,
        vmax=limit,
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation="nearest",
    )
    right.set_title(title, fontsize=TEXT)
    right.set(xticks=[], yticks=[])
    ticks = (-limit, 0, limit) if signed else (0, limit)
    look = {"orientation": "horizontal", "ticks": ticks, "format": "{x:.2g}"}
    figure.colorbar(drawn, cax=bar, **look).ax.tick_params(labelsize=SMALL)
    return figure


def _draw_image(axes: Axes, image: np.ndarray) -> None:
    shown = image.squeeze(axis=2) if image.shape[2] == 1 else image
    axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
