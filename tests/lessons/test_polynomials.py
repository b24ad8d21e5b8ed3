"""Least squares gives the polynomial that it should, and errors behave as the lesson says."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidle_jax.errors import InputError
from fidle_jax.lessons.polynomials import (
    MANY,
    basis,
    draw,
    draw_points,
    errors_of_fits,
    fit_polynomial,
    polynomial_values,
    rmse,
    truth,
)

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments" / "lesson"))

from overfitting import Overfitting, teach

X = np.linspace(-1, 1, 101)
DEGREES = st.integers(0, 12)
SEEDS = st.integers(0, 2**32 - 1)


def spread(rng, count):
    """That many places, none of them near another, as then no fit is well-conditioned."""
    return np.cos(np.pi * (np.arange(count) + rng.uniform(0.3, 0.7, count)) / count)


@given(DEGREES, SEEDS)
def test_a_polynomial_of_degree_n_passes_through_n_plus_1_points(degree, seed):
    rng = np.random.default_rng(seed)
    x, y = spread(rng, degree + 1), rng.normal(size=degree + 1)
    fit = fit_polynomial((x, y), degree)
    assert fit.shape == (degree + 1,)
    np.testing.assert_allclose(polynomial_values(fit, x), y, atol=1e-9)


@given(DEGREES, SEEDS)
def test_points_of_a_polynomial_without_noise_give_it_back(degree, seed):
    rng = np.random.default_rng(seed)
    powers = rng.normal(size=degree + 1)
    x = spread(rng, 40)
    fit = fit_polynomial((x, np.polynomial.polynomial.polyval(x, powers)), degree + 3)
    expected = np.polynomial.polynomial.polyval(X, powers)
    np.testing.assert_allclose(polynomial_values(fit, X), expected, atol=1e-9)
    np.testing.assert_allclose(fit[degree + 1 :], 0, atol=1e-9)


@given(SEEDS, st.integers(5, 30))
def test_the_training_error_never_rises_with_the_degree(seed, count):
    points = draw_points(np.random.default_rng(seed), count, 0.3)
    errors = errors_of_fits([fit_polynomial(points, degree) for degree in range(30)], points)
    assert np.all(np.diff(errors) < 1e-6)


def test_of_all_polynomials_through_the_points_the_fit_has_the_least_mean_square():
    rng = np.random.default_rng(0)
    x, y = spread(rng, 6), rng.normal(size=6)
    fit = fit_polynomial((x, y), 9)
    np.testing.assert_allclose(polynomial_values(fit, x), y, atol=1e-9)
    # Another one through them: what is added is zero at each.
    zeros = np.polynomial.Polynomial.fromroots(x)
    places, weights = np.polynomial.legendre.leggauss(30)

    def mean_square(size):
        values = polynomial_values(fit, places) + size * zeros(places)
        return weights @ np.square(values) / 2

    assert mean_square(0) < min(mean_square(0.1), mean_square(-0.1))
    np.testing.assert_allclose(mean_square(0), np.sum(fit**2))


def test_the_basis_is_orthonormal_from_minus_1_to_1():
    places, weights = np.polynomial.legendre.leggauss(60)
    functions = basis(places, 40)
    np.testing.assert_allclose(
        functions.T @ (weights[:, None] / 2 * functions), np.eye(41), atol=1e-9
    )


def test_a_constant_is_the_mean_of_the_points_and_its_error_their_standard_deviation():
    y = np.array([1.0, 2.0, 6.0])
    fit = fit_polynomial((np.array([-0.5, 0.0, 0.8]), y), 0)
    np.testing.assert_allclose(polynomial_values(fit, X), 3)
    np.testing.assert_allclose(errors_of_fits([fit], (np.zeros(3), y)), [np.std(y)])


def test_the_root_mean_squared_error_of_3_and_4_is_that_of_25_halves():
    assert rmse(np.array([3.0, 0.0]), np.array([0.0, 4.0])) == pytest.approx(np.sqrt(12.5))


def test_points_lie_around_the_true_function_by_the_noise_that_is_asked_for():
    x, y = draw_points(np.random.default_rng(0), 20_000, 0.25)
    np.testing.assert_array_equal(np.histogram(x, 20_000, (-1, 1))[0], 1)  # one in each part
    assert np.std(x * 10_000 % 1) == pytest.approx(1 / np.sqrt(12), rel=0.03)  # uniform there
    assert np.std(y - truth(x)) == pytest.approx(0.25, rel=0.03)
    assert np.mean(y - truth(x)) == pytest.approx(0, abs=0.01)


def test_the_few_points_of_a_draw_are_among_its_many_and_no_other_is_among_them():
    drawn = draw(3, 1, 15, 0.3)
    assert [len(x) for x, _ in drawn[:3]] == [15, 15 * MANY, 15]
    for few, many in zip(drawn.few, drawn.many, strict=True):
        np.testing.assert_array_equal(few, many[:15])
    xs = [drawn.many[0], drawn.validation[0], drawn.fresh[0]]
    assert len(np.unique(np.concatenate(xs))) == sum(map(len, xs))


def test_a_draw_depends_on_the_seed_and_its_number_alone():
    np.testing.assert_array_equal(draw(3, 1, 15, 0.3).fresh, draw(3, 1, 15, 0.3).fresh)
    others = [draw(3, 2, 15, 0.3), draw(4, 1, 15, 0.3)]
    assert not any(np.isin(draw(3, 1, 15, 0.3).fresh[0], other.fresh[0]).any() for other in others)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("points", 9),
        ("points", 201),
        ("noise", 0.0),
        ("noise", 1.5),
        ("degree-max", 9),
        ("degree-max", 101),
        ("seed", -1),
        ("seed", 2**31),
    ],
)
def test_a_flag_out_of_its_range_is_refused_by_name(flag, value):
    with pytest.raises(InputError, match=f"--{flag} is {value}; expected a number from"):
        teach(Overfitting(**{flag.replace("-", "_"): value}))
