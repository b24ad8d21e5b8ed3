"""The loss surface of a line, paths on it, and their figures."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fidle_jax.lessons import gradient_descent as lesson
from fidle_jax.lessons.gradient_descent import Descent, Problem, descend, make_problem
from fidle_jax.report.style import new_figure

START = (-1.0, 4.5)
SEEDS = pytest.mark.parametrize("seed", [0, 1, 2, 1234567, 2**31])


@pytest.fixture(scope="module")
def problem():
    return make_problem(100, seed=0)


def test_the_loss_of_a_line_is_its_mean_squared_error():
    x, y = np.array([0.0, 1.0]), np.array([1.0, 5.0])
    lines = np.array([[4.0, 1.0], [0.0, 0.0]])
    problem = Problem(x, y, np.eye(2), np.array([4.0, 1.0]))
    np.testing.assert_allclose(problem.losses(lines), [0, 13])
    assert problem.lowest == 0


@SEEDS
def test_the_hessian_matches_that_of_jax(seed):
    problem = make_problem(30, seed)
    np.testing.assert_allclose(problem.hessian, jax.hessian(problem.losses)(jnp.ones(2)), rtol=1e-5)


@SEEDS
def test_the_minimum_has_gradient_0_and_every_other_line_is_worse(seed):
    problem = make_problem(30, seed)
    gradient = jax.grad(problem.losses)(problem.minimum.astype(np.float32))
    np.testing.assert_allclose(gradient, 0, atol=1e-4)
    directions = np.array([[1, 0], [-1, 0], [0, 1], [0, -1], [-0.4, 1], [0.4, -1]])
    assert (problem.losses(problem.minimum + 0.1 * directions) > problem.lowest).all()


@SEEDS
def test_the_surface_is_a_long_valley(seed):
    low, high = make_problem(100, seed).curvatures
    assert high / low > 10


@SEEDS
def test_points_are_close_to_the_line(seed):
    problem = make_problem(400, seed)
    assert 0 <= problem.x.min() <= problem.x.max() <= lesson.LARGEST_X
    np.testing.assert_allclose(problem.minimum, [lesson.SLOPE, lesson.INTERCEPT], atol=0.5)
    assert 0.7 < problem.lowest / lesson.NOISE**2 < 1.3


@pytest.mark.parametrize(("share", "converges"), [(0.98, True), (1.02, False)])
def test_descent_converges_just_below_the_limit_and_diverges_just_above(problem, share, converges):
    descent = descend(problem, optax.sgd(share * problem.limit), START, epochs=400)
    distance = np.linalg.norm(descent.path - problem.minimum, axis=1)
    assert (descent.needed is not None) == converges
    if converges:
        assert distance[-1] < 1e-3 * distance[0]
    else:
        assert distance[-1] > 1e3 * distance[0]


def test_the_first_step_follows_the_negative_gradient(problem):
    descent = descend(problem, optax.sgd(0.01), START, epochs=1)
    expected = START - 0.01 * problem.hessian @ (np.array(START) - problem.minimum)
    np.testing.assert_allclose(descent.path, [START, expected], rtol=1e-5)
    np.testing.assert_array_equal(descent.losses, problem.losses(descent.path))


def test_an_epoch_has_one_step_per_batch():
    descent = descend(make_problem(10, seed=0), optax.sgd(0.01), START, epochs=2, batch_size=4)
    assert descent.path.shape == (1 + 2 * 3, 2)


@pytest.mark.parametrize(
    ("losses", "steps"), [([9.0, 2.03, 2.01, 2.5, 2.0], 2), ([9.0, 2.03], None), ([2.02, 5.0], 0)]
)
def test_the_needed_steps_end_at_the_first_loss_within_one_percent(losses, steps):
    assert lesson.steps_within(np.array(losses), 2.0) == steps


@pytest.mark.parametrize(
    ("needed", "per_epoch", "text"),
    [(None, 1, "more than 10"), (None, 5, "more than 2"), (7, 1, "7"), (7, 5, "2")],
)
def test_steps_are_reported_in_full_epochs(needed, per_epoch, text):
    assert Descent(np.zeros((11, 2)), np.zeros(11), needed).text(per_epoch) == text


def path_to(minimum):
    return np.linspace([-1.0, 2.0], minimum, 11)


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize(("count", "shape"), [(2, (1, 2)), (3, (1, 3)), (4, (2, 2))])
def test_each_path_has_a_panel_with_its_name(problem, count, shape):
    names = [f"path {i}" for i in range(count)]
    figure = lesson.paths_figure(problem, dict.fromkeys(names, path_to(problem.minimum)))
    assert [axes.get_title() for axes in figure.axes] == names
    assert figure.axes[0].get_gridspec().get_geometry() == shape


def test_a_path_that_leaves_the_surface_does_not_extend_the_axes(problem):
    (axes,) = lesson.paths_figure(problem, {"away": 100 * path_to(problem.minimum)}).axes
    assert axes.get_xlim() == (lesson.SLOPES[0], lesson.SLOPES[-1])
    assert axes.get_ylim() == (lesson.INTERCEPTS[0], lesson.INTERCEPTS[-1])


def test_a_path_that_leaves_for_good_is_drawn_up_to_its_first_step_outside(problem):
    path = np.array([[0.0, 0], [9, 0], [1, 0], [-9, 0], [99, 0]])
    (axes,) = lesson.paths_figure(problem, {"away": path}).axes
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), path[:4])


def test_frames_of_the_race_grow_on_the_same_axes(problem):
    path, losses = path_to(problem.minimum), problem.lowest + np.linspace(4, 0, 11)
    descents = {"SGD": Descent(path, losses, None)}
    figures = {step: lesson.race_figure(problem, descents, step) for step in (0, 4, 10)}
    left, right = figures[4].axes
    np.testing.assert_array_equal(left.lines[0].get_xydata(), path[:5])
    np.testing.assert_allclose(right.lines[0].get_ydata(), losses[:5] - problem.lowest)
    limits = [
        [axes.get_xlim() + axes.get_ylim() for axes in figure.axes] for figure in figures.values()
    ]
    assert limits[0] == limits[1] == limits[2]


def test_a_line_among_the_points_is_a_point_on_the_surface(problem):
    figure = lesson.surface_figure(problem)
    left, right = figure.axes
    slope, intercept = lesson.START
    end = slope * problem.x.max() + intercept
    np.testing.assert_allclose(left.lines[1].get_ydata(), [intercept, end], rtol=1e-6)
    np.testing.assert_array_equal(right.lines[0].get_xydata(), [lesson.START])
    assert [text.split(":")[0] for text in legend(figure)] == ["start", "half-way", "minimum"]


def test_each_contour_is_twice_as_high_as_the_next_inner_one(problem):
    axes = new_figure(height=3).subplots()
    lesson.draw_contours(axes, problem)
    levels = axes.collections[0].levels
    np.testing.assert_allclose(levels[1:] / levels[:-1], 2)
