"""Tests of training small networks in memory."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fidle_jax.data.batches import epoch_order
from fidle_jax.nn import DNN
from fidle_jax.train.evaluation import BINARY, NUMBERS, evaluate
from fidle_jax.train.fit import fit
from fidle_jax.train.step import Task, init_state, train_chunk

LINE = Task(DNN(classes=1, hidden=()), optax.sgd(0.1), objective=NUMBERS)
NETWORK = Task(DNN(classes=1, hidden=(8,), dropout=(0.3,)), optax.adam(0.05), objective=NUMBERS)


@pytest.fixture(scope="module")
def points():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (21, 1)).astype(np.float32)
    return x, (3 * x[:, 0] - 1).astype(np.float32)


def test_linear_regression_finds_the_line(points):
    found = fit(LINE, points, epochs=200, batch_size=7)
    weights = found.state.params["dense_1"]
    np.testing.assert_allclose(weights["kernel"], [[3]], atol=1e-4)
    np.testing.assert_allclose(weights["bias"], [-1], atol=1e-4)
    assert found.history["loss"][-1] < 1e-8


def test_fit_takes_the_same_steps_as_a_run(points):
    found = fit(NETWORK, points, epochs=3, batch_size=5, seed=4)
    state = init_state(NETWORK.model, (1,), NETWORK.optimizer, 4)
    for epoch in range(3):
        order = epoch_order(4, epoch, len(points[1]), 5)
        state = train_chunk(NETWORK, state, *map(jnp.asarray, points), order, 0, len(order))
    chex.assert_trees_all_close(found.state.params, state.params, rtol=1e-5)
    assert found.state.step == 15


def test_the_history_contains_means_over_the_examples(points):
    still = Task(LINE.model, optax.sgd(0.0), objective=NUMBERS)
    found = fit(still, points, epochs=2, batch_size=4, validation=points)
    outputs = still.model.apply(found.state.variables(), jnp.asarray(points[0]))[:, 0]
    errors = outputs - points[1]
    expected = {"loss": np.mean(errors**2), "score": np.mean(np.abs(errors))}
    for name, value in expected.items():
        for prefix in ("", "validation_"):
            np.testing.assert_allclose(found.history[prefix + name], [value] * 2, rtol=1e-5)


def test_the_best_variables_have_the_lowest_validation_loss(points):
    x, y = points
    # The validation targets have the opposite sign, so training increases their loss.
    found = fit(LINE, points, epochs=30, batch_size=7, validation=(x, -y))
    losses = found.history["validation_loss"]
    assert losses.argmin() < len(losses) - 1
    loss, _ = evaluate(LINE.model, found.best, jnp.asarray(x), jnp.asarray(-y), objective=NUMBERS)
    np.testing.assert_allclose(loss, losses.min(), rtol=1e-5)


def test_without_validation_the_last_variables_are_the_best(points):
    found = fit(LINE, points, epochs=2, batch_size=7)
    chex.assert_trees_all_equal(found.best, found.state.variables())
    assert set(found.history) == {"loss", "score"}


def test_the_result_depends_only_on_the_seed(points):
    first, again, other = (
        fit(NETWORK, points, epochs=2, batch_size=6, seed=seed).state.params for seed in (1, 1, 2)
    )
    chex.assert_trees_all_equal(first, again)
    assert not np.allclose(first["dense_1"]["kernel"], other["dense_1"]["kernel"])


def test_a_diverging_loss_shows_in_the_history(points):
    wild = Task(LINE.model, optax.sgd(1e4), objective=NUMBERS)
    assert not np.isfinite(fit(wild, points, epochs=20, batch_size=7).history["loss"][-1])


def test_logistic_regression_separates_two_classes(points):
    x, _ = points
    task = Task(DNN(classes=1, hidden=()), optax.adam(0.3), objective=BINARY)
    labels = (x[:, 0] > 0.2).astype(np.int32)
    found = fit(task, (x, labels), epochs=100, batch_size=21, validation=(x, labels))
    assert found.history["validation_score"][-1] == 1


def test_pixels_are_scaled_but_features_are_not():
    pixels = np.arange(0, 250, 25, dtype=np.uint8).reshape(5, 2)
    targets = np.zeros(5, np.float32)
    still = Task(LINE.model, optax.sgd(0.0), objective=NUMBERS)
    from_pixels, from_features = (
        fit(still, (x, targets), epochs=1, batch_size=5).history["loss"][0]
        for x in (pixels, pixels.astype(np.float32) / 255)
    )
    np.testing.assert_allclose(from_pixels, from_features, rtol=1e-5)


def test_the_path_contains_the_parameters_before_and_after_each_step(points):
    followed = fit(NETWORK, points, epochs=2, batch_size=6, seed=3, follow=True).path
    first = init_state(NETWORK.model, (1,), NETWORK.optimizer, 3).params
    last = fit(NETWORK, points, epochs=2, batch_size=6, seed=3).state.params
    chex.assert_equal(len(followed["dense_1"]["bias"]), 1 + 2 * 4)
    chex.assert_trees_all_equal(jax.tree.map(lambda each: each[0], followed), first)
    chex.assert_trees_all_close(jax.tree.map(lambda each: each[-1], followed), last, rtol=1e-5)


def test_training_can_start_from_given_parameters(points):
    start = {"dense_1": {"kernel": jnp.array([[5.0]]), "bias": jnp.array([2.0])}}
    followed = fit(LINE, points, epochs=1, batch_size=21, params=start, follow=True).path
    # One explicit step of gradient descent on the mean squared error.
    errors = 5 * points[0][:, 0] + 2 - points[1]
    kernel = 5 - 0.1 * np.mean(2 * errors * points[0][:, 0])
    np.testing.assert_allclose(followed["dense_1"]["kernel"][:, 0, 0], [5, kernel], rtol=1e-5)
