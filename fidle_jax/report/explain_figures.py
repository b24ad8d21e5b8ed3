"""Figures of an answer and what it depends on, and what to see in them and what not to conclude."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import softmax

from fidle_jax.report.html import brief_percent
from fidle_jax.report.style import BLUE, SMALL, TEXT, VERMILLION, WIDTH, new_figure, short

SIGNED, UNSIGNED = "RdBu_r", "viridis"  # the former as the kernels have it: red is above zero
MOST_BARS = 10
LETTERS = 26  # of a class's name

ANSWER = (
    "The image as the network is given it, and the probabilities of the classes, which are the softmax of "
    "the logits. Orange: the class that the rest of the page explains.\n\n"
    "What not to conclude: that a high probability is a sure answer. The probabilities sum up to 1 for any "
    "image, also for one of a kind that the network was never trained on."
)
SALIENCY = (
    "By how much the class's logit changes, per unit of white, if a pixel alone becomes a little lighter: "
    "the gradient in the image. Red: lighter raises the logit; blue: darker does; of a coloured image it is "
    "the sum over the channels. On the right the largest size over the channels, which is what Simonyan, "
    "Vedaldi and Zisserman (2014) call saliency.\n\n"
    "What not to conclude: that pixels with a large gradient have made the answer. It says what a small "
    "change would do, not what is there; and what a network relies on may have none where the network is "
    "sure already. Red beside blue is the rule, and what a single pixel has is mostly noise."
)
INTEGRATED = (
    "From an empty image, the start, to this one on a straight way of {steps} steps: the mean of the "
    "gradient, times how far each pixel has to go (Sundararajan, Taly and Yan, 2017). The start has the "
    "colour of the border where most of it has one, else it is mid-grey. Red speaks for the class, blue "
    "against it. The values sum up to the difference of the class's logit between image and start, which is "
    "called completeness, but for an error that comes from the steps.\n\n"
    "What not to conclude: that a pixel has its share by itself. Another start gives other shares, and a "
    "pixel of the start's colour has none, though the network may rely on it, as on the gap in a digit."
)
CAM = (
    "The maps of {layer}, each times the mean gradient of the class's logit in it, summed, what is below "
    "zero cut off (Selvaraju et al., 2017): where patterns are that speak for the class. Each cell of the "
    "maps is drawn where the middle of its window lies. The line in the image is at half of the greatest "
    "value.\n\n"
    "What not to conclude: that a spot ends where it is drawn to end. The cells are few and their windows "
    "wide. Nothing is shown that speaks against the class. And the average over all places suits networks "
    "that end in one; where a dense layer weighs each place by itself, as here, a place may be marked for "
    "what counts at another."
)
NO_CAM = (
    "This is left out: the network has no convolution, and so no maps in which places are kept."
)
OCCLUSION = (
    "A square of {side}×{side} pixels slides over the image (Zeiler and Fergus, 2014). It has the colour of "
    "the border where most of it has one, else it is mid-grey. Each place of a map is that of the square's "
    "centre. Red: the class's logit falls while this place is hidden; blue: it rises. On the right the "
    "probability that the class keeps.\n\n"
    "What not to conclude: that the rest does not matter. What is there twice is not missed once, and a "
    "square of another size finds other things. A network that was not trained with squares laid over its "
    "images may also answer to the edge of one."
)
LAYERS = (
    "What each layer makes of the image: at most 16 of its maps, from the layer's least value (dark) to its "
    "greatest (light). The first maps still look like the image, the last ones are coarse; a dense layer is "
    "a strip. At the end there are the logits.\n\n"
    "What not to conclude: that each map stands for something that has a name. A pattern is mostly spread "
    "over several maps, and a light map may have small weights in the next layer."
)
KERNELS = (
    "The weights of the convolutions: red above zero, blue below. They are the same for every image.\n\n"
    "What not to conclude: much, beyond the first layer. Its kernels meet pixels, and some of them look for "
    "edges; those of later layers meet maps, and say little by themselves."
)

# Titles and texts, to be formatted with the number of integrated gradients' steps, Grad-CAM's layer and the
# side of the square.
METHODS = {
    "answer": ("The answer", ANSWER),
    "saliency": ("Saliency: the gradient", SALIENCY),
    "integrated_gradients": ("Integrated gradients", INTEGRATED),
    "grad_cam": ("Grad-CAM", CAM),
    "occlusion": ("Occlusion", OCCLUSION),
    "layers": ("Layer by layer", LAYERS),
}


@dataclass(frozen=True)
class Panel:
    """A map over the whole image.

    Attributes:
        title: in a few words.
        values: of any resolution.
        signed: whether zero is in the middle of the colours, or at their lower end.
        most: the value at their upper end; None: the largest size there is.
    """

    title: str
    values: Float[np.ndarray, "row column"]
    signed: bool = False
    most: float | None = None


def answer_figure(
    image: UInt8[np.ndarray, "h w c"],
    logits: Float[np.ndarray, " class"],
    class_names: Sequence[str],
    target: int,
    truth: int | None = None,
) -> Figure:
    """The image, and a bar for each class's probability, for the ten greatest where there are more.

    The class ``target`` and its bar have another colour, the class ``truth`` a word.
    """
    values = softmax(logits)
    shown = np.arange(len(values))
    if len(shown) > MOST_BARS:
        shown = np.argsort(-values, kind="stable")[:MOST_BARS]
    figure = new_figure(height=3.4)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.4))
    _draw_image(left, image)
    colours = [VERMILLION if each == target else BLUE for each in shown]
    bars = right.barh(range(len(shown)), values[shown], color=colours)
    right.bar_label(bars, list(map(brief_percent, values[shown])), padding=4, fontsize=SMALL)
    words = [
        short(class_names[int(each)], LETTERS) + (" (true)" if each == truth else "")
        for each in shown
    ]
    right.set_yticks(range(len(shown)), words, fontsize=SMALL)
    for label, each in zip(right.get_yticklabels(), shown, strict=True):
        label.set_color(VERMILLION if each == target else "black")
    right.set(xlim=(0, 1.25), xticks=[])
    right.tick_params(length=0)
    right.invert_yaxis()
    right.spines[["top", "right", "bottom"]].set_visible(False)
    return figure


def saliency_figure(
    image: UInt8[np.ndarray, "h w c"], gradient: Float[np.ndarray, "h w c"]
) -> Figure:
    """The image, the gradient's sum over the channels, and its largest size there."""
    signed = Panel("gradient", gradient.sum(-1), signed=True)
    return maps_figure(image, [signed, Panel("its size", np.abs(gradient).max(-1))])


def integrated_figure(
    image: UInt8[np.ndarray, "h w c"], values: Float[np.ndarray, "h w c"]
) -> Figure:
    """The image, and the sum of the integrated gradients over the channels."""
    return maps_figure(image, [Panel("integrated gradients", values.sum(-1), signed=True)])


def cam_figure(image: UInt8[np.ndarray, "h w c"], cam: Float[np.ndarray, "h w"]) -> Figure:
    """The map of Grad-CAM beside the image, in which a line runs at half of its greatest value."""
    figure = maps_figure(image, [Panel("Grad-CAM", cam)])
    if cam.max() > 2 * cam.min():
        figure.axes[0].contour(cam, levels=[cam.max() / 2], colors=VERMILLION, linewidths=2.5)
    return figure


def occlusion_figure(
    image: UInt8[np.ndarray, "h w c"],
    logits: Float[np.ndarray, " class"],
    occluded: Float[np.ndarray, "row column class"],
    target: int,
) -> Figure:
    """The image, the fall of the target's logit while a place is hidden, and its probability then."""
    fall = logits[target] - occluded[..., target]
    left = softmax(occluded, axis=-1)[..., target]
    return maps_figure(
        image,
        [Panel("fall of the logit", fall, signed=True), Panel("probability left", left, most=1.0)],
    )


def maps_figure(image: UInt8[np.ndarray, "h w c"], panels: Sequence[Panel]) -> Figure:
    """The image, and each map beside it at the same size, with its colours below."""
    columns = 1 + len(panels)
    figure = new_figure(height=WIDTH / columns + 0.75)
    figure.set_layout_engine("constrained", wspace=0.06)
    above, below = figure.subplots(2, columns, height_ratios=(24, 1))
    _draw_image(above[0], image)
    above[0].set_title("image", fontsize=TEXT)
    below[0].set_axis_off()
    height, width, _ = image.shape
    for axes, bar_axes, panel in zip(above[1:], below[1:], panels, strict=True):
        most = panel.most or float(np.abs(panel.values).max()) or 1.0
        drawn = axes.imshow(
            panel.values,
            cmap=SIGNED if panel.signed else UNSIGNED,
            vmin=-most if panel.signed else 0,
            vmax=most,
            extent=(-0.5, width - 0.5, height - 0.5, -0.5),
            interpolation="nearest",
        )
        axes.set_title(panel.title, fontsize=TEXT)
        axes.set(xticks=[], yticks=[])
        bar = figure.colorbar(drawn, cax=bar_axes, orientation="horizontal")
        ticks = (-most, 0, most) if panel.signed else (0, most)
        bar.set_ticks(ticks, labels=list(map(_brief, ticks)), fontsize=SMALL)
    return figure


def _draw_image(axes: Axes, image: np.ndarray) -> None:
    shown = image.squeeze(axis=2) if image.shape[2] == 1 else image
    axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set(xticks=[], yticks=[])


def _brief(value: float) -> str:
    """Two digits that count, with a real minus."""
    return f"{value:.2g}".replace("-", "−")
