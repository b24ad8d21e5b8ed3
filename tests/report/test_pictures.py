import numpy as np
import pytest
from matplotlib.colors import to_rgb

from fidle_jax.report.pictures import augmented, evenly_spaced, predictions, worst_errors
from fidle_jax.report.style import VERMILLION
from fidle_jax.train.run_content import Augmented, Evaluation


def images_of(n, channels=1, height=8, width=8):
    return np.random.default_rng(0).integers(0, 256, (n, height, width, channels), dtype=np.uint8)


def data_of(images, labels, predicted, names):
    return Evaluation(images, np.array(labels), np.eye(len(names))[predicted], list(names))


def frames_of(axes):
    return [p for p in axes.patches if p.get_edgecolor()[:3] == to_rgb(VERMILLION)]


def texts_of(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_wrong_predictions_are_framed_and_show_the_true_class():
    figure = predictions(data_of(images_of(3), [0, 1, 2], [0, 2, 2], "abc"))
    assert texts_of(figure) == ["a", "c  is b", "c"]
    assert len(frames_of(figure.axes[0])) == 1


@pytest.mark.parametrize(("n", "shown"), [(1, 1), (12, 12), (40, 40), (1000, 40)])
def test_up_to_forty_examples_from_first_to_last(n, shown):
    images = np.zeros((n, 2, 2, 1), np.uint8)
    images[0], images[-1] = 11, 22
    labels = np.zeros(n, int)
    drawn = predictions(data_of(images, labels, labels, "ab")).axes[0].get_images()
    assert len(drawn) == shown
    assert drawn[-1].get_array().max() == 22
    assert drawn[0].get_array().max() == (11 if n > 1 else 22)


def test_worst_errors_show_both_classes_and_probabilities():
    probabilities = np.array([[0.002, 0.99, 0.008]])
    figure = worst_errors(Evaluation(images_of(1), np.array([0]), probabilities, list("358")))
    assert texts_of(figure) == ["5\nis 3\n0.99; true 0.00"]


def test_long_names_are_complete_and_on_their_own_lines():
    names = ["end of no overtaking by trucks", "priority at the next crossing"]
    figure = worst_errors(Evaluation(images_of(1), np.array([0]), np.array([[0.25, 0.75]]), names))
    guess, truth = "priority at the\nnext crossing", "end of no\novertaking by\ntrucks"
    assert texts_of(figure)[0] == f"{guess}\nis {truth}\n0.75; true 0.25"
    figure = predictions(data_of(images_of(2), [0, 0], [0, 1], names))
    assert texts_of(figure) == [truth, f"{guess}\nis {truth}"]


def test_texts_do_not_overlap_the_images_below():
    names = ["end of no overtaking by trucks", "stop"]
    labels = np.array([1] * 7 + [0] * 5)
    axes = predictions(data_of(images_of(12), labels, labels, names)).axes[0]
    axes.figure.draw_without_rendering()
    tops = sorted({image.get_extent()[3] for image in axes.get_images()})
    for image, text in zip(axes.get_images(), axes.texts, strict=True):
        box = text.get_window_extent().transformed(axes.transData.inverted())
        below = [top for top in tops if top > image.get_extent()[3]]
        assert max(box.y0, box.y1) < min(below, default=axes.get_ylim()[0])


def test_augmented_versions_of_another_class_are_framed_and_the_class_is_named():
    images = images_of(33, channels=3)
    found = Augmented(images[0], 1, images[1:], np.array([1, 0, 1, 0] * 8))
    figure = augmented(found, ["keep left", "keep right"])
    axes = figure.axes[0]
    assert texts_of(figure) == ["framed: keep left", "original"]
    assert len(frames_of(axes)) == 16
    shown = [image.get_array() for image in axes.get_images()]
    np.testing.assert_array_equal(shown, images)


def test_colour_images_keep_their_colours():
    images = images_of(2, channels=3)
    drawn = predictions(data_of(images, [0, 0], [0, 0], "a")).axes[0].get_images()
    np.testing.assert_array_equal(drawn[1].get_array(), images[1])


def test_an_oblong_image_keeps_its_shape():
    figure = predictions(data_of(images_of(1, height=4, width=8), [0], [0], "a"))
    left, right, bottom, top = figure.axes[0].get_images()[0].get_extent()
    assert (right - left) / (bottom - top) == pytest.approx(2)


def test_long_names_stay_within_the_figure_and_apart():
    names = ["End of the limit of speed for vehicles over 3.5 tons", "No passing of Vehicles"]
    guess = np.array([0, 1] * 6)
    data = data_of(images_of(12), 1 - guess, guess, names)
    for figure in (predictions(data), worst_errors(data)):
        figure.draw_without_rendering()
        boxes = [
            text.get_window_extent().transformed(figure.axes[0].transData.inverted())
            for text in figure.axes[0].texts
        ]
        assert all(box.width < 1 for box in boxes), "wider than its cell"


@pytest.mark.parametrize(("examples", "limit", "rows"), [(3, 5, [0, 1, 2]), (9, 3, [0, 4, 8])])
def test_chosen_examples_are_evenly_spaced(examples, limit, rows):
    assert evenly_spaced(examples, limit).tolist() == rows
