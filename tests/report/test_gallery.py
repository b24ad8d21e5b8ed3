"""The gallery of images with answers."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from fidle_jax.report.pictures import draw_gallery
from fidle_jax.report.style import VERMILLION

LONG = "end of no overtaking by trucks"


def gallery_of(n, answers=("7", "90.0 %"), channels=1, framed=(), title="A run"):
    images = np.random.default_rng(0).integers(0, 256, (n, 8, 8, channels), dtype=np.uint8)
    return images, draw_gallery(images, [answers] * n, framed, title)


def texts_of(figure):
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_has_its_answer_and_probability(channels):
    images, figure = gallery_of(2, channels=channels)
    shown = [image.get_array().reshape(8, 8, channels) for image in figure.axes[0].get_images()]
    np.testing.assert_array_equal(shown, images)
    assert texts_of(figure) == ["A run", "7  90.0 %", "7  90.0 %"]


def test_chosen_images_are_framed():
    _, figure = gallery_of(3, framed=[False, True, False])
    frames = [p for p in figure.axes[0].patches if p.get_edgecolor()[:3] == to_rgb(VERMILLION)]
    assert len(frames) == 1


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        (("A: 1", "B: 2"), "A: 1  B: 2"),
        (("A: no overtaking by trucks", "B: stop"), "A: no overtaking by trucks B: stop"),
    ],
)
def test_short_answers_are_on_one_line_and_long_ones_are_wrapped(answers, text):
    _, figure = gallery_of(2, answers, title="")
    assert texts_of(figure)[0].replace("\n", " ") == text


@pytest.mark.parametrize("n", [1, 9, 40])
@pytest.mark.parametrize(
    "answers", [("7", "10.0 %"), (LONG, "10.0 %"), (f"A: {LONG}", f"B: {LONG}")]
)
@pytest.mark.parametrize("titled", [True, False])
def test_texts_overlap_neither_each_other_nor_the_images(n, answers, titled):
    _, figure = gallery_of(n, answers, title=f"{LONG}; framed: {LONG}" if titled else "")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    texts = [text for text in axes.texts if text.get_text()]
    boxes = [t.get_window_extent().transformed(axes.transData.inverted()) for t in texts]
    boxes = [(b.x0, min(b.y0, b.y1), b.x1, max(b.y0, b.y1)) for b in boxes]
    for image in axes.get_images():
        left, right, bottom, top = image.get_extent()
        boxes.append((left, top, right, bottom))
    boxes = np.array(boxes)
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert boxes[:, 0].min() >= left
    assert boxes[:, 2].max() <= right
    assert boxes[:, 1].min() >= top
    assert boxes[:, 3].max() <= bottom
    across = (boxes[:, None, 0] < boxes[:, 2]) & (boxes[:, 0] < boxes[:, None, 2])
    down = (boxes[:, None, 1] < boxes[:, 3]) & (boxes[:, 1] < boxes[:, None, 3])
    assert (across & down).sum() == len(boxes), "two of them overlap"


def flat(*greys):
    """Pictures of a single grey level."""
    return np.stack([np.full((8, 8, 3), grey, np.uint8) for grey in greys])


def test_groups_of_different_lengths_begin_at_the_same_column_above_their_texts():
    groups, answers = [flat(1), flat(2, 3, 4)], [["the first one"], ["the second one"]]
    figure = draw_gallery(groups, answers, columns=1)
    drawn = figure.axes[0].get_images()
    assert [int(image.get_array()[0, 0, 0]) for image in drawn] == [1, 2, 3, 4]
    lefts = [image.get_extent()[0] for image in drawn]
    assert lefts[0] == lefts[1] < lefts[2]
    assert texts_of(figure) == ["the first one", "the second one"]


@pytest.mark.parametrize("count", [1, 3])
def test_texts_of_groups_stay_within_the_figure(count):
    names = [[f"a rather long name of a sign with the number {k}"] for k in range(5)]
    figure = draw_gallery([flat(*range(count))] * 5, names, columns=4)
    figure.draw_without_rendering()
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width
