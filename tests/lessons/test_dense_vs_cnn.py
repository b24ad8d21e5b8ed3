"""The networks of equal size, shifted digits, and their figures."""

import numpy as np
import pytest

from fidle_jax.data import Split
from fidle_jax.lessons import dense_vs_cnn as lesson
from fidle_jax.nn import layer_table
from fidle_jax.report.style import VERMILLION

ACCURACIES = {"DNN": np.array([[0.7, 0.8], [0.9, 0.9]]), "CNN": np.array([[0.8, 0.8], [0.9, 1.0]])}


def test_the_networks_have_equally_many_parameters_up_to_a_few_in_a_thousand():
    dense, convolutional = (
        sum(row.parameters for row in layer_table(lesson.NETWORKS[name], (28, 28, 1)))
        for name in ("DNN", "CNN")
    )
    assert convolutional == 42_358
    assert abs(dense - convolutional) / convolutional < 0.002


@pytest.mark.parametrize(
    ("examples", "sizes"),
    [(4000, [100, 300, 1000, 4000]), (60_000, [100, 300, 1000, 3000, 10_000, 30_000, 60_000])],
)
def test_training_sizes_increase_to_all_examples(examples, sizes):
    assert lesson.training_sizes(examples) == sizes


@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (-2, 3), (0, -1), (-4, -3), (5, 0), (7, -7)])
def test_each_pixel_is_shifted_and_the_rest_is_zero(shift):
    images = np.random.default_rng(0).integers(1, 256, (2, 5, 4, 1), dtype=np.uint8)
    shifted = lesson.shift_images(images, *shift)
    assert shifted.dtype == np.uint8
    for row, column in np.ndindex(5, 4):
        i, j = row - shift[0], column - shift[1]
        expected = images[:, i, j] if 0 <= i < 5 and 0 <= j < 4 else 0
        np.testing.assert_array_equal(shifted[:, row, column], expected)


@pytest.mark.parametrize(
    ("name", "index"), [("up", (1, 2)), ("down", (3, 2)), ("left", (2, 1)), ("right", (2, 3))]
)
def test_the_directions_are_those_of_the_screen(name, index):
    image = np.zeros((1, 5, 5, 1), np.uint8)
    image[0, 2, 2] = 9
    shifted = lesson.shift_images(image, *lesson.DIRECTIONS[name])
    assert np.argwhere(shifted[0, :, :, 0]).tolist() == [list(index)]


@pytest.fixture(scope="module")
def bars():
    """Images of two classes, bright on the left or on the right."""
    rng = np.random.default_rng(0)
    labels = np.arange(300, dtype=np.int32) % 2
    images = rng.integers(0, 60, (300, 6, 6, 1), dtype=np.uint8)
    images[labels == 0, :, :3] += 120
    images[labels == 1, :, 3:] += 120
    return Split(images, labels)


def test_a_network_learns_from_a_stratified_subset_only(bars, monkeypatch):
    calls, fit = [], lesson.fit

    def recording_fit(task, train, **options):
        calls.append((train, options))
        return fit(task, train, **options)

    monkeypatch.setattr(lesson, "fit", recording_fit)
    variables = lesson.train_network("DNN", bars, 20, steps=60, seed=1)
    (images, labels), options = calls[0]
    # Ten examples of each class, repeated to the size of the whole set.
    assert len(np.unique(images.reshape(300, -1), axis=0)) == 20
    np.testing.assert_array_equal(np.bincount(labels), [150, 150])
    assert options["epochs"] * -(-300 // options["batch_size"]) >= 60
    assert lesson.mean_accuracy("DNN", variables, [bars, bars]) == 1


def test_each_size_has_a_tick_and_each_network_a_line_through_its_means():
    (axes,) = lesson.accuracies_figure([100, 4000], ACCURACIES, "digits", log=True).axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["100", "4,000"]
    for lines, values in zip(axes.containers, ACCURACIES.values(), strict=True):
        np.testing.assert_allclose(lines[0].get_ydata(), 100 * values.mean(axis=1))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["DNN", "CNN"]


def test_a_wrong_prediction_is_marked_and_its_image_framed():
    images = np.zeros((1, 2, 28, 28, 1), np.uint8)
    predicted = {"DNN": np.array([[3, 5]]), "CNN": np.array([[3, 3]])}
    (axes,) = lesson.digits_figure(images, np.array([3]), predicted).axes
    correct, wrong = axes.texts
    assert (correct.get_text(), wrong.get_text()) == ("DNN: 3  CNN: 3", "DNN: 5 ✗  CNN: 3")
    assert (correct.get_color(), wrong.get_color()) == ("black", VERMILLION)
