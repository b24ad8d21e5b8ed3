import numpy as np
import pytest

from fidle_jax.report.lessons.regression import (
    error_histogram,
    predicted_against_true,
    training_curves,
    with_and_without,
)
from fidle_jax.report.style import png

FALLING = np.array([3.0, 2.0, 1.5, 1.4])
VALIDATION = np.array([3.1, 2.5, 2.2, 2.3])


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_curves_have_a_panel_a_title_and_the_best_epoch():
    figure = training_curves({"loss": (FALLING, VALIDATION), "MAE": (FALLING, VALIDATION)}, 3)
    assert [axes.get_title() for axes in figure.axes] == ["loss", "MAE"]
    assert legend_of(figure) == ["training", "validation", "least loss: epoch 3"]
    training, validation, best = figure.axes[0].lines
    np.testing.assert_array_equal(training.get_xdata(), [1, 2, 3, 4])
    np.testing.assert_array_equal(training.get_ydata(), FALLING)
    np.testing.assert_array_equal(validation.get_ydata(), VALIDATION)
    assert best.get_xdata()[0] == 3


def test_curves_of_one_epoch_are_points():
    figure = training_curves({"loss": (FALLING[:1], VALIDATION[:1])}, 1)
    assert figure.axes[0].lines[0].get_marker() == "o"
    assert png(figure).startswith(b"\x89PNG")


def test_fits_side_by_side_share_one_logarithmic_axis():
    figure = with_and_without(
        {"standardised": (FALLING, VALIDATION), "raw": (100 * FALLING, 100 * VALIDATION)}, 2, "MAE"
    )
    left, right = figure.axes
    assert left.get_yscale() == "log"
    assert left.get_ylim() == right.get_ylim()
    assert left.get_ylabel() == "MAE"
    assert legend_of(figure) == ["training", "validation", "predict the mean"]


def test_the_band_around_the_diagonal_is_one_rmse_wide():
    true = np.array([10.0, 20.0, 30.0, 40.0])
    figure = predicted_against_true(true, true + np.array([3, -3, 3, -3]), "mpg")
    (axes,) = figure.axes
    corners = axes.collections[0].get_paths()[0].vertices
    assert np.abs(corners[:, 1] - corners[:, 0]).max() == pytest.approx(3)
    assert axes.get_xlim() == axes.get_ylim()
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("true (mpg)", "predicted (mpg)")


def test_no_point_lies_outside_of_the_square():
    true, predicted = np.array([0.0, 10.0, 5.0]), np.array([-7.0, 12.0, 30.0])
    low, high = predicted_against_true(true, predicted, "mpg").axes[0].get_xlim()
    assert low < -7
    assert high > 30


def test_every_error_is_in_the_histogram_and_0_is_in_its_middle():
    errors = {"network": np.array([-2.0, 0.1, 5.0]), "linear model": np.array([1.0, -8.0, 8.0])}
    figure = error_histogram(errors, "mpg")
    (axes,) = figure.axes
    assert axes.get_xlabel() == "predicted less true (mpg)"
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["network", "linear model"]
    filled, outline = (patch for patch in axes.patches)
    assert filled.get_xy()[:, 0].min() == pytest.approx(-8)
    assert outline.get_xy()[:, 0].max() == pytest.approx(8)
    assert png(figure).startswith(b"\x89PNG")
