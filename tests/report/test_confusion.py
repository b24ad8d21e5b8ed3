import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from fidle_jax.report.confusion import confusion_matrix, group_confusion
from fidle_jax.report.style import BLUE, png


def counts_of(classes, diagonal=1000):
    counts = diagonal * np.eye(classes, dtype=int)
    counts[0, 1] = 7
    return counts


def names_of(classes, name="class {}"):
    return [name.format(i) for i in range(classes)]


def test_each_count_stands_in_its_cell():
    axes = confusion_matrix(counts_of(3), names_of(3)).axes[0]
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {(0, 0): "1000", (1, 1): "1000", (2, 2): "1000", (1, 0): "7"}


def test_the_scale_is_that_of_the_errors():
    axes = confusion_matrix(counts_of(3), names_of(3)).axes[0]
    assert axes.get_images()[1].get_clim() == (0, 7)


def test_without_errors_there_is_no_colour_bar():
    assert len(confusion_matrix(np.eye(4, dtype=int), names_of(4)).axes) == 1


def test_many_classes_have_colours_and_no_counts():
    axes = confusion_matrix(counts_of(43), names_of(43)).axes[0]
    assert not axes.texts
    assert [label.get_text() for label in axes.get_yticklabels()] == names_of(43)


def test_a_hundred_classes_name_every_second():
    axes = confusion_matrix(counts_of(100), names_of(100)).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == names_of(100)[::2]


@pytest.mark.parametrize("classes", [2, 10, 43, 100])
@pytest.mark.parametrize("name", ["{}", "{} end of the limit of speed for vehicles over 3.5 tons"])
def test_nothing_is_cut_off(classes, name):
    figure = confusion_matrix(counts_of(classes), names_of(classes, name))
    figure.draw_without_rendering()
    axes = figure.axes[0]
    for label in (axes.yaxis.label, axes.xaxis.label, *axes.get_yticklabels()):
        box = label.get_window_extent().transformed(figure.transFigure.inverted())
        assert box.x0 >= 0
        assert box.y0 >= 0


def frames_of(axes):
    return [p for p in axes.patches if p.get_edgecolor()[:3] == to_rgb(BLUE)]


def test_errors_between_groups_stand_in_their_cells_and_those_within_are_framed():
    axes = group_confusion(np.array([[9, 0], [2, 0]]), ["limits", "warnings"]).axes[0]
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {(0, 0): "9", (0, 1): "2"}
    assert [frame.get_xy() for frame in frames_of(axes)] == [(-0.5, -0.5), (0.5, 0.5)]
    assert axes.get_ylabel() == "true group"


def test_groups_without_errors_are_drawn():
    assert png(group_confusion(np.zeros((2, 2), int), ["limits", "warnings"]))


def test_one_error_among_many_is_seen():
    counts = counts_of(3)
    counts[2, 0] = 10_000
    shades = confusion_matrix(counts, names_of(3)).axes[0].get_images()[1]
    assert np.abs(np.array(shades.to_rgba(7)[:3]) - 1).max() > 0.2


def test_long_names_of_many_classes_are_whole():
    axes = confusion_matrix(counts_of(43), names_of(43, "{} no overtaking by trucks")).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == names_of(43, "{} no overtaking by trucks")


def test_a_single_class_is_drawn(tmp_path):
    (tmp_path / "one.png").write_bytes(png(confusion_matrix(np.array([[5]]), ["only"])))
    assert Image.open(tmp_path / "one.png").width > 300
