import numpy as np
import pytest

from fidle_jax.report.network import feature_maps, learned_kernels
from fidle_jax.report.style import TEXT, png


def kernel_of(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def titles_of(figure):
    return [text.get_text() for text in figure.axes[0].texts if text.get_fontsize() == TEXT]


def test_each_convolution_has_its_own_symmetric_scale():
    kernels = {"conv_1": kernel_of(3, 3, 1, 8), "conv_2": 10 * kernel_of(3, 3, 8, 16)}
    figure = learned_kernels(kernels)
    limits = [image.get_clim() for image in figure.axes[0].get_images()[::2]]
    for (low, high), kernel in zip(limits, kernels.values(), strict=True):
        assert -low == high == pytest.approx(np.abs(kernel).max())


def test_rows_are_inputs_and_columns_outputs():
    kernel = kernel_of(3, 3, 2, 8)
    grid = learned_kernels({"conv_1": kernel}).axes[0].get_images()[0].get_array()
    cell = 3 * 4 + 1  # each weight has four pixels, then there is a line
    shown = grid[1 + cell : 2 * cell, 1 + 5 * cell : 6 * cell]
    np.testing.assert_allclose(shown[::4, ::4], kernel[:, :, 1, 5])


def test_the_title_says_that_channels_are_left_out():
    (title,) = titles_of(learned_kernels({"conv": kernel_of(3, 3, 64, 128)}))
    assert title == "conv: 128 kernels of 3×3×64; shown: 8 inputs, 16 outputs"


def test_kernels_of_zeros_are_drawn():
    assert png(learned_kernels({"conv": np.zeros((3, 3, 1, 1), np.float32)}))


MAPS = {
    "00 input": kernel_of(8, 8, 1),
    "01 conv_1": kernel_of(6, 6, 20),
    "02 flatten": kernel_of(720),
    "03 dense_1": np.array([0.0, 5.0, -1.0]),
}


def test_each_layer_has_its_name_and_size():
    assert titles_of(feature_maps(MAPS, ["a", "b", "c"])) == [
        "input: 8×8×1",
        "conv_1: 6×6×20; shown: 16",
        "flatten: 720",
        "dense_1: 3, the largest: b",
    ]


def test_outputs_of_many_classes_are_a_strip():
    maps = MAPS | {"03 dense_1": np.arange(100.0)}
    figure = feature_maps(maps, [f"class {i}" for i in range(100)])
    assert figure.axes[0].get_images()[-1].get_array().shape == (1, 100)
    assert titles_of(figure)[-1] == "dense_1: 100, the largest: class 99"


def test_a_coloured_input_keeps_its_colours():
    figure = feature_maps({"00 input": kernel_of(8, 8, 3)}, ["a", "b"])
    assert figure.axes[0].get_images()[0].get_array().shape == (8, 8, 3)


def test_maps_of_one_value_are_drawn():
    assert png(feature_maps({"00 input": np.zeros((4, 4, 1)), "01 dense": np.zeros(2)}, ["a", "b"]))
