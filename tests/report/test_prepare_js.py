"""JavaScript prepares images for a network exactly as the Python code does."""

import base64
import io
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import PIL
import pytest
from PIL import Image

import fidle_jax.report
from fidle_jax.data.decode import flatten, read_image, resize_image
from fidle_jax.data.load import load_sample
from fidle_jax.data.signs import SIZES, TREATMENTS
from fidle_jax.errors import InputError
from fidle_jax.inference.load import Run
from fidle_jax.inference.preprocess import NO_DIGIT, prepare
from fidle_jax.train.config import ResolvedConfig
from tests.inference.drawn_digits import drawing
from tests.inference.photographs import encode, gradient, photograph

DIGIT = {"kind": "digit", "imageShape": (28, 28, 1), "resize": "stretch", "treatment": None}

# Since version 13, Pillow resizes tall images along the columns first and rounds differently.
TOLERANCE = 0 if int(PIL.__version__.split(".")[0]) >= 13 else 1

PREPARE = """cases => cases.map(([width, height, content, about]) => {
    const data = Uint8ClampedArray.from(atob(content), c => c.charCodeAt(0));
    try {
        return btoa(String.fromCharCode(...prepareImage({width, height, data}, about)));
    } catch (error) {
        return {error: error.message};
    }
})"""


@pytest.fixture(scope="module")
def page(browser):
    page = browser.new_page()
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    for name in ("signs.js", "digit.js", "prepare.js"):
        source = Path(fidle_jax.report.__file__).with_name(name).read_text()
        assert "</script" not in source
        page.add_script_tag(content=f'"use strict";\n{source}')
    assert page.evaluate("typeof prepareImage") == "function"
    assert faults == []
    return page


def in_browser(page, images, about):
    """Return for each image what `prepareImage` returns, or the message of its error."""
    cases = [
        (
            image.width,
            image.height,
            base64.b64encode(image.convert("RGBA").tobytes()).decode(),
            about,
        )
        for image in images
    ]
    return [
        answer["error"]
        if isinstance(answer, dict)
        else np.frombuffer(base64.b64decode(answer), np.uint8).reshape(about["imageShape"])
        for answer in page.evaluate(PREPARE, cases)
    ]


def in_python(image, dataset, shape):
    config = ResolvedConfig().replace(dataset=dataset)
    return prepare(image, Mock(spec=Run, config=config, image_shape=shape))


def assert_same_digits(page, images):
    for image, found in zip(images, in_browser(page, images, DIGIT), strict=True):
        try:
            expected = in_python(image, "mnist", (28, 28, 1))
        except InputError:
            assert isinstance(found, str)
            assert found == NO_DIGIT
        else:
            np.testing.assert_array_equal(found, expected)


def smooth(rng, height, width, channels=3):
    """Return a random image without noise."""
    small = rng.integers(0, 256, (*rng.integers(2, 9, 2), channels), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def noise(rng, height, width, levels=256, channels=3):
    return Image.fromarray(rng.integers(0, levels, (height, width, channels), dtype=np.uint8))


def on_paper(rng, digit, side):
    """Place a drawing anywhere on noisy paper in uneven light, dark on light or light on dark."""
    paper = gradient(side, rng)
    top, left = rng.integers(0, side - digit.height + 1, 2)
    window = paper[top : top + digit.height, left : left + digit.width]
    window *= 1 - 0.9 * np.asarray(digit) / 255
    paper += rng.normal(0, rng.uniform(0, 0.03), paper.shape)
    values = paper if rng.uniform() < 0.5 else 1 - paper
    return Image.open(io.BytesIO(encode(values, "PNG"))).convert("RGB")


@pytest.mark.parametrize("side", [28, 64, 140, 280])
def test_a_drawn_digit_is_normalised_exactly_as_in_python(page, side):
    drawings = [drawing(digit, side, side // 14).convert("RGB") for digit in range(10)]
    inverted = [Image.eval(image, lambda value: 255 - value) for image in drawings]
    assert_same_digits(page, drawings[::2] + inverted[1::2])


def test_a_digit_on_noisy_paper_in_uneven_light_is_normalised_exactly_as_in_python(page):
    rng = np.random.default_rng(0)
    digits = [drawing(digit, int(rng.integers(40, 140)), 8) for digit in range(10)]
    assert_same_digits(
        page, [on_paper(rng, digit, int(rng.integers(140, 400))) for digit in digits]
    )


def test_digits_of_mnist_and_photographs_of_them_are_normalised_exactly_as_in_python(page):
    rng = np.random.default_rng(1)
    digits = load_sample(0).read("test").images[:40, ..., 0]
    plain = [Image.fromarray(digit).convert("RGB") for digit in digits]
    assert_same_digits(page, plain + [read_image(photograph(digit, rng)) for digit in digits[:3]])


def test_a_large_photograph_of_a_digit_is_reduced_exactly_as_in_python(page):
    rng = np.random.default_rng(5)
    # Blocks of 2x2 pixels are averaged first. The last row and column have no partner.
    assert_same_digits(page, [on_paper(rng, drawing(4, 700, 60), 1101)])


@pytest.mark.parametrize("ink", [(255, 240, 0), (20, 40, 160)])
def test_coloured_ink_is_found_exactly_as_in_python(page, ink):
    share = np.asarray(drawing(3, 100, 8))[..., None] / 255
    colours = np.rint(share * ink + (1 - share) * 255).astype(np.uint8)
    assert_same_digits(page, [Image.fromarray(colours)])


def test_empty_paper_and_noise_have_the_same_result_or_error_as_in_python(page):
    rng = np.random.default_rng(2)
    papers = [Image.new("RGB", (90, 60), 3 * (grey,)) for grey in (0, 128, 200, 255)]
    papers += [read_image(encode(gradient(side, rng), "JPEG")) for side in (50, 200, 400)]
    papers += [noise(rng, *rng.integers(1, 41, 2), rng.integers(1, 257)) for _ in range(60)]
    assert_same_digits(page, papers)
    assert in_browser(page, papers[:7], DIGIT) == 7 * [NO_DIGIT]


def test_transparent_images_get_the_background_of_python(page):
    rng = np.random.default_rng(3)
    images = [smooth(rng, *rng.integers(10, 320, 2), 4) for _ in range(12)]
    images += [noise(rng, *rng.integers(1, 60, 2), channels=4) for _ in range(12)]
    outline = drawing(5, 300, 20)
    for grey in (20, 230):
        drawn = Image.new("RGBA", outline.size, (*3 * (grey,), 0))
        drawn.putalpha(outline)
        images.append(drawn)
    assert_same_digits(page, images)
    about = {**DIGIT, "kind": "traffic sign", "imageShape": (24, 24, 3), "treatment": "RGB"}
    for image, found in zip(images, in_browser(page, images, about), strict=True):
        assert_close(found, in_python(image, "24x24-RGB", (24, 24, 3)))


def assert_close(found, expected):
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= TOLERANCE


@pytest.mark.parametrize("side", SIZES)
@pytest.mark.parametrize("treatment", TREATMENTS)
def test_a_sign_of_the_final_size_is_treated_exactly_as_in_python(page, treatment, side):
    rng = np.random.default_rng(side)
    signs = [make(rng, side, side) for make in (smooth, noise) for _ in range(6)]
    # Dim photographs, few levels and a single level.
    signs += [smooth(rng, side, side).point(lambda value: 90 + value // 8) for _ in range(3)]
    signs += [noise(rng, side, side, levels) for levels in (1, 2, 3)]
    signs += [Image.new("RGB", (side, side), colour) for colour in ("white", "gray", (200, 3, 90))]
    shape = (side, side, 3 if treatment.startswith("RGB") else 1)
    about = {**DIGIT, "kind": "traffic sign", "imageShape": shape, "treatment": treatment}
    for sign, found in zip(signs, in_browser(page, signs, about), strict=True):
        np.testing.assert_array_equal(found, in_python(sign, f"{side}x{side}-{treatment}", shape))


def random_images(seed, count):
    rng = np.random.default_rng(seed)
    return [
        make(rng, *rng.integers(1, 200, 2)) for make in (smooth, noise) for _ in range(count // 2)
    ]


def test_a_sign_of_any_size_is_scaled_as_in_python(page):
    images = random_images(4, 40)
    about = {**DIGIT, "kind": "traffic sign", "imageShape": (32, 32, 3), "treatment": "RGB"}
    for image, found in zip(images, in_browser(page, images, about), strict=True):
        assert_close(found, in_python(image, "32x32-RGB", (32, 32, 3)))


@pytest.mark.parametrize("how", ["fit", "crop", "stretch"])
@pytest.mark.parametrize("shape", [(32, 32, 3), (21, 50, 1), (64, 25, 3)])
def test_another_image_is_resized_as_in_python(page, how, shape):
    images = random_images(shape[0], 20)
    images += [smooth(np.random.default_rng(0), *shape[:2]), Image.new("RGB", (400, 20), "red")]
    images += [smooth(np.random.default_rng(1), 70, 90, channels=4)]
    about = {"kind": "image", "imageShape": shape, "resize": how, "treatment": None}
    for image, found in zip(images, in_browser(page, images, about), strict=True):
        assert_close(found, resize_image(flatten(image), shape, how))


DECODE = """content => {
    try {
        const image = decodePpm(Uint8Array.from(atob(content), c => c.charCodeAt(0)));
        return image && [image.width, image.height, ...image.data];
    } catch (error) {
        return error.message;
    }
}"""


def decoded(page, content):
    return page.evaluate(DECODE, base64.b64encode(content).decode())


PIXELS = bytes(range(0, 180, 5))


@pytest.mark.parametrize(
    "content",
    [
        b"P6 4 3 255\n" + PIXELS,
        b"P5\n# made by hand\n4 9\n# 8 bits\n255\n" + PIXELS,
        b"P6\r\n3\t4#\n 200 " + PIXELS,
        b"P6 4 3 255 " + PIXELS + b"more",
        b"P5 6 6 177\n" + PIXELS,
    ],
    ids=["colours", "grey", "comments", "trailing bytes", "white is 177"],
)
def test_a_ppm_file_is_decoded_as_in_python(page, content):
    expected = read_image(content).convert("RGBA")
    assert decoded(page, content) == [*expected.size, *expected.tobytes()]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encode(np.ones((3, 3)), "PNG"), None),
        (b"", None),
        (b"P3 1 1 255 1 2 3", None),
        (b"P65 is a name", None),
        (b"P6 4 3 255\n" + PIXELS[:-1], "the PPM file is damaged; copy or save it again"),
        (b"P6 4 3 25", "the PPM file is damaged; copy or save it again"),
        (b"P6 0 3 255\n", "the PPM file is damaged; copy or save it again"),
        (
            b"P5 2 9 65535\n" + PIXELS,
            "the PPM file has 16 bits per colour; convert it to 8 bits per colour",
        ),
    ],
    ids=["PNG", "empty", "text PPM", "other text", "truncated", "no pixels", "no rows", "16 bits"],
)
def test_other_files_are_null_and_unusable_ppm_files_have_an_error(page, content, expected):
    assert decoded(page, content) == expected


def test_a_drawing_of_140_pixels_is_prepared_in_a_few_milliseconds(page):
    in_browser(page, [drawing(digit, 140, 10) for digit in range(10)] * 3, DIGIT)
    fastest = page.evaluate(
        """([content, about]) => {
            const data = Uint8ClampedArray.from(atob(content), c => c.charCodeAt(0));
            return Math.min(...Array.from({length: 10}, () => {
                const start = performance.now();
                prepareImage({width: 140, height: 140, data}, about);
                return performance.now() - start;
            }));
        }""",
        [base64.b64encode(drawing(8, 140, 10).convert("RGBA").tobytes()).decode(), DIGIT],
    )
    # 5 ms on one core of 2.x GHz. Other tests may use the same core.
    assert fastest < 20
