import numpy as np
import pytest
from matplotlib.colors import to_rgb

from fidle_jax.report.contact_sheet import PER_SHEET, contact_sheet
from fidle_jax.report.style import VERMILLION

LONG = "end of no overtaking by trucks"


def sheet_of(n, answer="7", probability=0.9, channels=1, name="digit", title="A run"):
    images = np.random.default_rng(0).integers(0, 256, (n, 8, 8, channels), dtype=np.uint8)
    return images, contact_sheet(
        images, [f"{name}-{i}" for i in range(n)], [answer] * n, np.full(n, probability), title
    )


def texts_of(figure):
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_is_shown_as_it_is_with_answer_probability_and_name(channels):
    images, figure = sheet_of(2, channels=channels)
    shown = [image.get_array().reshape(8, 8, channels) for image in figure.axes[0].get_images()]
    np.testing.assert_array_equal(shown, images)
    assert texts_of(figure) == ["A run", "7  90.0 %", "digit-0", "7  90.0 %", "digit-1"]


def test_unsure_answers_are_framed_and_the_title_says_so():
    _, figure = sheet_of(1, probability=0.49)
    assert texts_of(figure)[0] == "A run; framed: less than 50 %"
    frames = [p for p in figure.axes[0].patches if p.get_edgecolor()[:3] == to_rgb(VERMILLION)]
    assert len(frames) == 1


@pytest.mark.parametrize("n", [1, 9, PER_SHEET])
@pytest.mark.parametrize("answer", ["7", LONG])
def test_texts_are_within_the_figure_and_clear_of_each_other_and_the_images(n, answer):
    long = "a-very-long-name-of-a-photograph"
    title = f"{long[:30]}: images 10,000 to 10,000 of 10,000"
    for probability in (1.0, 0.1):
        _, figure = sheet_of(n, answer, probability, name=long, title=title)
        check_places(figure)


def check_places(figure):
    figure.draw_without_rendering()
    axes = figure.axes[0]
    boxes = [t.get_window_extent().transformed(axes.transData.inverted()) for t in axes.texts]
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
