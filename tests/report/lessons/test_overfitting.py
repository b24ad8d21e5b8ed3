"""The figures of over-fitting show what they are given, on axes that can be compared."""

import numpy as np
import pytest

from fidle_jax.report.lessons.overfitting import (
    Errors,
    Scene,
    error_limits,
    errors_by_degree,
    network,
    one_degree,
    side_by_side,
    smoothed,
)
from fidle_jax.report.style import png

X = np.linspace(-1, 1, 11)
SCENE = Scene(X, np.sin(X), (X[::2], X[::2] ** 2), 0.3)
ERRORS = Errors(
    np.arange(9),
    np.array([1, 0.8, 0.6, 0.4, 0.2, 0.1, 1e-16, 1e-16, 1e-16]),
    np.array([1.1, 0.9, 0.5, 0.7, 2.0, 9.0, 50.0, 20.0, 10.0]),
)


def lines(axes):
    return {line.get_label(): line for line in axes.lines}


def named(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_each_curve_has_a_panel_over_the_same_points_and_true_function():
    figure = side_by_side(SCENE, {"degree 1": X, "degree 3": X**3})
    assert [axes.get_title() for axes in figure.axes] == ["degree 1", "degree 3"]
    for axes, curve in zip(figure.axes, (X, X**3), strict=True):
        drawn = lines(axes)
        np.testing.assert_array_equal(drawn["fitted"].get_ydata(), curve)
        np.testing.assert_array_equal(drawn["true function"].get_ydata(), SCENE.true)
        np.testing.assert_array_equal(drawn["training points"].get_xydata().T, SCENE.points)
    assert named(figure) == ["true function", "fitted", "training points"]
    assert png(figure)


def test_a_curve_that_leaves_the_points_far_behind_does_not_move_the_axes():
    flat, wild = (side_by_side(SCENE, {"": curve}).axes[0].get_ylim() for curve in (X, 1e6 * X))
    assert flat == wild
    assert flat[0] < min(SCENE.points[1].min(), SCENE.true.min())
    assert max(SCENE.points[1].max(), SCENE.true.max()) < flat[1]


def test_the_best_degree_is_marked_where_its_validation_error_is():
    figure = errors_by_degree(ERRORS, 2, 7, 0.3)
    (axes,) = figure.axes
    assert axes.get_yscale() == "log"
    mark = lines(axes)["least validation error"]
    assert (mark.get_xdata(), mark.get_ydata()) == ([2], [0.5])
    np.testing.assert_array_equal(lines(axes)["noise of the points"].get_ydata(), 0.3)
    assert png(figure)


@pytest.mark.parametrize(("points", "texts"), [(9, 1), (10, 0)])
def test_where_coefficients_are_as_many_as_points_is_marked_if_it_is_reached(points, texts):
    (axes,) = errors_by_degree(ERRORS, 2, points, 0.3).axes
    marks = [line for line in axes.lines if list(line.get_xdata()) == [points - 1] * 2]
    assert (len(axes.texts), len(marks)) == (texts, texts)


def test_the_errors_axis_leaves_rounding_out_and_every_validation_error_in():
    low, high = error_limits([ERRORS], 0.3)
    assert 1e-3 < low < 0.1
    assert high > 50
    assert error_limits([ERRORS, ERRORS._replace(validation=2 * ERRORS.validation)], 0.3)[1] > 100


def test_slides_grow_on_the_same_axes():
    first, last = (one_degree(SCENE, X, ERRORS, place) for place in (0, 8))
    for figure, place in ((first, 0), (last, 8)):
        left, right = figure.axes
        assert left.get_title() == f"degree {place}"
        drawn = lines(right)["validation error"].get_ydata()
        np.testing.assert_array_equal(drawn, ERRORS.validation[: place + 1])
    for one, other in zip(first.axes, last.axes, strict=True):
        assert (one.get_xlim(), one.get_ylim()) == (other.get_xlim(), other.get_ylim())
    assert png(first)[16:24] == png(last)[16:24]  # width and height in a PNG's head


def test_a_remedy_is_drawn_with_the_curve_without_it_and_the_least_validation_error():
    errors = ERRORS._replace(at=1 + ERRORS.at)
    figure = network(SCENE, X, -X, errors, (0.1, 100))
    left, right = figure.axes
    np.testing.assert_array_equal(lines(left)["without a remedy"].get_ydata(), -X)
    mark = lines(right)["least validation error"]
    assert (mark.get_xdata(), mark.get_ydata()) == ([3], [0.5])
    assert right.get_ylim() == (0.1, 100)
    assert png(figure)
    assert "without a remedy" not in named(network(SCENE, X, None, errors, (0.1, 100)))


def test_smoothed_errors_keep_their_mean_square_and_few_of_them_are_left_alone():
    steps = np.arange(1, 3001)
    noisy = Errors(steps, 1 + np.sin(steps) ** 2, np.full(3000, 0.4))
    drawn = smoothed(noisy)
    assert len(drawn.at) <= 80
    assert drawn.at[0] == 1
    np.testing.assert_allclose(drawn.validation, 0.4)
    last = noisy.train[steps > 2 * drawn.at[-1] - 3001]
    np.testing.assert_allclose(drawn.train[-1], np.sqrt(np.mean(last**2)), rtol=0.02)
    for one, other in zip(smoothed(ERRORS), ERRORS, strict=True):
        np.testing.assert_allclose(one, other)
