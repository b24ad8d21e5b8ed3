import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fidle_jax.lessons import loss_surface
from fidle_jax.nn import DNN

START = (-1.0, 4.5)
SEEDS = st.integers(0, 2**31)
NUMBER = st.floats(-5, 5, width=32)


def test_the_loss_of_a_line_is_its_mean_squared_error():
    x, y = np.array([0.0, 1.0]), np.array([1.0, 5.0])
    lines = np.array([[4.0, 1.0], [0.0, 0.0]])
    np.testing.assert_allclose(loss_surface.mean_squared_error(x, y, lines), [0, 13])


@given(seed=SEEDS, slope=NUMBER, intercept=NUMBER)
@settings(max_examples=25)
def test_the_gradient_is_that_of_jax(seed, slope, intercept):
    x, y = loss_surface.noisy_points(30, seed)
    line = np.array([slope, intercept], np.float32)
    by_jax = jax.grad(functools.partial(loss_surface.mean_squared_error, x, y))(line)
    np.testing.assert_allclose(loss_surface.gradient(x, y, line), by_jax, rtol=1e-4, atol=1e-3)


def test_the_hessian_is_that_of_jax():
    x, y = loss_surface.noisy_points(30, seed=0)
    loss = functools.partial(loss_surface.mean_squared_error, x, y)
    by_jax = jax.hessian(loss)(np.ones(2, np.float32))
    np.testing.assert_allclose(loss_surface.hessian(x), by_jax, rtol=1e-5)


@given(seed=SEEDS)
@settings(max_examples=25)
def test_the_gradient_is_nothing_at_the_least_squares_and_every_other_line_is_worse(seed):
    problem = loss_surface.noisy_line(30, seed)
    np.testing.assert_allclose(
        loss_surface.gradient(problem.x, problem.y, problem.least), 0, atol=1e-5
    )
    around = problem.least + 0.1 * np.array(
        [[1, 0], [-1, 0], [0, 1], [0, -1], [-0.4, 1], [0.4, -1]]
    )
    assert (problem.losses(around) > problem.least_loss).all()


@given(seed=SEEDS)
@settings(max_examples=25)
def test_the_surface_is_a_long_valley(seed):
    problem = loss_surface.noisy_line(100, seed)
    assert problem.curvatures[1] / problem.curvatures[0] > 10


@given(seed=SEEDS)
@settings(max_examples=25)
def test_points_are_close_to_the_line(seed):
    problem = loss_surface.noisy_line(400, seed)
    assert 0 <= problem.x.min() <= problem.x.max() <= loss_surface.LARGEST_X
    np.testing.assert_allclose(
        problem.least, [loss_surface.SLOPE, loss_surface.INTERCEPT], atol=0.5
    )
    assert 0.7 < problem.least_loss / loss_surface.NOISE**2 < 1.3


@pytest.mark.parametrize(("share", "converges"), [(0.98, True), (1.02, False)])
def test_just_below_the_limit_it_converges_and_just_above_it_diverges(share, converges):
    problem = loss_surface.noisy_line(100, seed=0)
    descent = loss_surface.descend(problem, optax.sgd(share * problem.limit), START, epochs=400)
    distance = np.linalg.norm(descent.path - problem.least, axis=1)
    assert (descent.needed is not None) == converges
    if converges:
        assert distance[-1] < 1e-3 * distance[0]
    else:
        assert distance[-1] > 1e3 * distance[0]


def test_the_first_step_goes_against_the_gradient():
    problem = loss_surface.noisy_line(100, seed=0)
    start = np.array(START)
    descent = loss_surface.descend(problem, optax.sgd(0.01), START, epochs=1)
    expected = start - 0.01 * loss_surface.gradient(problem.x, problem.y, start)
    np.testing.assert_allclose(descent.path, [start, expected], rtol=1e-5)
    np.testing.assert_array_equal(descent.losses, problem.losses(descent.path))


def test_an_epoch_has_a_step_for_each_batch():
    problem = loss_surface.noisy_line(10, seed=0)
    descent = loss_surface.descend(problem, optax.sgd(0.01), START, epochs=2, batch_size=4)
    assert descent.path.shape == (1 + 2 * 3, 2)


def test_a_line_is_the_parameters_of_a_network_without_hidden_layers():
    x = np.array([[0.0], [2.0]], np.float32)
    params = loss_surface.as_params([3.0, -1.0])
    outputs = DNN(classes=1, hidden=()).apply({"params": params}, jnp.asarray(x))
    np.testing.assert_array_equal(outputs, [[-1], [5]])
    np.testing.assert_array_equal(loss_surface.as_lines(params), [3, -1])


def test_the_steps_to_a_share_are_those_to_the_first_loss_within_it():
    losses = np.array([9.0, 2.03, 2.01, 2.5, 2.0])
    assert loss_surface.steps_within(losses, 2.0) == 2
    assert loss_surface.steps_within(losses[:2], 2.0) is None
    assert loss_surface.steps_within(losses[1:], 2.0, share=0.1) == 0
