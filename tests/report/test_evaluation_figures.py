import numpy as np
import pytest
from matplotlib.colors import to_hex

from fidle_jax.report import evaluation_figures as figures
from fidle_jax.report.style import VERMILLION

DIGITS = tuple("0123456789")
SIGNS = ("end of the limit of 80 km/h", "no overtaking by trucks", "stop")


def shares(middle):
    middle = np.asarray(middle, float)
    return figures.Shares(middle, middle - 0.05, middle + 0.05)


def bins(counts=(0, 0, 3, 0, 200), accuracy=(np.nan, np.nan, 0.3, np.nan, 0.95)):
    confidence = np.where(counts, (np.arange(5) + 0.5) / 5, np.nan)
    return figures.Bins(np.array(counts), confidence, shares(accuracy))


def strengths(networks=1):
    names = ("A (cnn)", "B (dnn)")[:networks]
    accuracy = {
        name: shares([0.95, 0.9, 0.8, 0.5, 0.3, 0.2 - 0.1 * place])
        for place, name in enumerate(names)
    }
    return figures.Strengths("of the side", ["4%", "8%", "12%", "16%", "20%"], accuracy)


def flat(*greys):
    return np.stack([np.full((8, 8, 1), grey, np.uint8) for grey in greys])


def texts_of(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts if text.get_text()]


def framed(figure):
    return [
        patch.get_xy()
        for patch in figure.axes[0].patches
        if to_hex(patch.get_edgecolor()).upper() == VERMILLION
    ]


def assert_nothing_is_cut_off(figure):
    figure.draw_without_rendering()
    for axes in figure.axes:
        words = [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        for text in filter(lambda each: each.get_text() and each.get_visible(), words):
            box = text.get_window_extent()
            assert box.x0 >= -1, text
            assert box.x1 <= figure.bbox.width + 1, text
            assert box.y0 >= -1, text
            assert box.y1 <= figure.bbox.height + 1, text


def test_accuracy_stands_at_its_bin_and_an_empty_one_has_none():
    upper, lower = figures.reliability({"as trained": bins()}).axes
    assert upper.get_title() == "as trained"
    bars = [(bar.get_x(), bar.get_height()) for bar in upper.patches]
    assert bars[2] == pytest.approx((0.4, 0.3))
    assert bars[4] == pytest.approx((0.8, 0.95))
    assert np.isnan([bars[place][1] for place in (0, 1, 3)]).all()
    assert [bar.get_height() for bar in lower.patches] == [0, 0, 3, 0, 200]


@pytest.mark.parametrize("panels", [1, 2, 3, 4])
def test_each_network_before_and_after_has_a_panel(panels):
    figure = figures.reliability({f"A (cnn), state {k}\nECE 1.00 %": bins() for k in range(panels)})
    assert sum(axes.axison for axes in figure.axes) == 2 * panels
    assert_nothing_is_cut_off(figure)


@pytest.mark.parametrize("networks", [1, 2])
def test_accuracy_falls_from_the_images_as_they_are_to_the_worst(networks):
    panels = {name: strengths(networks) for name in ("shift", "rotation", "noise", "blur")}
    figure = figures.accuracy_by_strength(panels, chance=0.1)
    axes = figure.axes[0]
    assert axes.get_title() == "shift"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["–", *strengths().texts]
    drawn = [bars.lines[0].get_ydata() for bars in axes.containers]
    assert len(drawn) == networks
    np.testing.assert_allclose(drawn[0], [95, 90, 80, 50, 30, 20])
    assert [10, 10] in [list(line.get_ydata()) for line in axes.lines]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(legend) == sorted([*strengths(networks).accuracy, "by chance"])
    assert_nothing_is_cut_off(figure)


@pytest.mark.parametrize("names", [DIGITS, SIGNS])
def test_a_corrupted_image_has_its_strength_and_answer_and_a_frame_where_it_is_wrong(names):
    rows = {"shift": flat(10, 20, 30), "blur": flat(10, 40, 50)}
    texts = {"shift": ["–", "4%", "8%"], "blur": ["–", "2%", "4%"]}
    answers = {"shift": np.array([2, 2, 0]), "blur": np.array([2, 2, 2])}
    figure = figures.corrupted_examples(rows, texts, answers, 2, names)
    greys = [int(image.get_array()[0, 0]) for image in figure.axes[0].get_images()]
    assert greys == [10, 20, 30, 10, 40, 50]
    written = texts_of(figure)
    assert written[0] == "shift"
    assert written[3].startswith("8%")
    assert names[0][-3:] in written[3]
    assert len(framed(figure)) == 1
    assert_nothing_is_cut_off(figure)


@pytest.mark.parametrize(
    ("names", "text"), [(DIGITS, "A: 1   B: 2"), (SIGNS, "A: no overtaking by trucks B: stop")]
)
def test_a_disagreement_has_both_answers(names, text):
    said = {"A": np.array([1, 0]), "B": np.array([2, 2])}
    figure = figures.disagreements(flat(10, 20), said, names)
    assert texts_of(figure)[0].replace("\n", " ") == text
    assert_nothing_is_cut_off(figure)


def test_fifteen_disagreements_over_long_names_stay_apart():
    said = {"A": np.zeros(15, int), "B": np.ones(15, int)}
    figure = figures.disagreements(flat(*range(15)), said, SIGNS)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    height = figure.bbox.height
    for text, image in zip(axes.texts[:10], axes.get_images()[5:], strict=True):
        top_of_next = axes.transData.transform((0, image.get_extent()[3]))[1]
        assert text.get_window_extent().y0 >= top_of_next - 0.01 * height
