"""The prose of a lesson is combined with its values, figures and tables."""

import pytest

from fidle_jax.lessons.figures import number
from fidle_jax.lessons.page import Lesson, make_page
from fidle_jax.report.lesson import Picture, Slides, Table
from fidle_jax.report.style import new_figure

PROSE = """# A title with {count:,} words

A summary
on two lines.

- the loss: {loss:.2f}
- a ratio: 1 : 2

## First

One paragraph
on two lines.

Another one.

![A figure](curve)
See the curve,
which is blue.

![](numbers)

## Second

![An animation](race)
See the race.
"""


SLIDES = Slides([b"first", b"last"], ["one", "two"], seconds=0.5)
SHOWN = {"curve": new_figure(1), "numbers": Table(["a"], [["1"]]), "race": SLIDES}
LESSON = Lesson(SHOWN, {"loss": 0.123}, "curve")


def test_the_title_the_summary_and_the_key_numbers_have_their_values():
    found = make_page(PROSE, LESSON, {"count": 1000})
    assert found.title == "A title with 1,000 words"
    assert found.summary == "A summary on two lines."
    assert found.facts == {"the loss": "0.12", "a ratio": "1 : 2"}


def test_each_section_has_its_paragraphs_figures_and_tables_in_order():
    page = make_page(PROSE, LESSON, {"count": 1000})
    first, second = page.sections
    assert (first.title, first.text) == ("First", "One paragraph on two lines.\n\nAnother one.")
    picture, table = first.shown
    assert isinstance(picture, Picture)
    assert (picture.name, picture.title) == ("curve", "A figure")
    assert picture.caption == "See the curve, which is blue."
    assert picture.png.startswith(b"\x89PNG")
    assert table is SHOWN["numbers"]
    assert (second.title, second.text) == ("Second", "")
    (race,) = second.shown
    assert (race.caption, race.png, race.slides) == ("See the race.", b"last", SLIDES)
    assert page.pictures == {"curve": picture, "race": race}


def test_a_missing_value_is_an_error_and_values_take_precedence():
    with pytest.raises(KeyError, match="count"):
        make_page(PROSE, LESSON, {})
    page = make_page(PROSE, Lesson(SHOWN, {}, "curve", {"count": 1, "loss": 2}), {"loss": 3})
    assert page.facts["the loss"] == "2.00"


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [(-1.5, "g", "−1.5"), (-0.0, "g", "0"), (float("inf"), "g", "∞"), (float("nan"), "g", "NaN")],
)
def test_numbers_have_a_typographic_minus_and_signs_for_infinity(value, form, text):
    assert number(value, form) == text
