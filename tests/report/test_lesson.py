"""The page of a lesson."""

import io
import re

import pytest
from PIL import Image

from fidle_jax.report.html import Picture
from fidle_jax.report.lesson import Section, Slides, Table, render_lesson, text_table


def png(grey):
    buffer = io.BytesIO()
    Image.new("L", (8, 6), grey).save(buffer, "PNG")
    return buffer.getvalue()


TABLE = Table(["what", "how", "many"], [["a & b", "slowly", "1,000"], ["c", "fast", "2"]], (0, 1))
SLIDES = Slides("steps", "Steps", "One after the other.", [png(0), png(90), png(250)], list("abc"))
SECTIONS = [
    Section("First", "One paragraph.\n\nAnother.", [Picture("f", "A figure", "See this.", png(9))]),
    Section("Second", shown=[TABLE, SLIDES]),
]


@pytest.fixture(scope="module")
def page():
    return render_lesson("A < B", "In short.", {"a number": "42"}, SECTIONS, "python lesson.py")


def test_it_has_everything_that_is_to_be_said_in_its_order(page):
    words = ["A &lt; B", "In short.", "a number", "42", "First", "One paragraph.", "Another."]
    words += [
        "See this.",
        "Second",
        "a &amp; b",
        "1,000",
        "One after the other.",
        "python lesson.py",
    ]
    body = page.partition("<body>")[2]
    places = [body.index(word) for word in words]
    assert places == sorted(places)
    assert page.count("<p>") == 3


def test_it_is_one_file(page):
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert page.count("data:image/png;base64,") == 4


def test_of_slides_the_first_is_shown_and_a_slider_leads_to_the_others(page):
    images = re.findall(r"<img[^>]*Steps[^>]*>", page)
    assert ["hidden" in image.rsplit('"', 1)[1] for image in images] == [False, True, True]
    assert 'max="2"' in page
    assert "figure img[hidden] { display: none; }" in page


def test_columns_of_words_begin_at_the_left_and_those_of_numbers_end_at_the_right(page):
    assert '<td class="name">slowly</td><td class="right">1,000</td>' in page
    assert text_table(TABLE).splitlines() == [
        "what   how      many",
        "--------------------",
        "a & b  slowly  1,000",
        "c      fast        2",
    ]


def test_the_animation_has_every_slide_as_long_and_starts_again():
    with Image.open(io.BytesIO(SLIDES.gif())) as gif:
        assert (gif.n_frames, gif.info["loop"], gif.size) == (3, 0, (8, 6))
        assert gif.info["duration"] == 800
        gif.seek(2)
        assert gif.convert("L").getpixel((3, 3)) == pytest.approx(250, abs=3)
