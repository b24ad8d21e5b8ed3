"""Problems of the kernels' benchmark: every method of a layer, and other parts of a training step."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from timing import time_functions

from fidle_jax import kernels
from fidle_jax.data.batches import gather_batch
from fidle_jax.kernels.auto import Problem, Row, fastest
from fidle_jax.kernels.geometry import format_sizes

FFT_FROM = 25  # kernel elements; for smaller kernels FFT is slow and takes long to compile
FEW_CHANNELS = 3  # such a layer is the first of a network, and needs no input gradient
SIDE = 2048  # of the matrix product


@dataclasses.dataclass(frozen=True)
class Case:
    """Functions of the same arrays, one per method. The first one is XLA's or JAX's own.

    Attributes:
        name: One-line description.
        methods: Functions by method name.
        make_arrays: Function that creates the arguments.
        gradients: Names of the last arguments, which the backward pass differentiates. If empty, only
            the forward pass is timed.
        flops: Floating-point operations of the forward pass, by the definition; 0 without products.
    """

    name: str
    methods: dict[str, Callable[..., Any]]
    make_arrays: Callable[[], tuple]
    gradients: tuple[str, ...] = ()
    flops: int = 0


def layer_case(problem: Problem, rows: Sequence[Row]) -> Case:
    """Return the case of a convolution or pooling layer.

    Args:
        problem: The layer.
        rows: Measurements that select the method of the convolution in the method "separate".
    """
    geometry, groups = problem.geometry, problem.groups
    products = math.prod(geometry.size) * problem.channels // groups
    shapes = {
        "x": (problem.batch, *problem.spatial, problem.channels),
        "w": (*geometry.size, problem.channels // groups, problem.features),
        "b": (problem.features,),
    }
    names = {"conv": "xw", "conv_pool": "xwb"}.get(problem.kind, "x")

    def make_arrays():
        random = np.random.default_rng(0)
        return tuple(jnp.asarray(random.normal(size=shapes[name]), jnp.float32) for name in names)

    is_conv = "w" in names
    return Case(
        describe(problem),
        _layer_methods(problem, rows),
        make_arrays,
        tuple(names[1:] if is_conv and problem.channels <= FEW_CHANNELS else names),
        2 * problem.batch * math.prod(geometry.count) * problem.features * products * is_conv,
    )


def _layer_methods(problem, rows):
    geometry, pool = problem.geometry, problem.pool
    if problem.kind not in ("conv", "conv_pool"):
        function, methods = getattr(kernels, problem.kind), {"xla": "xla", "slices": "slices"}
        arguments = {"window": geometry.size}
    else:
        function, arguments = (
            kernels.conv,
            {"dilation": geometry.dilation, "groups": problem.groups},
        )
        methods = {
            name: name
            for name, method in kernels.conv_methods().items()
            if name != "reference"
            and method.supports(geometry.size, geometry.strides, geometry.dilation)
            and (name != "fft" or math.prod(geometry.size) >= FFT_FROM)
        }
    if pool:
        function = kernels.conv_pool
        arguments |= {"window": pool.size, "pool_strides": pool.strides}
        conv_alone = fastest(rows, dataclasses.replace(problem, kind="conv", pool=None))
        methods = {"xla": "xla", "separate": conv_alone} | {
            name: name
            for name, method in kernels.conv_pool_methods().items()
            if method.supports(geometry, pool)
        }
    arguments |= {"strides": geometry.strides, "padding": geometry.padding}
    return {
        name: functools.partial(function, **arguments, method=method)
        for name, method in methods.items()
    }


def describe(problem: Problem) -> str:
    """Describe the problem on one line: ``conv 64x23x23x64 -> 128, 3x3, same``."""
    geometry, pool, groups = problem.geometry, problem.pool, problem.groups
    is_pool = problem.kind in ("max_pool", "avg_pool")
    image = format_sizes((problem.batch, *problem.spatial, problem.channels))
    features = "" if is_pool else f" -> {problem.features}"
    parts = {
        f"{problem.kind} {image}{features}": True,
        format_sizes(geometry.size): True,
        "same": any(map(any, geometry.padding)),
        f"stride {format_sizes(geometry.strides)}": set(geometry.strides) != {1},
        f"dilation {format_sizes(geometry.dilation)}": set(geometry.dilation) != {1},
        "depthwise": groups == problem.channels > 1 and not is_pool,
        f"{groups} groups": 1 < groups < problem.channels,
    }
    if pool:
        parts[f"pool {format_sizes(pool.size)}"] = True
        parts[f"pool stride {format_sizes(pool.strides)}"] = pool.strides != pool.size
    return ", ".join(part for part, is_shown in parts.items() if is_shown)


def other_cases() -> list[Case]:
    """Return the other expensive parts of a training step: dropout and gathering a batch."""
    shapes = [(512, 13, 13, 8), (512, 5, 5, 16), (512, 100), (64, 23, 23, 64)]
    return [*map(_dropout_case, shapes), _gather_case(64), _gather_case(512)]


def _dropout_case(shape):
    def threefry(seed, index, x):
        return jnp.where(jax.random.bernoulli(jax.random.key(seed), 0.8, x.shape), x / 0.8, 0)

    def hashed(seed, index, x):
        return kernels.dropout(x, 0.2, jax.random.key(seed), index)

    def make_arrays():
        return jnp.uint32(3), jnp.arange(shape[0]), jnp.ones(shape)

    return Case(
        f"dropout {format_sizes(shape)}",
        {"threefry": threefry, "hash": hashed},
        make_arrays,
        ("x",),
    )


def _gather_case(batch):
    def indexed(images, labels, rows):
        return images[rows], labels[rows]

    def in_bounds(images, labels, rows):
        return tuple(a.at[rows].get(mode="promise_in_bounds") for a in (images, labels))

    def make_arrays():
        random = np.random.default_rng(0)
        images = jnp.asarray(random.integers(0, 256, (60_000, 28, 28, 1)), jnp.uint8)
        labels = jnp.asarray(random.integers(0, 10, 60_000), jnp.int32)
        return images, labels, jnp.asarray(random.permutation(60_000)[:batch], jnp.int32)

    methods = {"images[rows]": indexed, "in bounds": in_bounds, "gather_batch": gather_batch}
    return Case(f"gather {batch} of 60000x28x28x1", methods, make_arrays)


def measure(case: Case, loop: bool, rounds: int, seconds: float) -> dict[str, Any]:
    """Time each method of a case, "forward" and, with gradients, "training": forward and backward.

    Each phase maps each method to the result of `timing.time_functions` and its share of the rate of a
    large matrix product, which is measured just before.
    """
    arrays, matrix = case.make_arrays(), jnp.ones((SIDE, SIDE), jnp.float32)
    product = time_functions({"": jnp.matmul}, (matrix, matrix), rounds=3, seconds=1)
    peak = 2e-6 * SIDE**3 / product[""]["milliseconds"]
    result: dict[str, Any] = {"name": case.name, "matmul_gflops": peak}
    # Gathering a batch only reads constant images, so a loop has nothing to carry.
    settings = (rounds, seconds, loop and bool(case.gradients))
    result["forward"] = time_functions(case.methods, arrays, *settings)
    passes = {"forward": 1}
    if case.gradients:
        shape = jax.eval_shape(next(iter(case.methods.values())), *arrays)
        cotangent = jax.random.normal(jax.random.key(1), shape.shape, shape.dtype)
        fixed = len(arrays) - len(case.gradients)
        functions = {
            name: functools.partial(_value_and_gradients, function, fixed)
            for name, function in case.methods.items()
        }
        result["gradients"] = case.gradients
        result["training"] = time_functions(functions, (cotangent, *arrays), *settings)
        # Each of the gradients with respect to x and w needs as many products as the forward pass.
        passes["training"] = 1 + sum(name in "xw" for name in case.gradients)
    for phase, number in passes.items():
        for summary in result[phase].values() if case.flops else ():
            gflops = 1e-6 * number * case.flops / summary["milliseconds"]
            summary["share_of_peak"] = gflops / peak
    return result


def _value_and_gradients(function, fixed, cotangent, *arrays):
    value, pullback = jax.vjp(functools.partial(function, *arrays[:fixed]), *arrays[fixed:])
    return value, pullback(cotangent)
