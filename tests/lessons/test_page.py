"""The prose of a lesson is combined with its values, figures and tables."""

import pytest

from fidle_jax.lessons import page
from fidle_jax.lessons.figures import number
from fidle_jax.lessons.page import Frames, Lesson, make_page
from fidle_jax.report.html import Picture
from fidle_jax.report.lesson import Slides, Table
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


@pytest.fixture
def lesson(monkeypatch, tmp_path):
    (tmp_path / "example.md").write_text(PROSE)
    monkeypatch.setattr(page.resources, "files", lambda package: tmp_path)
    frames = Frames([new_figure(1), new_figure(1)], ["one", "two"], seconds=0.5)
    shown = {"curve": new_figure(1), "numbers": Table(["a"], [["1"]]), "race": frames}
    return Lesson({"count": 1000, "loss": 0.123}, shown, {}, "curve")


def test_the_title_the_summary_and_the_key_numbers_have_their_values(lesson):
    found = make_page("example", lesson)
    assert found.title == "A title with 1,000 words"
    assert found.summary == "A summary on two lines."
    assert found.facts == {"the loss": "0.12", "a ratio": "1 : 2"}


def test_each_section_has_its_paragraphs_figures_and_tables_in_order(lesson):
    first, second = make_page("example", lesson).sections
    assert (first.title, first.text) == ("First", "One paragraph on two lines.\n\nAnother one.")
    picture, table = first.shown
    assert isinstance(picture, Picture)
    assert (picture.name, picture.title) == ("curve", "A figure")
    assert picture.caption == "See the curve, which is blue."
    assert picture.png.startswith(b"\x89PNG")
    assert table is lesson.shown["numbers"]
    assert (second.title, second.text) == ("Second", "")
    (slides,) = second.shown
    assert isinstance(slides, Slides)
    assert (slides.caption, slides.labels, slides.seconds) == ("See the race.", ["one", "two"], 0.5)


@pytest.mark.parametrize("missing", ["count", "loss"])
def test_a_missing_value_is_an_error(lesson, missing):
    values = {name: value for name, value in lesson.values.items() if name != missing}
    with pytest.raises(KeyError, match=missing):
        make_page("example", Lesson(values, lesson.shown, {}, "curve"))


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [(-1.5, "g", "−1.5"), (-0.0, "g", "0"), (float("inf"), "g", "∞"), (float("nan"), "g", "NaN")],
)
def test_numbers_have_a_typographic_minus_and_signs_for_infinity(value, form, text):
    assert number(value, form) == text
