"""Polynomials by least squares, networks with regularisation, and their figures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidle_jax.lessons import overfitting as lesson
from fidle_jax.lessons.overfitting import (
    DECAY,
    DROPOUT,
    EARLY,
    MANY,
    MORE,
    PLAIN,
    Errors,
    X,
    draw,
    draw_points,
    errors_of_fits,
    fit_polynomial,
    polynomial_values,
    truth,
)

DEGREES = st.integers(0, 12)
SEEDS = st.integers(0, 2**32 - 1)


def spread_out(rng, count):
    """Return distinct x without close neighbours, so that fits are well-conditioned."""
    return np.cos(np.pi * (np.arange(count) + rng.uniform(0.3, 0.7, count)) / count)


@given(DEGREES, SEEDS)
def test_a_polynomial_of_degree_n_passes_through_n_plus_1_points(degree, seed):
    rng = np.random.default_rng(seed)
    x, y = spread_out(rng, degree + 1), rng.normal(size=degree + 1)
    fit = fit_polynomial((x, y), degree)
    assert fit.shape == (degree + 1,)
    np.testing.assert_allclose(polynomial_values(fit, x), y, atol=1e-9)


@given(DEGREES, SEEDS)
def test_a_fit_to_points_of_a_polynomial_without_noise_recovers_it(degree, seed):
    rng = np.random.default_rng(seed)
    powers, x = rng.normal(size=degree + 1), spread_out(rng, 40)
    fit = fit_polynomial((x, np.polynomial.polynomial.polyval(x, powers)), degree + 3)
    expected = np.polynomial.polynomial.polyval(X, powers)
    np.testing.assert_allclose(polynomial_values(fit, X), expected, atol=1e-9)
    np.testing.assert_allclose(fit[degree + 1 :], 0, atol=1e-9)


@pytest.mark.parametrize(("seed", "count"), [(0, 5), (1, 12), (2, 20), (3, 30)])
def test_the_training_error_never_increases_with_the_degree(seed, count):
    points = draw_points(np.random.default_rng(seed), count, 0.3)
    errors = errors_of_fits([fit_polynomial(points, degree) for degree in range(30)], points)
    assert np.all(np.diff(errors) < 1e-6)


def test_the_fit_has_the_lowest_mean_square_of_all_polynomials_through_the_points():
    rng = np.random.default_rng(0)
    x, y = spread_out(rng, 6), rng.normal(size=6)
    fit = fit_polynomial((x, y), 9)
    np.testing.assert_allclose(polynomial_values(fit, x), y, atol=1e-9)
    # Adding a polynomial that is zero at each point gives another polynomial through the points.
    zeros = np.polynomial.Polynomial.fromroots(x)
    nodes, weights = np.polynomial.legendre.leggauss(30)

    def mean_square(factor):
        values = polynomial_values(fit, nodes) + factor * zeros(nodes)
        return weights @ np.square(values) / 2

    assert mean_square(0) < min(mean_square(0.1), mean_square(-0.1))
    np.testing.assert_allclose(mean_square(0), np.sum(fit**2))


def test_the_basis_is_orthonormal_on_minus_1_to_1():
    nodes, weights = np.polynomial.legendre.leggauss(60)
    functions = lesson.basis(nodes, 40)
    products = functions.T @ (weights[:, None] / 2 * functions)
    np.testing.assert_allclose(products, np.eye(41), atol=1e-9)


def test_a_constant_fit_is_the_mean_and_its_error_the_standard_deviation():
    y = np.array([1.0, 2.0, 6.0])
    fit = fit_polynomial((np.array([-0.5, 0.0, 0.8]), y), 0)
    np.testing.assert_allclose(polynomial_values(fit, X), 3)
    np.testing.assert_allclose(errors_of_fits([fit], (np.zeros(3), y)), [np.std(y)])


def test_the_rmse_of_the_errors_3_and_4():
    assert lesson.rmse(np.array([3.0, 0.0]), np.array([0.0, 4.0])) == pytest.approx(np.sqrt(12.5))


def test_points_scatter_around_the_true_function_with_the_requested_noise():
    x, y = draw_points(np.random.default_rng(0), 20_000, 0.25)
    np.testing.assert_array_equal(np.histogram(x, 20_000, (-1, 1))[0], 1)  # one in each part
    assert np.std(x * 10_000 % 1) == pytest.approx(1 / np.sqrt(12), rel=0.03)  # uniform there
    assert np.std(y - truth(x)) == pytest.approx(0.25, rel=0.03)
    assert np.mean(y - truth(x)) == pytest.approx(0, abs=0.01)


def test_the_many_points_of_a_draw_begin_with_the_few_and_share_none_with_the_others():
    drawn = draw(3, 1, 15, 0.3)
    assert [len(x) for x, _ in drawn[:3]] == [15, 15 * MANY, 15]
    for few, many in zip(drawn.few, drawn.many, strict=True):
        np.testing.assert_array_equal(few, many[:15])
    xs = [drawn.many[0], drawn.validation[0], drawn.fresh[0]]
    assert len(np.unique(np.concatenate(xs))) == sum(map(len, xs))


def test_a_draw_depends_only_on_the_seed_and_its_number():
    np.testing.assert_array_equal(draw(3, 1, 15, 0.3).fresh, draw(3, 1, 15, 0.3).fresh)
    others = [draw(3, 2, 15, 0.3), draw(4, 1, 15, 0.3)]
    assert not any(np.isin(draw(3, 1, 15, 0.3).fresh[0], other.fresh[0]).any() for other in others)


@pytest.fixture(scope="module")
def learned():
    return lesson.learn(draw(0, 0, 10, 0.3), 200, seed=0)


@pytest.mark.slow
def test_every_network_is_trained_for_equally_many_steps(learned):
    assert set(learned) == {PLAIN, EARLY, DROPOUT, DECAY, MORE}
    for each in learned.values():
        assert each.curve.shape == X.shape
        assert np.isfinite([each.train, each.test]).all()
        assert each.errors.at[-1] == 200
    assert len(learned[MORE].errors.at) == 200 // MANY


@pytest.mark.slow
def test_early_stopping_is_the_same_training_at_its_lowest_validation_error(learned):
    plain, early = learned[PLAIN], learned[EARLY]
    np.testing.assert_array_equal(plain.errors.validation, early.errors.validation)
    assert plain.train < early.train
    assert not np.array_equal(plain.curve, early.curve)


@pytest.mark.slow
def test_weight_decay_and_dropout_increase_the_training_error(learned):
    assert learned[DECAY].train > learned[PLAIN].train
    assert learned[DROPOUT].train > learned[PLAIN].train


POINTS = (np.linspace(-1, 1, 6), np.linspace(-1, 1, 6) ** 2)
ERRORS = Errors(
    np.arange(9),
    np.array([1, 0.8, 0.6, 0.4, 0.2, 0.1, 1e-16, 1e-16, 1e-16]),
    np.array([1.1, 0.9, 0.5, 0.7, 2.0, 9.0, 50.0, 20.0, 10.0]),
)


def lines(axes):
    return {line.get_label(): line for line in axes.lines}


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_each_curve_has_a_panel_with_the_points_and_the_true_function():
    figure = lesson.curves_figure(POINTS, {"degree 1": X, "degree 3": X**3})
    assert [axes.get_title() for axes in figure.axes] == ["degree 1", "degree 3"]
    for axes, curve in zip(figure.axes, (X, X**3), strict=True):
        drawn = lines(axes)
        np.testing.assert_array_equal(drawn["fitted"].get_ydata(), curve)
        np.testing.assert_array_equal(drawn["true function"].get_ydata(), truth(X))
        np.testing.assert_array_equal(drawn["training points"].get_xydata().T, POINTS)
    assert legend(figure) == ["true function", "fitted", "training points"]


def test_a_curve_far_from_the_points_does_not_change_the_axes():
    flat, wild = (
        lesson.curves_figure(POINTS, {"": curve}).axes[0].get_ylim() for curve in (X, 1e6 * X)
    )
    assert flat == wild
    assert flat[0] < min(POINTS[1].min(), truth(X).min())
    assert max(POINTS[1].max(), truth(X).max()) < flat[1]


def test_slides_grow_on_the_same_axes():
    figures = {
        k: lesson.fit_figure(POINTS, X, ERRORS, 0.3, "degree", f"degree {k}", k + 1) for k in (0, 8)
    }
    for k, figure in figures.items():
        left, right = figure.axes
        assert left.get_title() == f"degree {k}"
        drawn = lines(right)["validation error"].get_ydata()
        np.testing.assert_array_equal(drawn, ERRORS.validation[: k + 1])
    for one, other in zip(figures[0].axes, figures[8].axes, strict=True):
        assert (one.get_xlim(), one.get_ylim()) == (other.get_xlim(), other.get_ylim())
    low, high = figures[0].axes[1].get_ylim()
    assert 1e-3 < low < 0.1, "errors far below the noise are cut off"
    assert high > 50


def test_a_network_is_drawn_with_its_lowest_validation_error():
    errors = ERRORS._replace(at=1 + ERRORS.at)
    left, right = lesson.fit_figure(POINTS, X, errors, 0.3, "training steps").axes
    np.testing.assert_array_equal(lines(left)["fitted"].get_ydata(), X)
    mark = lines(right)["lowest validation error"]
    assert (mark.get_xdata(), mark.get_ydata()) == ([3], [0.5])
