import numpy as np
import pytest
from matplotlib.patches import Polygon, Rectangle

from fidle_jax.lessons.convolution import (
    CUBE,
    CUBE_KERNEL,
    IMAGE,
    KERNEL,
    KERNELS,
    POOLED,
    SIGNAL,
    SIGNAL_KERNEL,
    pool,
    window_steps,
)
from fidle_jax.lessons.layer_costs import FIRST, SECOND, ConvLayer, Stage
from fidle_jax.report.lessons.convolution import (
    costs_figure,
    costs_tables,
    effects_figure,
    kernels_figure,
)
from fidle_jax.report.lessons.convolution_sizes import (
    chain_figure,
    chain_table,
    layouts_figure,
    make_layout,
    pooling_figure,
)
from fidle_jax.report.lessons.convolution_windows import (
    cube_slides,
    plane_slides,
    signal_figure,
    written_sum,
)
from fidle_jax.report.style import png


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_nine_frames_show_the_principle_each_with_its_sum_and_one_result_more():
    steps = window_steps(IMAGE, KERNEL)
    frames = plane_slides(IMAGE, KERNEL, steps)
    assert len(frames) == 9
    counts = []
    for frame, step in zip(frames, steps, strict=True):
        shown = texts(frame)
        assert set(written_sum(step, KERNEL)) <= set(shown)
        assert {"image", "kernel", "products", "result"} <= set(shown)
        # 25 of the image, nine of the kernel and of the products; the rest are results.
        numbers = [text for text in shown if text.isdigit()]
        counts.append(len(numbers) - 25 - 9 - 9)
    assert counts == list(range(1, 10))


def test_the_sum_is_written_out():
    first = window_steps(IMAGE, KERNEL)[0]
    assert written_sum(first, KERNEL) == (
        "1·1 + 2·0 + 3·1 + 1·0 + 2·1 + 3·0 + 1·1 + 2·0 + 3·1",
        "= 1 + 0 + 3 + 0 + 2 + 0 + 1 + 0 + 3 = 10",
    )


def test_numbers_below_zero_stand_in_brackets_within_a_sum():
    last = window_steps(SIGNAL, SIGNAL_KERNEL)[-1]
    assert written_sum(last, SIGNAL_KERNEL) == (
        "5·(−1) + 2·0 + 2·1",
        "= (−5) + 0 + 2 = −3",
    )


def test_a_signal_shows_the_sum_of_each_of_its_places():
    steps = window_steps(SIGNAL, SIGNAL_KERNEL)
    sums = [text for text in texts(signal_figure(SIGNAL, SIGNAL_KERNEL, steps)) if " = " in text]
    assert [text.split(" = ")[1] for text in sums] == ["0", "4", "4", "0", "−3", "−3"]


def test_eight_frames_show_the_cube_in_space_and_in_slices():
    steps = window_steps(CUBE, CUBE_KERNEL)
    frames = cube_slides(CUBE, CUBE_KERNEL, steps)
    assert len(frames) == 8
    for frame, step in zip(frames, steps, strict=True):
        faces = [patch for patch in frame.axes[0].patches if isinstance(patch, Polygon)]
        solid = [patch for patch in faces if patch.get_facecolor()[3] == 1]
        assert (len(faces), len(solid)) == (6 * 9 + 3 * 4, 3 * 4)
        assert written_sum(step, CUBE_KERNEL)[1] in texts(frame)
    assert len({png(frame) for frame in frames[:3]}) == 3


@pytest.mark.parametrize(
    ("layout", "title", "sizes"),
    [
        (("", 3, "valid", 1), "3×3, valid, stride 1", "7 → 5,  28 → 26"),
        (("", 3, "same", 2), "3×3, same, stride 2", "7 → 4,  28 → 14"),
        (("pooling", 2, "valid", 2), "pooling 2×2, valid, stride 2", "7 → 3,  28 → 14"),
    ],
)
def test_a_layout_says_the_sizes_before_and_after_and_shows_its_padding(layout, title, sizes):
    figure = layouts_figure([make_layout(*layout)])
    assert {title, sizes} <= set(texts(figure))
    dotted = [patch for patch in figure.axes[0].patches if patch.get_linestyle() == ":"]
    assert len(dotted) == (9 * 9 - 7 * 7 if "same" in layout else 0)


def test_what_a_pooling_loses_is_white():
    cells = layouts_figure([make_layout("pooling", 2, "valid", 2)]).axes[0].patches[: 7 * 7]
    assert sum(cell.get_facecolor() == (1, 1, 1, 1) for cell in cells) == 7 + 6


def test_pooling_shows_the_tiles_and_their_largest_values():
    figure = pooling_figure(POOLED, pool(POOLED))
    assert [text for text in texts(figure) if text][-4:] == ["4", "5", "6", "3"]


CHAIN = [
    Stage("image", (28, 28, 1), 0),
    Stage("conv_1", (26, 26, 8), 80),
    Stage("dense_1", (10,), 1_010),
]


def test_the_chain_names_each_shape_and_layer_and_draws_a_square_for_each_plane():
    figure = chain_figure(CHAIN)
    assert {"28×28\n×1", "26×26\n×8", "10", "conv\n3×3\n80", "dense\n1,010"} <= set(texts(figure))
    squares = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    assert len(squares) == 1 + 8 + 1


def test_the_chains_table_ends_with_all_parameters():
    assert chain_table(CHAIN).rows == [
        ["image", "28×28×1", "–"],
        ["conv_1", "26×26×8", "80"],
        ["dense_1", "10", "1,010"],
        ["together", "", "1,090"],
    ]


def test_signed_pictures_have_zero_in_the_middle_and_the_others_are_grey():
    values = np.array([[0.0, 0.5], [1.0, -2.0]])
    figure = effects_figure({"blur": values, "Sobel x": values}, signed=["Sobel x"])
    grey, signed = (axes.images[0] for axes in figure.axes if axes.images)
    assert grey.get_clim() == (0, 1)
    low, high = signed.get_clim()
    assert -low == high == pytest.approx(2, rel=0.02)
    assert grey.get_cmap().name == "gray"
    np.testing.assert_allclose(signed.get_cmap()(0.5)[:3], 1, atol=0.05)


def test_each_kernel_is_shown_with_its_name_and_all_its_values():
    shown = texts(kernels_figure(KERNELS))
    assert set(KERNELS) <= set(shown)
    assert len(shown) == len(KERNELS) * (9 + 1)
    assert shown.count("1/9") == 9


def test_costs_are_bars_on_a_logarithmic_scale_with_their_numbers():
    figure = costs_figure([FIRST, SECOND])
    assert figure.axes[0].get_xscale() == "log"
    assert [text for text in texts(figure) if text] == ["80", "1,168", "4,245,280", "2,619,408"]


def test_the_largest_layer_that_flags_allow_has_its_bar_and_a_number_that_has_room():
    largest = ConvLayer(10_000, 10_000, 10_000, 10_000, 1)
    figure = costs_figure([largest])
    assert png(figure)
    assert texts(figure) == ["100,010,000", "1.00e+24"]


def test_the_tables_of_costs_spell_the_formulas_out():
    params, multiplications = costs_tables([FIRST])
    assert params.rows == [
        [
            "28×28×1 to 8 kernels of 3×3",
            "8·(1·3·3 + 1) = 80",
            "5,408·(784 + 1) = 4,245,280",
        ]
    ]
    assert multiplications.rows[0][1:] == ["48,672", "4,239,872", "87"]
