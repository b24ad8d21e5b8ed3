"""How sure an accuracy is, and whether two networks differ: both are asked of the same examples."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from scipy.stats import binomtest, chi2, norm

LEVEL = 0.95
FEW = 25  # examples that one alone has right: below it, the test is the exact one


class Interval(NamedTuple):
    """Where a share, 0 to 1, lies with a confidence of 95 %."""

    low: float
    high: float


def accuracy_interval(right: int, examples: int) -> Interval:
    """The confidence interval of an accuracy after Wilson (1927), which holds near 0 and 1 too."""
    return Interval(*binomtest(right, examples).proportion_ci(LEVEL, method="wilson"))


class Comparison(NamedTuple):
    """Two networks on the same examples.

    Attributes:
        both: examples that both have right.
        only_first: that the first alone has right.
        only_second: that the second alone has right.
        neither: that none has right.
        p_value: of McNemar's test: how likely so uneven a number of ``only_first`` and ``only_second``
            is, or one more so, between networks that are right equally often.
        exact: whether it is the binomial test, not its approximation.
        difference: accuracy of the second, less that of the first.
        interval: of the difference.
    """

    both: int
    only_first: int
    only_second: int
    neither: int
    p_value: float
    exact: bool
    difference: float
    interval: Interval


def compare(
    first: Bool[np.ndarray, " example"], second: Bool[np.ndarray, " example"]
) -> Comparison:
    """Compares two networks by which examples each has right.

    McNemar's test (1947): the binomial one where fewer than `FEW` examples tell the two apart, else by
    chi-squared with Edwards' (1948) correction for continuity; Dietterich (1998) recommends it for two
    classifiers that were trained once. The interval is that of Agresti and Min (2005), of pairs.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    apart = only_first + only_second
    exact = apart < FEW
    return Comparison(
        both=int((first & second).sum()),
        only_first=only_first,
        only_second=only_second,
        neither=int((~first & ~second).sum()),
        p_value=_exact(only_first, apart) if exact else _approximate(only_first, only_second),
        exact=exact,
        difference=(only_second - only_first) / len(first),
        interval=_difference_interval(only_first, only_second, len(first)),
    )


def _exact(only_first: int, apart: int) -> float:
    return float(binomtest(only_first, apart).pvalue) if apart else 1.0


def _approximate(only_first: int, only_second: int) -> float:
    distance = max(abs(only_first - only_second) - 1, 0)
    return float(chi2.sf(distance**2 / (only_first + only_second), df=1))


def _difference_interval(only_first: int, only_second: int, examples: int) -> Interval:
    # Half an example more in each of the four cells.
    first, second, total = only_first + 0.5, only_second + 0.5, examples + 2
    middle = (second - first) / total
    variance = (first + second) / total - middle**2
    reach = norm.ppf((1 + LEVEL) / 2) * np.sqrt(variance / total)
    return Interval(max(float(middle - reach), -1.0), min(float(middle + reach), 1.0))
