"""Number formats and figure helpers of the lessons."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fidle_jax.report.style import BLUE, GREEN, VERMILLION, new_figure

INK = "#1C2126"
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# Colours and line styles of up to four curves. The markers differ too.
STYLES: tuple[dict[str, Any], ...] = (
    {"color": BLUE, "linestyle": "-"},
    {"color": VERMILLION, "linestyle": "--"},
    {"color": GREEN, "linestyle": "-."},
    {"color": INK, "linestyle": ":"},
)
MARKERS = "os^D"


def panels(
    count: int, columns: int, height: float, extra: float = 0.5, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Create a figure of ``count`` axes in rows of ``columns``.

    ``height`` is that of a row, and ``extra`` that of a legend, in inches. ``options`` are those of
    `Figure.subplots`.
    """
    rows = -(-count // columns)
    figure = new_figure(height=height * rows + extra)
    axes = figure.subplots(rows, columns, squeeze=False, **options).ravel()
    for unused in axes[count:]:
        unused.remove()
    return figure, list(axes[:count])


def number(value: float | np.number, form: str = "g") -> str:
    """Format a number with a typographic minus; "∞" and "NaN" if it is not finite."""
    text = powers_of_ten(format(float(value) + 0, form))  # + 0 turns -0 into 0
    return text.replace("-", "−").replace("inf", "∞").replace("nan", "NaN")


def powers_of_ten(text: str) -> str:
    """Write exponents as powers: 9e-05 as 9·10⁻⁵."""
    return re.sub(r"(?<=\d)e([+-]\d+)", lambda m: "·10" + str(int(m[1])).translate(RAISED), text)


def mean_and_std(values: Shaped[np.ndarray, " value"], form: str = ".1f", sign: str = "") -> str:
    """Format the mean ± the standard deviation of a sample."""
    return f"{number(values.mean(), sign + form)} ± {values.std(ddof=1):{form}}"


def growing_steps(last: int, count: int) -> list[int]:
    """Return up to ``count`` steps from 0 to ``last``. The steps become larger: most changes are early."""
    return sorted({round(step) for step in np.geomspace(1, last + 1, count) - 1})


def draw_curves(axes: Axes, x, curves: Mapping[str, Any], **style) -> None:
    """Draw up to four curves, each in its own style, with their names in the legend."""
    for (name, values), own in zip(curves.items(), STYLES, strict=False):
        axes.plot(x, values, **{"linewidth": 2, "label": name} | own | style)
