import jax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fidle_jax.lessons.layer_costs import (
    FIRST,
    SECOND,
    ConvLayer,
    conv_costs,
    conv_params,
    dense_costs,
    dense_params,
    stages,
)
from fidle_jax.nn import CNN, Conv, Dense


def test_the_planes_of_the_courses_network_have_sides_of_26_13_11_and_5():
    passed = stages(CNN(), (28, 28, 1))
    assert [stage.shape for stage in passed] == [
        (28, 28, 1),
        (26, 26, 8),
        (13, 13, 8),
        (11, 11, 16),
        (5, 5, 16),
        (400,),
        (100,),
        (10,),
    ]


def test_the_courses_network_has_42_358_parameters():
    passed = stages(CNN(), (28, 28, 1))
    assert sum(stage.params for stage in passed) == 42_358
    assert {stage.layer: stage.params for stage in passed if stage.params} == {
        "conv_1": 80,
        "conv_2": 1_168,
        "dense_1": 40_100,
        "dense_2": 1_010,
    }


def test_the_two_layers_set_against_dense_ones_are_the_networks():
    shapes = [stage.shape for stage in stages(CNN(), (28, 28, 1))]
    assert (FIRST.height, FIRST.width, FIRST.planes) == shapes[0]
    assert FIRST.output_shape == shapes[1]
    assert (SECOND.height, SECOND.width, SECOND.planes) == shapes[2]
    assert SECOND.output_shape == shapes[3]


def test_the_formulas_of_the_slides():
    assert conv_params(planes=1, kernels=8, kx=3, ky=3) == 80
    assert conv_params(planes=8, kernels=16, kx=3, ky=3) == 1_168
    assert dense_params(inputs=784, neurons=100) == 78_500
    assert dense_params(inputs=400, neurons=100) == 40_100


def test_a_dense_layer_in_the_place_of_the_first_has_four_million_parameters():
    assert conv_costs(FIRST) == (80, 26 * 26 * 8 * 9)
    assert dense_costs(FIRST) == (5_408 * 785, 5_408 * 784)


@settings(max_examples=8, derandomize=True)
@given(
    height=st.integers(5, 9),
    width=st.integers(5, 9),
    planes=st.integers(1, 4),
    kernels=st.integers(1, 4),
    kernel_size=st.integers(1, 5),
)
def test_the_projects_own_layers_have_as_many_parameters_and_outputs(
    height, width, planes, kernels, kernel_size
):
    layer = ConvLayer(height, width, planes, kernels, kernel_size)
    image = jax.ShapeDtypeStruct((1, height, width, planes), "float32")
    flat = jax.ShapeDtypeStruct((1, layer.inputs), "float32")

    def sizes(module, x):
        result, variables = jax.eval_shape(
            lambda x: module.init_with_output(jax.random.key(0), x), x
        )
        return result.shape[1:], sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))

    conv = Conv(kernels, (kernel_size, kernel_size), padding="valid")
    assert sizes(conv, image) == (layer.output_shape, conv_costs(layer).params)
    assert sizes(Dense(layer.outputs), flat) == ((layer.outputs,), dense_costs(layer).params)


def test_a_convolutions_parameters_do_not_depend_on_the_images_size():
    small, large = (ConvLayer(side, side, 3, 8, 3) for side in (20, 200))
    assert conv_costs(small).params == conv_costs(large).params == 224
    assert dense_costs(small).params < dense_costs(large).params == 313_632 * 120_001


def test_a_kernel_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match="too small"):
        _ = ConvLayer(2, 9, 1, 1, 3).outputs
