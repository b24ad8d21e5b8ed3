"""The table of layers has the rows, shapes and formulas of the course."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from fidle_jax.nn import MODELS, Dense, Row, format_table, layer_table, make_model

SHAPE = (28, 28, 1)


def test_the_cnn_has_the_rows_of_the_course_with_its_formulas():
    assert layer_table(make_model("cnn", 10, SHAPE), SHAPE) == [
        Row("conv_1", "Conv", (None, 26, 26, 8), 80, "8·(1·3·3 + 1) = 80"),
        Row("pool_1", "MaxPool", (None, 13, 13, 8), 0, ""),
        Row("dropout_1", "Dropout", (None, 13, 13, 8), 0, ""),
        Row("conv_2", "Conv", (None, 11, 11, 16), 1168, "16·(8·3·3 + 1) = 1,168"),
        Row("pool_2", "MaxPool", (None, 5, 5, 16), 0, ""),
        Row("dropout_2", "Dropout", (None, 5, 5, 16), 0, ""),
        Row("flatten", "Flatten", (None, 400), 0, ""),
        Row("dense_1", "Dense", (None, 100), 40100, "100·(400 + 1) = 40,100"),
        Row("dropout_3", "Dropout", (None, 100), 0, ""),
        Row("dense_2", "Dense", (None, 10), 1010, "10·(100 + 1) = 1,010"),
    ]


@pytest.mark.parametrize(("name", "total"), [("cnn", 42_358), ("dnn", 89_610)])
def test_the_total_equals_that_of_the_course_and_of_the_model(name, total):
    model = make_model(name, 10, SHAPE)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *SHAPE)))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == total
    rows = layer_table(model, SHAPE)
    assert sum(row.parameters for row in rows) == total
    assert format_table(rows).splitlines()[-1].split() == ["total", f"{total:,}"]


@pytest.mark.parametrize("name", MODELS)
def test_the_formula_of_every_layer_equals_its_parameters(name):
    shape = (32, 24, 3)
    for row in layer_table(make_model(name, 43, shape), shape):
        left, _, right = row.formula.partition(" = ")
        assert eval(left.replace("·", "*") or "0") == row.parameters
        assert right == (f"{row.parameters:,}" if left else "")


def test_a_nested_layer_is_named_by_its_path_and_counted_once():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Dense(3, name="within")(x) + self.param("own", nn.initializers.zeros, (3,))

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Block(name="block")(x.reshape(x.shape[0], -1))

    assert layer_table(Net(), (2, 2, 1)) == [
        Row("block/within", "Dense", (None, 3), 15, "3·(4 + 1) = 15"),
        Row("block", "Block", (None, 3), 3, ""),
    ]


def test_the_printed_table_shows_shapes_and_counts_in_aligned_columns():
    text = format_table(layer_table(make_model("cnn", 10, SHAPE), SHAPE))
    head, rule, first, *_, bottom_rule, total = text.splitlines()
    assert first == "conv_1 (Conv)        (None, 26, 26, 8)           80  8·(1·3·3 + 1) = 80"
    assert set(rule) == set(bottom_rule) == {"-"}
    right = head.index("parameters") + len("parameters")
    assert first[:right].endswith(" 80")
    assert total[:right].endswith(" 42,358")
