"""The page computes the probabilities of the run, and explains each value with the numbers behind it."""

import dataclasses
import json

import numpy as np
import pytest

from fidle_jax.inference.export import describe_network
from fidle_jax.inference.load import load
from fidle_jax.report.network_page import choose_examples, encode, render_network
from fidle_jax.train.run_content import Evaluation, read_evaluation
from tests.inference.drawn_digits import DIGITS
from tests.inference.random_networks import SHAPES, random_images, random_network
from tests.trained import train_sample

CLASSIFY = """([text, size]) => {
  const bytes = bytesOf(text), all = [];
  for (let i = 0; i < bytes.length; i += size) all.push(Array.from(classify(bytes.subarray(i, i + size))));
  return all;
}"""


@pytest.fixture
def open_page(browser, tmp_path):
    """``open_page(html, **options)`` opens a page from a file. After the test, it must have had no errors."""
    pages = []

    def open_(html, **options):
        file = tmp_path / f"{len(pages)}.html"
        file.write_text(html, encoding="utf-8")
        page = browser.new_page(**{"viewport": {"width": 1100, "height": 1000}} | options)
        pages.append(page)
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("console", lambda said: page.faults.append(said.text))
        page.on(
            "request",
            lambda asked: page.faults.append(asked.url) if asked.url != file.as_uri() else None,
        )
        page.goto(file.as_uri())
        page.locator("#desk[aria-busy=false]").wait_for()
        return page

    yield open_
    for page in pages:
        assert [each for each in page.faults if not each.startswith(("data:", "blob:"))] == []
        page.close()


def render(trained, images, labels=None):
    labels = np.arange(len(images)) % len(trained.class_names) if labels is None else labels
    probabilities = np.asarray(trained.predict(images))
    return render_network(
        describe_network(trained),
        Evaluation(images, labels, probabilities, list(trained.class_names)),
    )


def run_html(run_dir):
    return render_network(
        describe_network(load(run_dir)), choose_examples(read_evaluation(run_dir))
    )


def classify(page, images):
    return np.array(page.evaluate(CLASSIFY, [encode(images), int(np.prod(images.shape[1:]))]))


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("count", [5, pytest.param(1000, marks=pytest.mark.slow)])
def test_the_page_of_every_network_computes_its_probabilities(open_page, name, count):
    trained = random_network(name)
    images = random_images(trained.image_shape, count)
    expected = np.asarray(trained.predict(images))
    assert np.ptp(expected, axis=0).max() > 1e-2  # otherwise, any network would pass
    found = classify(open_page(render(trained, images[:3])), images)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))


def test_the_page_of_a_run_classifies_its_test_images_as_the_run_did(
    open_page, trained_run, evaluation
):
    page = open_page(run_html(trained_run))
    found = classify(page, evaluation["images"])
    assert len(found) == 1000
    np.testing.assert_allclose(found, evaluation["probabilities"], atol=1e-5)
    np.testing.assert_array_equal(found.argmax(1), evaluation["probabilities"].argmax(1))
    assert "on these 10 test images" in page.locator("#check").text_content()


# The number after the last "=" or ":" of the text is the value, rounded to three digits.
EXPLAINED = """() => {
  const faults = [], number = (text) => Number(text.replaceAll("−", "-"));
  let steps = 0, cells = 0;
  document.querySelector("#layers figcaption button").click();
  for (;;) {
    steps += 1;
    const title = document.querySelector(".layer button[aria-expanded=true] b").textContent;
    const inspector = document.querySelector(".inspector");
    const fields = [...inspector.querySelectorAll(".choice :is(input, select)")];
    const tensor = run(scaled(about.examples[0].pixels))[title];
    for (let i = 0; i < 6 && !["flatten", "probabilities"].includes(title); i += 1) {
      const place = {};
      for (const field of fields) {
        field.value = 1 + (7 * i + 3) % (field.max ?? field.options.length);
        field.dispatchEvent(new Event("input"));
        place[field.parentNode.firstChild.textContent.trim()] = Number(field.value) - 1;
      }
      const [_, width, channels] = tensor.shape, channel = place.map ?? place.channel ?? place.neuron ?? 0;
      const at = channels === undefined ? channel : (place.row * width + place.column) * channels + channel;
      const text = inspector.querySelector(".sums").lastChild.textContent.split(", which")[0];
      const shown = number(text.match(/[−\\d.e-]+$/)[0]), expected = Number(tensor.data[at].toPrecision(3));
      const fault = Math.abs(shown - expected) > 1e-6 + 0.002 * Math.abs(expected);
      if (fault) faults.push([title, text, expected]);
      cells += 1;
    }
    const next = inspector.querySelectorAll(".walk button")[1];
    if (next.disabled) return { steps, cells, faults, last: title };
    next.click();
  }
}"""


@pytest.mark.parametrize("name", SHAPES)
def test_every_step_explains_the_value_that_it_shows(open_page, name):
    trained = random_network(name)
    page = open_page(render(trained, random_images(trained.image_shape, 1)))
    found = page.evaluate(EXPLAINED)
    assert found["faults"] == []
    assert found["last"] == "probabilities"
    nodes = describe_network(trained).nodes
    assert (found["steps"], found["cells"]) == (len(nodes) + 2, 6 * len(nodes))


def on_the_board(page, stroke):
    box = page.locator("#board").bounding_box()
    return [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in stroke]


def draw(page, digit):
    for stroke in DIGITS[digit]:
        first, *others = on_the_board(page, stroke)
        page.mouse.move(*first)
        page.mouse.down()
        for place in others:
            page.mouse.move(*place)
        page.mouse.up()


def answer(page):
    """Return the answer after the last change was painted."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page.locator("#answer").text_content()


@pytest.fixture(scope="module")
def good_html(tmp_path_factory, compilation_cache):
    """The page of the full training on the embedded sample."""
    run_dir = tmp_path_factory.mktemp("good") / "run"
    train_sample(run_dir)
    return run_html(run_dir)


@pytest.mark.slow
def test_at_least_nine_of_ten_drawn_digits_are_recognised(open_page, good_html):
    page, answers = open_page(good_html), {}
    for digit in DIGITS:
        page.keyboard.press("c")
        draw(page, digit)
        answers[digit] = answer(page)
    assert sum(found == str(digit) for digit, found in answers.items()) >= 9, answers
    assert len(good_html) < 1e6


def first_map(page):
    return page.locator("#layers canvas").nth(1).evaluate("canvas => canvas.toDataURL()")


def test_the_page_follows_the_drawing(open_page, trained_run):
    page = open_page(run_html(trained_run))
    assert page.locator(".example[aria-pressed=true]").count() == 1
    draw(page, 1)
    one = (answer(page), first_map(page))
    assert page.locator(".example[aria-pressed=true]").count() == 0
    draw(page, 7)
    answer(page)
    assert first_map(page) != one[1]
    page.locator("#undo").click()
    assert (answer(page), first_map(page)) == one
    page.keyboard.press("u")
    assert answer(page) == "–"
    assert page.locator("#hint").is_visible()
    page.locator(".example").nth(4).click()
    assert answer(page) != "–"
    assert page.locator("#seen").evaluate("canvas => canvas.width") == 28


def test_a_finger_can_draw_and_a_keyboard_can_explore(open_page, trained_run):
    options = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
    page = open_page(run_html(trained_run), **options)
    before = first_map(page)
    hand = page.context.new_cdp_session(page)
    for stroke in DIGITS[4]:
        kind = "touchStart"
        for x, y in on_the_board(page, stroke):
            touch = {"type": kind, "touchPoints": [{"x": x, "y": y}]}
            hand.send("Input.dispatchTouchEvent", touch)
            kind = "touchMove"
        hand.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    answer(page)
    assert first_map(page) != before
    assert page.evaluate("scrollY") == 0  # drawing does not scroll the page
    page.locator("#layers button").nth(1).focus()
    page.keyboard.press("Enter")
    page.get_by_label("row").focus()
    page.keyboard.press("ArrowUp")
    assert "=" in page.locator(".sums").text_content()
    page.get_by_role("button", name="next step").press("Enter")
    assert page.locator("[aria-expanded=true] b").text_content() == "pool_1"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("name", ["cnn", "compact"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible_and_fits_a_phone(open_page, name, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    trained = random_network(name)
    html = render(trained, random_images(trained.image_shape, 2))
    size = {"width": 390, "height": 844}
    page = open_page(html, viewport=size, color_scheme=scheme, bypass_csp=True)
    for number in range(page.locator("#layers figcaption button").count()):
        page.locator("#layers figcaption button").nth(number).click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        if number in (0, 1, 2, 7):
            found = axe.Axe().run(page).response["violations"]
            serious = [each for each in found if each["impact"] in ("serious", "critical")]
            assert not serious, json.dumps(serious)[:2000]


def test_a_file_is_classified_and_an_unusable_one_has_an_error(open_page, trained_run, tmp_path):
    page = open_page(run_html(trained_run))
    words = tmp_path / "words.png"
    words.write_text("no image")
    page.locator("#file").set_input_files(words)
    page.locator("#error").wait_for(state="visible")
    assert page.locator("#error").text_content() == (
        "words.png cannot be used: "
        "the browser cannot decode it; expected PNG, JPEG, WebP, GIF, BMP or PPM"
    )
    top = page.locator("#board").bounding_box()["y"]
    picture = tmp_path / "paper.ppm"
    picture.write_bytes(b"P6 30 30 255\n" + bytes(2700))
    page.locator("#file").set_input_files(picture)
    page.get_by_text("no digit found").wait_for()
    page.locator(".example").nth(3).click()
    assert not page.locator("#error").is_visible()
    # A message that moves the board would disturb a drawing.
    assert page.locator("#board").bounding_box()["y"] == top


def test_a_file_that_is_decoded_later_does_not_replace_the_next_action(open_page, trained_run):
    page = open_page(run_html(trained_run))
    page.evaluate("""async () => {
      const white = new OffscreenCanvas(200, 200);
      white.getContext("2d").fillRect(0, 0, 100, 100);
      const taken = take(new File([await white.convertToBlob()], "late.png"));
      exampleButtons[3].click();
      await taken;
    }""")
    assert page.locator(".example").nth(3).get_attribute("aria-pressed") == "true"


def test_a_click_on_a_picture_selects_the_value_under_the_pointer(open_page):
    trained = random_network("cnn")
    page = open_page(render(trained, random_images(trained.image_shape, 1)))
    for name, (row, column, number) in {"conv_1": (12, 15, 8), "conv_2": (0, 5, 16)}.items():
        figure = page.locator("figure.layer", has=page.get_by_role("button", name=name))
        canvas = figure.locator("> canvas")
        width, height = canvas.evaluate("canvas => [canvas.width, canvas.height]")
        box, across = canvas.bounding_box(), 8 if name == "conv_1" else 16
        pitch = (width + 1) // across  # columns of a picture and the gap
        x = (number - 1) % across * pitch + column + 0.5
        canvas.click(
            position={"x": x / width * box["width"], "y": (row + 0.5) / height * box["height"]}
        )
        fields = [
            page.locator(".choice label", has_text=label).locator("input").input_value()
            for label in ("map", "row", "column")
        ]
        assert fields == [str(number), str(row + 1), str(column + 1)]
        # The pointer on the input selects the window around it, also where both have the same indices.
        page.get_by_label("row").fill("4")
        page.get_by_label("column").fill("4")
        image = figure.locator(".framed canvas").first
        h, w = image.evaluate("canvas => [canvas.height, canvas.width]")
        image.hover(position={"x": 3.5 / w * 168, "y": 3.5 / h * image.bounding_box()["height"]})
        assert page.get_by_label("row").input_value() == "3"


def test_the_inspector_keeps_the_focus_and_shows_valid_numbers(open_page):
    trained = random_network("cnn")
    page = open_page(render(trained, random_images(trained.image_shape, 1)))
    page.locator("#layers figcaption button", has_text="conv_2").click()
    play = page.get_by_role("button", name="slide the window")
    play.click()
    page.locator(".channels button").nth(3).press("Enter")
    assert play.is_visible()  # a sliding window would replace the list
    assert page.locator(".channels :focus").get_attribute("aria-pressed") == "true"
    row = page.get_by_label("row")
    for wrong in ("99", "1.5", ""):
        row.fill("2")
        row.fill(wrong)
        row.blur()
        assert row.input_value() == "2"


def test_numbers_and_sums_are_written_for_readers(open_page):
    trained = random_network("cnn")
    page = open_page(render(trained, random_images(trained.image_shape, 1)))
    written = page.evaluate("[1.234e-7, -2e-12, -0.5, 0.00001, 12345].map((each) => short(each))")
    assert written == ["1.23·10⁻⁷", "−2·10⁻¹²", "−0.5", "0.00001", "12300"]
    total = page.evaluate("writeSum([-1, -2, 3], [0.5, -4, 2], 13.5)")
    assert total == "−1·0.5 + (−2)·(−4) + 3·2 = 13.5"
    page.locator("#layers figcaption button", has_text="pool_1").click()  # of 13x16 values
    assert "Remaining rows and columns are left out." in page.locator(".inspector").text_content()


def test_names_of_classes_are_text(open_page):
    trained = random_network("dnn")
    names = ("</script><b>", "<img src=x onerror=alert(1)>", *trained.class_names[2:])
    trained = dataclasses.replace(trained, class_names=names)
    page = open_page(render(trained, random_images(trained.image_shape, 2)))
    assert page.locator("#bars img").count() == 0
    assert names[1] in page.locator("#bars .name").all_text_contents()


def test_the_page_names_the_folder_of_own_images_without_its_path(open_page):
    trained = random_network("dnn")
    config = trained.config.replace(
        dataset="/home/someone/secret/cats and dogs and 300 other animals"
    )
    images = random_images(trained.image_shape, 2)
    html = render(dataclasses.replace(trained, config=config), images)
    assert "secret" not in html
    page = open_page(html, viewport={"width": 390, "height": 844}, forced_colors="active")
    assert "cats and dogs" in page.locator(".facts").text_content()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    colour = "element => getComputedStyle(element).backgroundColor"
    track, fill = (
        page.locator(f"#bars .answer .{name}").evaluate(colour) for name in ("track", "fill")
    )
    assert track != fill  # forced colours would hide the bars
