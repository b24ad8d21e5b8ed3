import numpy as np
import pytest

from fidle_jax.report.lessons import gradient_descent as figures
from fidle_jax.report.style import png

LEAST = np.array([1.0, 0.5])
PATH = np.linspace([-1.0, 2.0], LEAST, 11)


@pytest.fixture
def surface():
    slopes, intercepts = np.linspace(-2, 2, 21), np.linspace(-1, 3, 31)
    losses = (slopes - 1) ** 2 + (intercepts[:, None] - 0.5) ** 2 + 0.25
    return figures.Surface(slopes, intercepts, losses, LEAST, 0.25)


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize(("count", "shape"), [(2, (1, 2)), (3, (1, 3)), (4, (2, 2))])
def test_each_path_has_a_panel_of_its_name(surface, count, shape):
    names = [f"path {place}" for place in range(count)]
    figure = figures.paths(surface, dict.fromkeys(names, PATH))
    assert [axes.get_title() for axes in figure.axes] == names
    assert figure.axes[0].get_gridspec().get_geometry() == shape


def test_a_path_that_leaves_the_surface_does_not_widen_it(surface):
    (axes,) = figures.paths(surface, {"away": 100 * PATH}).axes
    assert axes.get_xlim() == (-2, 2)
    assert axes.get_ylim() == (-1, 3)


def test_losses_are_named_and_counted_from_the_least(surface):
    figure = figures.losses(
        {"fast": np.array([2.25, 0.5]), "slow": np.array([2.25, 1.25])}, 0.25, "epoch"
    )
    (axes,) = figure.axes
    assert axes.get_xlabel() == "epoch"
    assert legend(figure) == ["fast", "slow"]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [2, 0.25])
    png(figure)


def test_a_frame_of_the_race_shows_what_was_up_to_its_step(surface):
    losses = np.linspace(4, 0.25, 11)
    figure = figures.race(surface, {"SGD": PATH}, {"SGD": losses}, step=4)
    left, right = figure.axes
    np.testing.assert_array_equal(left.lines[0].get_xydata(), PATH[:5])
    np.testing.assert_allclose(right.lines[0].get_ydata(), losses[:5] - 0.25)


def test_frames_of_the_race_have_the_same_axes(surface):
    losses = np.linspace(4, 0.25, 11)
    views = [
        [axes.get_xlim() + axes.get_ylim() for axes in figure.axes]
        for figure in (
            figures.race(surface, {"SGD": PATH}, {"SGD": losses}, step) for step in (0, 5, 10)
        )
    ]
    assert views[0] == views[1] == views[2]


def test_a_line_among_the_points_is_a_point_of_the_surface(surface):
    x = np.linspace(0, 4, 9)
    lines = {"start": np.array([-1.0, 2.0]), "least": LEAST}
    figure = figures.line_and_surface(x, 1 + x, surface, lines, np.array([1.0, -1.0]))
    left, right = figure.axes
    np.testing.assert_allclose(left.lines[1].get_ydata(), [2, -2])
    np.testing.assert_array_equal(right.lines[0].get_xydata(), [[-1, 2]])
    assert legend(figure) == ["start", "least"]
    png(figure)


def test_contours_have_twice_the_height_of_the_next_one_within(surface):
    axes = figures.new_figure(height=3).subplots()
    figures.contours(axes, surface)
    levels = axes.collections[0].levels
    np.testing.assert_allclose(levels[1:] / levels[:-1], 2)


def test_a_path_that_leaves_for_good_is_drawn_to_its_first_step_outside(surface):
    path = np.array([[0.0, 0], [9, 0], [1, 0], [-9, 0], [99, 0]])
    (axes,) = figures.paths(surface, {"away": path}).axes
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), path[:4])
