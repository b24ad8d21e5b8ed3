import importlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate

from fidle_jax.errors import InputError
from fidle_jax.lessons.convolution import (
    CUBE,
    CUBE_KERNEL,
    IMAGE,
    KERNEL,
    KERNELS,
    POOLED,
    SIGNAL,
    SIGNAL_KERNEL,
    convolve,
    halve,
    is_signed,
    pool,
    window_steps,
)

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def lesson(monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENTS / "lesson")
    return importlib.import_module("convolution")


def test_the_kernel_of_the_slides_gives_10_11_12():
    steps = window_steps(IMAGE, KERNEL)
    assert [step.total for step in steps[:3]] == [10, 11, 12]
    assert [step.place for step in steps[:4]] == [(0, 0), (0, 1), (0, 2), (1, 0)]


@pytest.mark.parametrize(
    ("image", "kernel", "places"),
    [(IMAGE, KERNEL, 9), (SIGNAL, SIGNAL_KERNEL, 6), (CUBE, CUBE_KERNEL, 8)],
)
def test_there_is_a_step_for_each_place_and_its_products_sum_up_to_the_result(
    image, kernel, places
):
    steps = window_steps(image, kernel)
    assert len(steps) == places
    expected = correlate(image, kernel, "valid", "direct")
    for step in steps:
        np.testing.assert_array_equal(step.products, step.values * kernel)
        assert step.total == step.products.sum() == expected[step.place]


@pytest.mark.parametrize(
    ("image", "kernel"), [(IMAGE, KERNEL), (SIGNAL, SIGNAL_KERNEL), (CUBE, CUBE_KERNEL)]
)
@settings(max_examples=10, derandomize=True)
@given(seed=st.integers(0, 99))
def test_steps_are_those_of_scipy_whatever_the_values_in_1_2_and_3_dimensions(image, kernel, seed):
    rng = np.random.default_rng(seed)
    image, kernel = (rng.integers(-4, 5, each.shape).astype(np.float32) for each in (image, kernel))
    totals = [step.total for step in window_steps(image, kernel)]
    np.testing.assert_array_equal(totals, correlate(image, kernel, "valid", "direct").ravel())


def test_the_signals_kernel_is_zero_where_it_is_level_and_has_the_sign_of_its_slope():
    assert [step.total for step in window_steps(SIGNAL, SIGNAL_KERNEL)] == [0, 4, 4, 0, -3, -3]


def test_an_image_smaller_than_the_kernel_is_refused():
    with pytest.raises(ValueError, match="too small"):
        window_steps(IMAGE[:2], KERNEL)


def test_a_pool_keeps_the_largest_of_each_tile_and_a_halved_image_the_mean():
    np.testing.assert_array_equal(pool(POOLED), [[4, 5], [6, 3]])
    np.testing.assert_array_equal(halve(POOLED), [[2.5, 2], [2.25, 2]])


RAMP = np.tile(np.arange(5, dtype=np.float32), (5, 1))


def test_edges_are_seen_by_the_sobel_kernel_of_their_direction_alone():
    # The ramp grows by 1 to the right; a Sobel kernel takes 8 times the slope of its axis.
    np.testing.assert_allclose(convolve(RAMP, KERNELS["Sobel x"]), 8, atol=1e-4)
    np.testing.assert_allclose(convolve(RAMP, KERNELS["Sobel y"]), 0, atol=1e-4)
    np.testing.assert_allclose(convolve(RAMP.T, KERNELS["Sobel y"]), 8, atol=1e-4)
    np.testing.assert_allclose(convolve(RAMP, KERNELS["Laplacian"]), 0, atol=1e-4)


@pytest.mark.parametrize("name", KERNELS)
def test_a_uniform_area_keeps_its_brightness_or_becomes_zero_where_signs_are_shown(name):
    area = np.full((5, 5), 0.5, np.float32)
    expected = 0 if is_signed(KERNELS[name]) else 0.5
    np.testing.assert_allclose(convolve(area, KERNELS[name]), expected, atol=1e-6)


def test_signs_are_shown_of_both_sobels_and_the_laplacian():
    signed = [name for name, kernel in KERNELS.items() if is_signed(kernel)]
    assert signed == ["Sobel x", "Sobel y", "Laplacian"]


def test_sharpening_is_the_identity_less_the_laplacian():
    np.testing.assert_array_equal(KERNELS["sharpen"], KERNELS["identity"] - KERNELS["Laplacian"])


@pytest.mark.parametrize(
    ("wrong", "flag"),
    [
        ({"height": 0}, "--height"),
        ({"width": 10_001}, "--width"),
        ({"planes": 0}, "--planes"),
        ({"kernels": -1}, "--kernels"),
        ({"kernel_size": 0}, "--kernel-size"),
        ({"height": 4, "kernel_size": 5}, "--kernel-size is 5; expected a number from 1 to 4"),
    ],
)
def test_a_bad_flag_is_refused_by_its_name(lesson, wrong, flag):
    with pytest.raises(InputError, match=flag):
        lesson.teach(lesson.Convolution(**wrong))


def test_the_photograph_and_the_digit_come_without_a_network_in_values_from_0_to_1(
    lesson, monkeypatch
):
    monkeypatch.setattr("socket.socket.connect", lambda *to: pytest.fail("it calls out"))
    photograph, digit = lesson._photograph(), lesson._digit()
    assert photograph.shape == (128, 128)
    assert digit.shape == (28, 28)
    for image in (photograph, digit):
        assert image.dtype == np.float32
        assert 0 <= image.min() < 0.1
        assert 0.9 < image.max() <= 1


def test_a_photograph_that_is_not_there_is_an_input_error(lesson, monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    with pytest.raises(InputError, match="reinstall scikit-image"):
        lesson._photograph()
