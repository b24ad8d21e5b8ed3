"""Few noisy points of a smooth function, and polynomials of any degree fitted to them by least squares."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.polynomial import legendre

Points = tuple[Float[np.ndarray, " point"], Float[np.ndarray, " point"]]

MANY = 10  # times the few
FRESH = 1000
PLACES = np.linspace(-1, 1, 801)  # where curves are drawn


class Draw(NamedTuple):
    """Points of one draw, x and y of each.

    Attributes:
        few: to learn from.
        many: `MANY` times as many to learn from; the few are the first of them.
        validation: to stop by, as many as the few.
        fresh: `FRESH` to measure errors on.
    """

    few: Points
    many: Points
    validation: Points
    fresh: Points


def truth(x: Float[np.ndarray, " point"]) -> Float[np.ndarray, " point"]:
    """The function that the points come from: sin(4x) + x/2, for x from -1 to 1."""
    return np.sin(4 * x) + x / 2


def draw_points(rng: np.random.Generator, count: int, noise: float) -> Points:
    """``count`` points: y around `truth`, normal, of standard deviation ``noise``; x in ascending order.

    One x lies, uniform, in each of as many equal parts of [-1, 1]. Were all of them independent, two might
    be so near to each other that no polynomial in double precision passes through both.
    """
    x = 2 * (np.arange(count) + rng.uniform(0, 1, count)) / count - 1
    return x, truth(x) + rng.normal(0, noise, count)


def draw(seed: int, number: int, count: int, noise: float) -> Draw:
    """The draw of that number, of ``count`` points to learn from; another number gives other points."""
    rng = np.random.default_rng([seed, number])
    few, *more, validation = (draw_points(rng, count, noise) for _ in range(MANY + 1))
    x, y = map(np.concatenate, zip(few, *more, strict=True))
    return Draw(few, (x, y), validation, draw_points(rng, FRESH, noise))


def basis(x: Float[np.ndarray, " point"], degree: int) -> Float[np.ndarray, "point coefficient"]:
    """The Legendre polynomials of degree 0 to ``degree`` at each x, each of mean square 1 on [-1, 1].

    Powers of x are so nearly parallel there that rounding spoils a fit from degree 20 or so; these are
    orthogonal, which keeps it well-conditioned.
    """
    return legendre.legvander(x, degree) * np.sqrt(2 * np.arange(degree + 1) + 1)


def fit_polynomial(points: Points, degree: int) -> Float[np.ndarray, " coefficient"]:
    """The coefficients, in `basis`, of the polynomial of that degree with the least squared error.

    Where several have the same error, as with more coefficients than points, it is the one whose
    coefficients have the least sum of squares. As the basis is orthonormal, this is the polynomial of
    the least mean square on [-1, 1]. Solved by singular values (`numpy.linalg.lstsq`).
    """
    x, y = points
    return np.linalg.lstsq(basis(x, degree), y, rcond=None)[0]


def polynomial_values(
    coefficients: Float[np.ndarray, " coefficient"], x: Float[np.ndarray, " point"]
) -> Float[np.ndarray, " point"]:
    """The polynomial of those coefficients, as of `fit_polynomial`, at each x."""
    return basis(x, len(coefficients) - 1) @ coefficients


def rmse(found: Float[np.ndarray, " point"], expected: Float[np.ndarray, " point"]) -> float:
    """The root of the mean squared difference, in the unit of y."""
    return float(np.sqrt(np.mean(np.square(found - expected))))


def errors_of_fits(fits: list[Float[np.ndarray, "_"]], points: Points) -> Float[np.ndarray, " fit"]:
    """The `rmse` of each fitted polynomial on the points."""
    x, y = points
    return np.array([rmse(polynomial_values(fit, x), y) for fit in fits])
