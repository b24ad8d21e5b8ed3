import pytest

from fidle_jax.report.html import duration, load_template, rounded


@pytest.mark.parametrize(
    ("value", "expected"),
    [(2 / 28, "0.0714"), (2200.0, "2,200"), (1234.5, "1,230"), (999.9, "1,000"), (3e-5, "3e-05")],
)
def test_numbers_have_three_digits_and_no_exponent_if_they_are_large(value, expected):
    assert rounded(value) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.04, "40 ms"),
        (0.9996, "1,000 ms"),
        (27.84, "27.8 s"),
        (95, "1 min 35 s"),
        (659.7, "11 min"),
        (3599, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (None, "–"),
    ],
)
def test_durations_have_a_suitable_unit(seconds, expected):
    assert duration(seconds).replace("\N{NO-BREAK SPACE}", " ") == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(2 / 28, "0.0714"), ([0.0, 1 / 3], "0, 0.333"), (True, "yes"), (512, "512"), (None, "–")],
)
def test_settings_are_rounded(value, expected):
    assert load_template("style.css.j2").environment.filters["setting"](value) == expected
