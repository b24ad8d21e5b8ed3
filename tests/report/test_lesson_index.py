"""The page that leads to the lessons'."""

import io

from PIL import Image

from fidle_jax.report.lesson_index import THUMBNAIL, Card, render_index, thumbnail


def test_a_lesson_has_a_card_that_leads_to_its_page_and_one_that_failed_says_so():
    cards = [
        Card("one", title="The first", summary="It is so.", seconds=3.2, page="one/report.html"),
        Card("two", failure="It failed; the terminal says why."),
    ]
    page = render_index(cards, quick=True, command="python all.py")
    assert '<a href="one/report.html">' in page
    assert all(words in page for words in ("The first", "It is so.", "3.2 s", "small budget"))
    assert page.count("<a ") == 1
    assert "It failed; the terminal says why." in page


def test_a_thumbnail_is_small_and_of_the_last_frame(tmp_path):
    frames = [Image.new("RGB", (1000, 500), grey) for grey in ("black", "white")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with Image.open(io.BytesIO(thumbnail(tmp_path / "a.gif"))) as small:
        assert small.size == (THUMBNAIL[0], THUMBNAIL[0] // 2)
        assert small.convert("L").getpixel((9, 9)) == 255
