"""The figures of losses show each class, each curve, and where a formula breaks down."""

import numpy as np
import pytest

from fidle_jax.report.lessons.losses import bars, breakdown, over_logits
from fidle_jax.report.style import png

X = np.linspace(-2, 2, 5)


def legend_of(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize("classes", [2, 6])
def test_each_class_has_a_bar_with_its_number_and_one_stands_out(classes):
    values = np.arange(classes) / 10
    figure = bars({"logits": -values, "softmax": values}, marked=1)
    assert [axes.get_title() for axes in figure.axes] == ["logits", "softmax"]
    for axes, sign in zip(figure.axes, (-1, 1), strict=True):
        np.testing.assert_allclose([bar.get_height() for bar in axes.patches], sign * values)
        colours = [bar.get_facecolor() for bar in axes.patches]
        assert colours.count(colours[1]) == 1
        assert len(set(colours)) == 2
        numbers = [text.get_text().replace("−", "-") for text in axes.texts]
        assert list(map(float, numbers)) == pytest.approx(sign * values)
    assert png(figure)


def test_panels_of_bars_have_one_scale_where_that_is_asked_for():
    panels = {"low": np.array([1.0, 0.0]), "high": np.array([0.5, 0.4])}
    low, high = bars(panels, 0, alike=True).axes
    assert low.get_ylim() == high.get_ylim()
    low, high = bars(panels, 0).axes
    assert low.get_ylim() != high.get_ylim()


def test_each_curve_over_the_logit_is_named_once():
    figure = over_logits(X, {"a": (X, X**2), "b": (2 * X, X)})
    assert [axes.get_title() for axes in figure.axes] == ["loss", "gradient"]
    assert legend_of(figure) == ["a", "b"]
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_ydata(), X**2)
    styles = {line.get_linestyle() for line in figure.axes[0].lines}
    assert len(styles) == 2
    assert png(figure)


def test_what_is_not_finite_is_shaded_and_no_curve_goes_there():
    naive = np.array([np.inf, 1.0, 1.0, np.nan, np.nan])
    figure = breakdown(X, {"target 1": ((naive, X), (X, X)), "target 0": ((X, X), (X, X))})
    broken, whole, *gradients = figure.axes
    assert [len(axes.collections) for axes in gradients] == [0, 0]
    assert len(broken.collections) == 1
    assert len(whole.collections) == 0
    assert np.isnan(broken.lines[1].get_ydata()).tolist() == [True, False, False, True, True]
    assert "infinite or NaN" in legend_of(figure)
    assert len(legend_of(figure)) == 3
    assert png(figure)
