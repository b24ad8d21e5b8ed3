import numpy as np
import pytest

from fidle_jax.report import sign_charts
from fidle_jax.report.claims import Claim


def test_classes_come_with_both_counts_the_commonest_first():
    figure = sign_charts.class_counts(np.array([0, 1, 1, 1]), np.array([0, 0, 1]), ("a", "b"))
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b  1", "a  0"]
    assert [text.get_text() for text in axes.texts] == ["3 / 1", "1 / 2"]
    assert [bar.get_width() for bar in axes.patches] == [3, 1, 1, 2]


def test_what_lies_outside_a_histogram_counts_at_its_ends():
    figure = sign_charts.brightness_histogram(np.array([-5.0, 300.0]), np.array([100.0]))
    train, test = (patch.get_data().values for patch in figure.axes[0].patches)
    assert (train[0], train[-1], train.sum()) == (50, 50, 100)
    assert test.sum() == 100


def test_sizes_are_shown_by_width_and_by_shape():
    sizes = np.array([[30, 30], [60, 50]])
    width, ratio = sign_charts.size_histograms(sizes, sizes).axes
    assert np.flatnonzero(width.patches[0].get_data().values).tolist() == [3, 9]
    values, edges, _ = ratio.patches[0].get_data()
    middle = (edges[:-1] + edges[1:]) / 2
    np.testing.assert_allclose(middle[values > 0], [1.0, 1.2], atol=0.011)


def test_growth_shows_the_median_of_each_frame():
    widths = np.array([[10, 20, 30], [20, 40, 60], [90, 90, 90]])
    (axes,) = sign_charts.growth(widths).axes
    np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), [20, 40, 60])


def test_the_threshold_of_likeness_is_marked():
    figure = sign_charts.likeness_histogram(np.array([0.9]), np.array([0.5]), 0.97)
    assert figure.axes[0].get_lines()[0].get_xdata() == [0.97, 0.97]


@pytest.mark.parametrize("seeds", [1, 3])
def test_claims_have_a_point_a_run_and_a_bar_at_the_mean(seeds):
    claims = [Claim("v1", "24x24-L", 16, "groups", k, 0.9 + 0.01 * k, 0.8) for k in range(seeds)]
    (axes,) = sign_charts.claims_chart({"these, 16 epochs, held out": claims}).axes
    points = axes.collections[0].get_offsets()[:, 0]
    np.testing.assert_allclose(points, [90 + k for k in range(seeds)])
    bars = [line.get_xdata()[0] for line in axes.get_lines()]
    np.testing.assert_allclose(bars, [points.mean(), 80])
