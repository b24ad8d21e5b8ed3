import functools
import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fidle_jax import kernels
from fidle_jax.kernels import convolution
from fidle_jax.kernels.auto import Problem
from fidle_jax.kernels.geometry import resolve_geometry

BY_IM2COL = functools.partial(kernels.conv_general_dilated, method="im2col")
NCHW = jax.ShapeDtypeStruct((2, 4, 6, 5), jnp.float32)
OIHW = jax.ShapeDtypeStruct((4, 4, 3, 2), jnp.float32)


def is_passed_on(lhs, rhs, *arguments, conv=BY_IM2COL, **named):
    jaxpr = jax.make_jaxpr(lambda lhs, rhs: conv(lhs, rhs, *arguments, **named))(lhs, rhs)
    return "conv_general_dilated" in str(jaxpr)


@st.composite
def convolutions(draw):
    """Draw shapes and arguments of convolutions that XLA supports."""
    rank = draw(st.integers(1, 3))
    each = functools.partial(st.lists, min_size=rank, max_size=rank)
    groups, batch_groups = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (3, 1), (1, 2)]))
    lhs_dilation = draw(st.one_of(st.just([1] * rank), each(st.integers(1, 2))))
    rhs_dilation = draw(st.one_of(st.none(), each(st.integers(1, 2))))
    pairs = each(st.tuples(st.integers(-1, 2), st.integers(0, 2)))
    names = st.sampled_from(["SAME", "VALID", "SAME_LOWER", "same"])
    padding = draw(st.one_of(names, pairs) if set(lhs_dilation) == {1} else pairs)
    channels, features = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    sides, window = draw(each(st.integers(3, 5))), draw(each(st.integers(1, 3)))
    spatial = "DHW"[:rank]
    numbers = tuple(
        "".join(draw(st.permutations(letters + spatial))) for letters in ("NC", "OI", "NC")
    )
    size = {
        "N": 2 * batch_groups,
        "C": channels * groups,
        "I": channels,
        "O": features * groups * batch_groups,
    }
    lhs_size = size | dict(zip(spatial, sides, strict=True))
    rhs_size = size | dict(zip(spatial, window, strict=True))
    lhs_shape = tuple(lhs_size[letter] for letter in numbers[0])
    rhs_shape = tuple(rhs_size[letter] for letter in numbers[1])
    arguments = {
        "window_strides": draw(each(st.integers(1, 3))),
        "padding": padding,
        "lhs_dilation": lhs_dilation,
        "rhs_dilation": rhs_dilation,
        "dimension_numbers": numbers,
        "feature_group_count": groups,
        "batch_group_count": batch_groups,
    }
    return lhs_shape, rhs_shape, arguments


CONVOLUTIONS = {
    "default order": ((2, 4, 6, 5), (6, 2, 3, 2), {"feature_group_count": 2}),
    "channels last": (
        (2, 6, 5, 2),
        (3, 2, 2, 3),
        {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "padding": [(1, 0), (0, 2)]},
    ),
    "mixed order": (
        (5, 2, 2, 4),
        (3, 3, 1, 2),
        {"dimension_numbers": ("WNCH", "OHWI", "HCNW"), "padding": "SAME_LOWER"},
    ),
    "dilation": ((1, 2, 9), (2, 2, 3), {"rhs_dilation": [2], "window_strides": [2]}),
    "input dilation": ((1, 2, 4), (2, 2, 3), {"lhs_dilation": [2], "padding": [(-1, 2)]}),
    "batch groups": ((4, 2, 5), (4, 2, 2), {"batch_group_count": 2}),
    "gradient of strides": (
        (2, 3, 4, 3),
        (2, 3, 3, 3),
        {"lhs_dilation": [2, 3], "padding": [(2, 1), (0, 2)]},
    ),
    "gradient in a kernel": (
        (2, 3, 6, 7),
        (4, 3, 5, 4),
        {"rhs_dilation": [1, 2], "padding": [(0, 1), (1, 1)]},
    ),
    "gradient in a grouped kernel": (
        (4, 3, 6, 7),
        (4, 3, 5, 6),
        {"batch_group_count": 2, "padding": "VALID"},
    ),
    "gradients of examples": (
        (2, 6, 6, 7),
        (4, 3, 5, 6),
        {"feature_group_count": 2, "padding": "VALID"},
    ),
    "gradient in a transposed kernel": (
        (4, 3, 3, 2),
        (2, 3, 6, 6),
        {"lhs_dilation": [2, 3], "padding": [(1, 2), (2, 2)], "batch_group_count": 2},
    ),
    "three axes": ((1, 2, 4, 3, 4), (1, 2, 2, 3, 1), {"padding": "SAME"}),
}


@pytest.mark.parametrize("method", ["im2col", "auto"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_values_and_gradients_are_those_of_lax(name, method):
    lhs_shape, rhs_shape, arguments = CONVOLUTIONS[name]
    default = {"window_strides": (1,) * (len(lhs_shape) - 2), "padding": "VALID"}
    check_values_and_gradients((lhs_shape, rhs_shape, default | arguments), method, seed=0)


@pytest.mark.slow
@settings(max_examples=200)
@given(convolutions(), st.sampled_from(["im2col", "auto"]), st.integers(0, 2**16))
def test_values_and_gradients_of_many_cases_are_those_of_lax(convolution, method, seed):
    check_values_and_gradients(convolution, method, seed)


def check_values_and_gradients(convolution, method, seed):
    lhs_shape, rhs_shape, arguments = convolution
    ours = functools.partial(kernels.conv_general_dilated, method=method, **arguments)
    theirs = functools.partial(lax.conv_general_dilated, **arguments)
    y = jax.eval_shape(theirs, *(jnp.zeros(shape) for shape in (lhs_shape, rhs_shape)))
    rng = np.random.default_rng(seed)
    arrays = [rng.integers(-3, 4, s).astype(np.float32) for s in (lhs_shape, rhs_shape, y.shape)]

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def both(lhs, rhs, cotangent):
        passes = [jax.vjp(conv, lhs, rhs) for conv in (ours, theirs)]
        return [(value, pullback(cotangent)) for value, pullback in passes]

    chex.assert_trees_all_close(*both(*arrays), atol=1e-5)


@pytest.mark.parametrize(
    "named",
    [
        {},
        {"padding": "SAME_LOWER"},
        {"dimension_numbers": ("NCHW", "OIHW", "NHWC")},
        {"dimension_numbers": lax.ConvDimensionNumbers(*[(0, 1, 3, 2)] * 3)},
        {"padding": np.ones((2, 2), int), "lhs_dilation": np.ones(2, int)},
        {"rhs_dilation": np.array([1, 2]), "window_strides": np.array([2, 1])},
        {"precision": "highest"},
        {"precision": lax.Precision.HIGHEST},
        {"preferred_element_type": jnp.float32},
    ],
    ids=str,
)
def test_supported_arguments_are_not_passed_on_to_xla(named):
    named = {"window_strides": (1, 1), "padding": "SAME"} | named
    y = jax.eval_shape(functools.partial(BY_IM2COL, **named), NCHW, OIHW)
    chex.assert_equal(
        y, jax.eval_shape(functools.partial(lax.conv_general_dilated, **named), NCHW, OIHW)
    )
    assert not is_passed_on(NCHW, OIHW, **named)


LAST = ("NHWC", "HWIO", "NHWC")
EMPTY = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((0, 4, 4, 2), (3, 3, 2, 5))]


def test_an_empty_batch_returns_an_empty_batch():
    y = jax.eval_shape(
        lambda *arrays: BY_IM2COL(*arrays, (1, 1), "VALID", None, None, LAST), *EMPTY
    )
    chex.assert_shape(y, (0, 2, 2, 5))


@pytest.mark.parametrize(
    ("lhs", "rhs", "named"),
    [
        (NCHW, OIHW, {"lhs_dilation": (1, 2), "window_strides": (2, 1)}),
        (NCHW, OIHW, {"padding": [(0, 0), (1, -1)]}),
        (NCHW.update(shape=(2, 4, 2, 5)), OIHW, {}),
        (NCHW, OIHW.update(shape=(0, 4, 3, 2)), {}),
        (NCHW, OIHW, {"rhs_dilation": (1,)}),
        (NCHW.update(dtype=jnp.int8), OIHW.update(dtype=jnp.int8), {}),
        (NCHW.update(dtype=jnp.complex64), OIHW.update(dtype=jnp.complex64), {}),
        (
            NCHW.update(shape=(2, 4)),
            OIHW.update(shape=(3, 4)),
            {"window_strides": (), "padding": ()},
        ),
    ],
    ids=[
        *("two strides", "negative padding", "no window fits", "no features"),
        "a dilation too few",
        *("integers", "complex numbers", "no spatial axis"),
    ],
)
def test_arguments_that_no_method_supports_are_passed_on_to_xla(lhs, rhs, named):
    named = {"window_strides": (1, 1), "padding": [(0, 0), (0, 0)]} | named
    assert is_passed_on(lhs, rhs, **named)


def test_an_explicitly_sharded_array_is_passed_on_to_xla_unless_in_shard_map():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Explicit,))
    sharded = NCHW.update(sharding=NamedSharding(mesh, PartitionSpec("data")))
    whole = OIHW.update(sharding=NamedSharding(mesh, PartitionSpec()))
    assert is_passed_on(sharded, whole, (1, 1), "SAME")

    specs = {
        "in_specs": (PartitionSpec("data"), PartitionSpec()),
        "out_specs": PartitionSpec("data"),
    }
    mapped = jax.shard_map(lambda *a: BY_IM2COL(*a, (1, 1), "SAME"), mesh=mesh, **specs)
    assert not is_passed_on(sharded, whole, conv=mapped)


def test_a_batch_of_symbolic_size_is_exported():
    (batch,) = jax.export.symbolic_shape("batch")
    conv = jax.jit(functools.partial(BY_IM2COL, window_strides=(2, 1), padding="SAME"))
    exported = jax.export.export(conv)(NCHW.update(shape=(batch, *NCHW.shape[1:])), OIHW)
    assert exported.out_avals[0].shape == (batch, 4, 3, 5)


@pytest.mark.parametrize("chosen", ["xla", "im2col"])
def test_auto_selects_the_method_by_shape_on_a_cpu(chosen, monkeypatch):
    problems = []

    def choose(problem, *_):
        problems.append(problem)
        return chosen

    monkeypatch.setattr(convolution, "choose", choose)
    auto = jax.jit(lambda *arrays: kernels.conv_general_dilated(*arrays, (1, 1), "VALID"))
    text = jax.export.export(auto, platforms=["cpu"])(NCHW, OIHW).mlir_module()
    assert ("stablehlo.convolution" in text) == (chosen == "xla")
    geometry = resolve_geometry((6, 5), (3, 2))
    assert problems == [Problem("conv", 2, (6, 5), 4, 4, geometry)]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("preferred", [None, "float32"])
def test_types_of_values_and_gradients_are_those_of_lax(dtype, preferred):
    def types(conv):
        def run(lhs, rhs):
            y, pullback = jax.vjp(
                lambda *a: conv(*a, (1, 1), "SAME", preferred_element_type=preferred), lhs, rhs
            )
            return y, pullback(y)

        return jax.eval_shape(run, NCHW.update(dtype=dtype), OIHW.update(dtype=dtype))

    chex.assert_trees_all_equal_shapes_and_dtypes(types(BY_IM2COL), types(lax.conv_general_dilated))


@pytest.mark.parametrize(
    "wrong",
    [
        {"padding": "WIDE"},
        {"padding": [(1, 1)]},
        {"padding": 1},
        {"window_strides": (1,)},
        {"lhs_dilation": (2, 1), "padding": "SAME"},
        {"feature_group_count": 3},
        {"feature_group_count": 0},
        {"batch_group_count": 3},
        {"dimension_numbers": ("NHWC", "HWIO")},
        {"dimension_numbers": ("NCHW", "OIHW", "NCHH")},
        {"rhs": OIHW.update(shape=(4, 3, 3, 2))},
        {"rhs": OIHW.update(shape=(4, 4, 3))},
        {"rhs": OIHW.update(dtype=jnp.bfloat16)},
        {"preferred_element_type": jnp.bfloat16},
        {"preferred_element_type": jnp.int32},
        {"precision": "sharp"},
    ],
    ids=str,
)
def test_errors_are_those_of_lax(wrong):
    def refusal(conv):
        named = {"lhs": NCHW, "rhs": OIHW, "window_strides": (1, 1), "padding": "VALID"} | wrong
        arrays = named.pop("lhs"), named.pop("rhs")
        with pytest.raises(Exception) as caught:  # noqa: PT011
            jax.eval_shape(lambda *a: conv(*a, **named), *arrays)
        return caught.type, str(caught.value)

    assert refusal(BY_IM2COL) == refusal(lax.conv_general_dilated)


def test_an_unknown_method_and_unsupported_windows_raise_an_error():
    arrays = jnp.zeros(NCHW.shape), jnp.zeros(OIHW.shape)
    with pytest.raises(ValueError, match="unknown method 'winnograd'; it must be 'auto'"):
        kernels.conv_general_dilated(*arrays, (1, 1), "VALID", method="winnograd")
    with pytest.raises(ValueError, match="method 'winograd' does not support windows of"):
        kernels.conv_general_dilated(*arrays, (1, 1), "VALID", method="winograd")


def test_the_parameters_are_those_of_lax_and_a_method():
    def parameters(conv):
        return [(p.name, p.kind, p.default) for p in inspect.signature(conv).parameters.values()]

    ours = parameters(kernels.conv_general_dilated)
    assert ours[:-1] == parameters(lax.conv_general_dilated)
    assert ours[-1] == ("method", inspect.Parameter.KEYWORD_ONLY, "auto")
