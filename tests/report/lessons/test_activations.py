"""Each activation has a panel, and what is flat is shaded."""

import numpy as np

from fidle_jax.report.lessons.activations import all_activations, through_layers
from fidle_jax.report.style import png

X = np.linspace(-2, 2, 5)


def test_each_activation_has_a_panel_with_its_derivative_and_its_flat_parts():
    values = {name: X * place for place, name in enumerate(("a", "b", "c", "d"))}
    slopes = {name: np.full(5, float(place)) for place, name in enumerate(values)}
    flat = {"a": [(-2, 2)], "b": [], "c": [(-2, -1), (1, 2)], "d": []}
    figure = all_activations(X, values, slopes, flat)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == ["a", "b", "c", "d"]
    assert [len(axes.patches) for axes in panels] == [1, 0, 2, 0]
    drawn = {line.get_label(): line.get_ydata() for line in panels[2].lines}
    np.testing.assert_array_equal(drawn["activation"], 2 * X)
    np.testing.assert_array_equal(drawn["derivative"], np.full(5, 2))
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["flat", "activation", "derivative"]
    assert png(figure)


def test_what_is_left_of_a_gradient_is_a_power_of_the_slope():
    figure = through_layers({"ReLU": 1.0, "sigmoid": 0.25}, 10)
    (axes,) = figure.axes
    drawn = {line.get_label(): line.get_ydata() for line in axes.lines}
    np.testing.assert_array_equal(drawn["ReLU"], np.ones(11))
    np.testing.assert_allclose(drawn["sigmoid"][[0, 1, 10]], [1, 0.25, 0.25**10])
    assert axes.get_yscale() == "log"
