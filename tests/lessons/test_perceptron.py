import jax
import jax.numpy as jnp
import numpy as np
import optax
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fidle_jax.lessons.perceptron import (
    accuracy,
    evenly_moved,
    follow_neuron,
    neuron_lines,
    probabilities,
    square_grid,
    train,
    weighted_sums,
)
from fidle_jax.lessons.point_clouds import CLOUDS
from fidle_jax.nn import DNN

NEURON = {"dense_1": {"kernel": jnp.array([[2.0], [-1.0]]), "bias": jnp.array([0.5])}}


def test_a_neuron_is_the_sigmoid_of_its_weighted_sum():
    points = np.array([[0, 0], [1, 2], [-0.25, 0]], np.float32)
    found = probabilities(DNN(classes=1, hidden=()), NEURON, points)
    np.testing.assert_allclose(found, 1 / (1 + np.exp([-0.5, -0.5, 0])), rtol=1e-6)


def test_the_line_of_a_neuron_is_where_its_probability_is_one_half():
    (line,) = neuron_lines(NEURON["dense_1"])
    np.testing.assert_array_equal(line, [2, -1, 0.5])
    on_it = np.array([[0, 0.5], [1, 2.5], [-0.25, 0]], np.float32)
    np.testing.assert_array_equal(weighted_sums(line[None], on_it), np.zeros((3, 1)))
    np.testing.assert_array_equal(
        probabilities(DNN(classes=1, hidden=()), NEURON, on_it), [0.5] * 3
    )


def test_lines_of_many_steps_have_the_steps_first():
    layer = {"kernel": np.zeros((7, 2, 4)), "bias": np.zeros((7, 4))}
    assert neuron_lines(layer).shape == (7, 4, 3)


def test_the_output_of_a_hidden_layer_follows_from_its_lines():
    model = DNN(classes=1, hidden=(3,), activation=jnp.tanh)
    params = model.init(jax.random.key(0), jnp.zeros((1, 2)))["params"]
    points = square_grid(2, 5)
    hidden = np.tanh(weighted_sums(neuron_lines(params["dense_1"]), points))
    sums = hidden @ np.asarray(params["dense_2"]["kernel"])[:, 0]
    np.testing.assert_allclose(
        probabilities(model, params, points), 1 / (1 + np.exp(-sums)), rtol=1e-5
    )


def test_the_grid_has_x_along_the_rows_and_y_upwards():
    grid = square_grid(1, 3)
    np.testing.assert_array_equal(grid[0, :, 0], [-1, 0, 1])
    np.testing.assert_array_equal(grid[:, 0, 1], [-1, 0, 1])


def test_accuracy_counts_what_is_on_the_right_side_of_one_half():
    assert accuracy(np.array([0.1, 0.6, 0.4, 0.9]), np.array([0, 1, 1, 1])) == 0.75


def test_frames_are_close_together_where_the_border_moves_fast():
    path = np.concatenate([np.arange(10.0), np.full(90, 9.0)])[:, None]
    assert evenly_moved(path, 10) == [*range(9), 99]


@given(
    path=arrays.arrays(float, st.tuples(st.integers(2, 30), st.just(3)), elements=st.floats(-9, 9)),
    frames=st.integers(2, 20),
)
def test_frames_are_steps_in_order_from_the_first_to_the_last(path, frames):
    steps = evenly_moved(path, frames)
    assert steps == sorted(set(steps))
    assert steps[0] == 0
    assert steps[-1] == len(path) - 1
    assert len(steps) <= frames + 1


def test_a_neuron_parts_the_blobs_from_a_wrong_start():
    cloud = CLOUDS["blobs"](60, seed=0)
    followed = follow_neuron(cloud, (-0.6, 1.0, 1.2), steps=60, learning_rate=0.5)
    lines = neuron_lines(followed["dense_1"])[:, 0]
    np.testing.assert_allclose(lines[0], [-0.6, 1.0, 1.2], rtol=1e-6)
    right = [accuracy(weighted_sums(line[None], cloud[0])[:, 0] + 0.5, cloud[1]) for line in lines]
    assert right[0] < 0.7
    assert right[-1] > 0.98


def test_a_hidden_layer_parts_xor():
    cloud = CLOUDS["xor"](120, seed=0)
    network = train(cloud, (4,), optax.sgd(0.5), epochs=40, batch_size=20, seed=1)
    assert network.params["dense_1"]["kernel"].shape == (2, 4)
    assert network.accuracy > 0.95
