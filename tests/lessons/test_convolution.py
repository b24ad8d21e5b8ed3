"""Convolutions window by window, image sizes, costs of layers, and their figures."""

import math

import jax
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from scipy.signal import correlate

from fidle_jax.errors import InputError
from fidle_jax.lessons import convolution as lesson
from fidle_jax.lessons import convolution_figures as figures
from fidle_jax.lessons.convolution import (
    CUBE,
    CUBE_KERNEL,
    FIRST,
    IMAGE,
    KERNEL,
    KERNELS,
    POOLED,
    SECOND,
    SIGNAL,
    SIGNAL_KERNEL,
    ConvLayer,
    convolve,
    window_steps,
)
from fidle_jax.nn import CNN, Conv, Dense
from fidle_jax.report.style import LINES

PAIRS = [(IMAGE, KERNEL, 9), (SIGNAL, SIGNAL_KERNEL, 6), (CUBE, CUBE_KERNEL, 8)]


def test_the_kernel_of_the_slides_gives_10_11_12():
    steps = window_steps(IMAGE, KERNEL)
    assert [step.total for step in steps[:3]] == [10, 11, 12]
    assert [step.start for step in steps[:4]] == [(0, 0), (0, 1), (0, 2), (1, 0)]


@pytest.mark.parametrize(("image", "kernel", "count"), PAIRS)
def test_each_window_has_a_step_and_its_products_sum_to_the_result_of_scipy(image, kernel, count):
    rng = np.random.default_rng(0)
    random = [rng.integers(-4, 5, each.shape).astype(np.float32) for each in (image, kernel)]
    for x, w in ((image, kernel), random):
        steps, expected = window_steps(x, w), correlate(x, w, "valid", "direct")
        assert len(steps) == count
        for step in steps:
            np.testing.assert_array_equal(step.products, step.values * w)
            assert step.total == step.products.sum() == expected[step.start]


def test_the_kernel_of_the_signal_gives_its_change():
    assert [step.total for step in window_steps(SIGNAL, SIGNAL_KERNEL)] == [0, 4, 4, 0, -3, -3]


def test_an_image_smaller_than_the_kernel_is_rejected():
    with pytest.raises(ValueError, match="too small"):
        window_steps(IMAGE[:2], KERNEL)
    with pytest.raises(ValueError, match="too small"):
        ConvLayer(2, 9, 1, 1, 3).costs()


def test_a_sobel_kernel_responds_to_edges_of_its_direction_only():
    # The ramp increases by 1 to the right. A Sobel kernel returns 8 times the slope along its axis.
    ramp = np.tile(np.arange(5, dtype=np.float32), (5, 1))
    np.testing.assert_allclose(convolve(ramp, KERNELS["Sobel x"]), 8, atol=1e-4)
    np.testing.assert_allclose(convolve(ramp, KERNELS["Sobel y"]), 0, atol=1e-4)
    np.testing.assert_allclose(convolve(ramp.T, KERNELS["Sobel y"]), 8, atol=1e-4)
    np.testing.assert_allclose(convolve(ramp, KERNELS["Laplacian"]), 0, atol=1e-4)


def test_sharpening_is_the_identity_minus_the_laplacian():
    np.testing.assert_array_equal(KERNELS["sharpen"], KERNELS["identity"] - KERNELS["Laplacian"])


def test_the_photograph_needs_no_network_and_has_values_from_0_to_1(monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *to: pytest.fail("it uses the network"))
    image = lesson.load_photograph()
    assert (image.shape, image.dtype) == ((128, 128), np.float32)
    assert 0 <= image.min() < 0.1
    assert 0.9 < image.max() <= 1


def test_a_missing_photograph_is_an_input_error(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    with pytest.raises(InputError, match="reinstall scikit-image"):
        lesson.load_photograph()


def test_the_stages_of_the_courses_network_have_its_shapes_and_42_358_parameters():
    passed = lesson.stages(CNN(), (28, 28, 1))
    assert [(shape, params) for _, shape, params in passed] == [
        ((28, 28, 1), 0),
        ((26, 26, 8), 80),
        ((13, 13, 8), 0),
        ((11, 11, 16), 1_168),
        ((5, 5, 16), 0),
        ((400,), 0),
        ((100,), 40_100),
        ((10,), 1_010),
    ]
    assert sum(params for _, _, params in passed) == 42_358
    for layer, image, result in ((FIRST, *passed[:2]), (SECOND, *passed[2:4])):
        assert layer[:3] == image[1]
        assert layer.output_shape == result[1]


def test_the_formulas_of_the_slides():
    assert SECOND.costs()["convolution"]["params"] == 1_168
    assert FIRST.costs() == {
        "convolution": {"params": 80, "multiplications": 26 * 26 * 8 * 9},
        "dense": {"params": 5_408 * 785, "multiplications": 5_408 * 784},
    }


@pytest.mark.parametrize("layer", [(5, 5, 1, 1, 1), (9, 6, 3, 2, 5), (7, 8, 4, 4, 2)])
def test_the_projects_own_layers_have_these_parameters_and_output_shapes(layer):
    layer = ConvLayer(*layer)
    image = jax.ShapeDtypeStruct((1, *layer[:3]), "float32")
    flat = jax.ShapeDtypeStruct((1, math.prod(layer[:3])), "float32")

    def sizes(module, x):
        init = jax.eval_shape(lambda x: module.init_with_output(jax.random.key(0), x), x)
        return init[0].shape[1:], sum(leaf.size for leaf in jax.tree.leaves(init[1]["params"]))

    conv = Conv(layer.kernels, (layer.kernel_size,) * 2, padding="valid")
    outputs, costs = math.prod(layer.output_shape), layer.costs()
    assert sizes(conv, image) == (layer.output_shape, costs["convolution"]["params"])
    assert sizes(Dense(outputs), flat) == ((outputs,), costs["dense"]["params"])


def test_the_parameters_of_a_convolution_do_not_depend_on_the_image_size():
    small, large = (ConvLayer(side, side, 3, 8, 3).costs() for side in (20, 200))
    assert small["convolution"]["params"] == large["convolution"]["params"] == 224
    assert small["dense"]["params"] < large["dense"]["params"] == 313_632 * 120_001


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_the_slices_of_a_cube_have_the_window_in_two_of_them():
    steps = window_steps(CUBE, CUBE_KERNEL)
    slides = figures.window_slides(CUBE, CUBE_KERNEL, steps)
    assert len(slides) == 8
    for slide, step in zip(slides, steps, strict=True):
        assert figures.written_sum(step, CUBE_KERNEL)[1] in texts(slide)
        frames = [each for each in slide.axes[0].patches if not each.get_fill()]
        assert [each.get_width() for each in frames] == [2, 2, 1]


def test_nine_slides_show_the_sum_of_each_window_and_one_more_result():
    steps = window_steps(IMAGE, KERNEL)
    slides = figures.window_slides(IMAGE, KERNEL, steps)
    counts = []
    for slide, step in zip(slides, steps, strict=True):
        shown = texts(slide)
        assert {*figures.written_sum(step, KERNEL), "image", "kernel", "products"} <= set(shown)
        # 25 numbers of the image and nine each of the kernel and the products; the rest are results.
        counts.append(sum(text.isdigit() for text in shown) - 25 - 9 - 9)
    assert counts == list(range(1, 10))


def test_sums_are_written_out_with_negative_numbers_in_brackets():
    assert figures.written_sum(window_steps(IMAGE, KERNEL)[0], KERNEL) == (
        "1·1 + 2·0 + 3·1 + 1·0 + 2·1 + 3·0 + 1·1 + 2·0 + 3·1",
        "= 1 + 0 + 3 + 0 + 2 + 0 + 1 + 0 + 3 = 10",
    )
    last = window_steps(SIGNAL, SIGNAL_KERNEL)[-1]
    expected = "5·(−1) + 2·0 + 2·1", "= (−5) + 0 + 2 = −3"
    assert figures.written_sum(last, SIGNAL_KERNEL) == expected


def test_a_signal_is_drawn_as_an_image_with_one_row():
    steps = window_steps(SIGNAL, SIGNAL_KERNEL)
    slides = figures.window_slides(SIGNAL, SIGNAL_KERNEL, steps)
    assert len(slides) == 6
    frames = [each for each in slides[2].axes[0].patches if not each.get_fill()]
    assert [(each.get_width(), each.get_height()) for each in frames] == [(3, 1), (1, 1)]
    for slide, step in zip(slides, steps, strict=True):
        assert set(figures.written_sum(step, SIGNAL_KERNEL)) <= set(texts(slide))


@pytest.mark.parametrize(
    ("layout", "title", "sizes"),
    [
        ((3, "valid", 1), "3×3, valid, stride 1", "7 → 5,  28 → 26"),
        ((3, "same", 2), "3×3, same, stride 2", "7 → 4,  28 → 14"),
        ((2, "pooling", 2), "pooling 2×2, valid, stride 2", "7 → 3,  28 → 14"),
    ],
)
def test_a_layout_shows_the_sizes_and_the_padding(layout, title, sizes):
    figure = figures.layouts_figure([layout])
    assert {title, sizes} <= set(texts(figure))
    grey = [each for each in figure.axes[0].patches if each.get_facecolor() == to_rgba(LINES)]
    assert len(grey) == (9 * 9 - 7 * 7 if "same" in layout else 0)


def test_the_row_and_column_that_pooling_drops_are_white():
    cells = figures.layouts_figure([(2, "pooling", 2)]).axes[0].patches[: 7 * 7]
    assert sum(cell.get_facecolor() == (1, 1, 1, 1) for cell in cells) == 7 + 6


def test_pooling_shows_the_maximum_of_each_tile():
    figure = figures.pooling_figure(POOLED)
    assert [text for text in texts(figure) if text][-4:] == ["4", "5", "6", "3"]


def test_signed_results_have_zero_in_the_middle_and_the_others_are_grey():
    values = np.array([[0.0, 0.5], [1.0, -2.0]])
    figure = figures.effects_figure(KERNELS, {"blur": values, "Sobel x": values})
    grey, signed = (axes.images[0] for axes in figure.axes if axes.images)
    assert grey.get_clim() == (0, 1)
    low, high = signed.get_clim()
    assert -low == high == pytest.approx(2, rel=0.02)
    assert grey.get_cmap().name == "gray"
    np.testing.assert_allclose(signed.get_cmap()(0.5)[:3], 1, atol=0.05)


def test_each_kernel_is_shown_with_its_name_and_all_its_values():
    figure = figures.effects_figure(KERNELS, dict.fromkeys(KERNELS, np.eye(2)))
    titles = [axes.get_title().split() for axes in figure.axes[: len(KERNELS)]]
    assert [" ".join(title[:-9]) for title in titles] == list(KERNELS)
    assert titles[1][1:] == ["1/9"] * 9
    assert titles[-1][1:] == ["0", "1", "0", "1", "−4", "1", "0", "1", "0"]


def test_a_layer_is_described_by_its_image_and_kernels():
    assert str(FIRST) == "28×28×1 to 8 kernels of 3×3"
    assert str(FIRST._replace(kernels=1)) == "28×28×1 to 1 kernel of 3×3"
