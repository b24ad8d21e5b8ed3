"""Pages of sections, and the index page of the lessons."""

import io
import re

import pytest
from PIL import Image

from fidle_jax.report.lesson import (
    THUMBNAIL,
    Card,
    Page,
    Picture,
    Section,
    Slides,
    Table,
    render_index,
    render_page,
    text_table,
    thumbnail,
    write_page,
)
from tests.browser import faults_on_a_phone


def png(grey, size=(8, 6)):
    buffer = io.BytesIO()
    Image.new("L", size, grey).save(buffer, "PNG")
    return buffer.getvalue()


TABLE = Table(["what", "how", "many"], [["a & b", "slowly", "1,000"], ["c", "fast", "2"]], (0, 1))
SLIDES = Slides([png(0), png(90), png(250)], list("abc"))
STEPS = Picture("steps", "Steps", "One after the other.", png(250), SLIDES)
SECTIONS = [
    Section("First", "One paragraph.\n\nAnother.", [Picture("f", "A figure", "See this.", png(9))]),
    Section("Second", shown=[TABLE, STEPS]),
]


PAGE = Page("A < B", "In short.", {"a number": "42"}, SECTIONS)


@pytest.fixture(scope="module")
def page():
    return render_page(PAGE, "python lesson.py")


def test_a_page_shows_everything_in_order(page):
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
    positions = [body.index(word) for word in words]
    assert positions == sorted(positions)
    assert page.count("<p>") == 3


def test_a_page_is_one_file(page):
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert page.count("data:image/png;base64,") == 4


def test_the_first_slide_is_visible_and_a_slider_shows_the_others(page):
    images = re.findall(r"<img[^>]*Steps[^>]*>", page)
    assert ["hidden" in image.rsplit('"', 1)[1] for image in images] == [False, True, True]
    assert 'max="2"' in page
    assert "figure img[hidden] { display: none; }" in page


def test_columns_of_words_are_aligned_left_and_columns_of_numbers_right(page):
    assert '<td class="name">slowly</td><td class="right">1,000</td>' in page
    assert text_table(TABLE).splitlines() == [
        "what   how      many",
        "--------------------",
        "a & b  slowly  1,000",
        "c      fast        2",
    ]


def test_the_animation_shows_every_slide_equally_long_and_repeats():
    with Image.open(io.BytesIO(SLIDES.gif())) as gif:
        assert (gif.n_frames, gif.info["loop"], gif.size) == (3, 0, (8, 6))
        assert gif.info["duration"] == 800
        gif.seek(2)
        assert gif.convert("L").getpixel((3, 3)) == pytest.approx(250, abs=3)


def test_the_index_links_to_each_page_and_names_failures():
    cards = [
        Card("one", title="The first", summary="In short.", seconds=3.2),
        Card("two", failure="It failed; the terminal shows the error."),
    ]
    page = render_index(cards, quick=True, command="python all.py")
    assert '<a href="one/report.html">' in page
    words = "The first", "In short.", "3.2\N{NO-BREAK SPACE}s", "small budget"
    assert all(word in page for word in words)
    assert page.count("<a ") == 1
    assert "It failed; the terminal shows the error." in page


def test_the_pages_fit_on_a_phone_and_have_no_barriers(browser, page):
    cards = [Card("one", title="The first", thumbnail=png(9)), Card("two", failure="It failed.")]
    index = render_index(cards, quick=True, command="python all.py")
    assert faults_on_a_phone(browser, page) == faults_on_a_phone(browser, index) == []


def test_a_run_directory_has_the_page_its_figures_and_its_numbers(tmp_path, page):
    write_page(tmp_path / "run", PAGE, "python lesson.py", {"result.json": {"loss": 1.5}})
    files = {path.name for path in (tmp_path / "run").rglob("[!.]*.*")}
    assert files == {"report.html", "result.json", "f.png", "steps.gif"}
    assert (tmp_path / "run" / "report.html").read_text() == page


def test_a_thumbnail_is_small():
    with Image.open(io.BytesIO(thumbnail(png(255, (1000, 500))))) as small:
        assert small.size == (THUMBNAIL[0], THUMBNAIL[0] // 2)
        assert small.convert("L").getpixel((9, 9)) == 255
