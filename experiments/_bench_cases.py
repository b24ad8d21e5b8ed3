"""What the kernels' benchmark times: each method on a problem, as a function of arrays."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _bench_problems import describe

from fidle_jax import kernels
from fidle_jax.data.batches import gather_batch
from fidle_jax.kernels.choice import fastest
from fidle_jax.kernels.measured import Problem, Row

FFT_FROM = 25  # values of a window: below, it is far behind and takes long to compile
FEW_CHANNELS = 3  # an image's own: the gradient to it is what no training needs
POOLS = {
    "max_pool": (kernels.max_pool, ("xla", "tiles")),
    "avg_pool": (kernels.avg_pool, ("xla", "tiles")),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """Functions of the same arrays, one for each method, the first of them XLA's or JAX's own.

    Attributes:
        name: in a line.
        methods: by name.
        arrays: makes the functions' arguments.
        gradients: which arguments the backward pass is for; none: forward alone.
        flops: of the forward pass by the direct definition; 0 where it is no sum of products.
        problem: in the terms of the table for "auto"; None where "auto" has no choice to make.
    """

    name: str
    methods: dict[str, Callable[..., Any]]
    arrays: Callable[[], tuple]
    gradients: tuple[int, ...] = ()
    flops: int = 0
    problem: Problem | None = None


def case_of(problem: Problem, rows: Sequence[Row]) -> Case:
    """The problem by all the methods that do it.

    Args:
        problem: to be timed.
        rows: by which the parts of a convolution and pooling "apart" are chosen.
    """
    make, gradients = {
        "conv": (_conv_methods, (0, 1)),
        "conv_pool": (functools.partial(_conv_pool_methods, rows=rows), (0, 1, 2)),
        "max_pool": (_pool_methods, (0,)),
        "avg_pool": (_pool_methods, (0,)),
    }[problem.kind]
    first_layer = problem.kind in ("conv", "conv_pool") and problem.channels <= FEW_CHANNELS
    return Case(
        name=describe(problem),
        methods=make(problem),
        arrays=functools.partial(_arrays, problem, len(gradients)),
        gradients=gradients[1:] if first_layer else gradients,
        flops=_flops(problem),
        problem=problem,
    )


def other_cases() -> list[Case]:
    """What else a training step does that costs as much: dropout's bits and the gathering of a batch."""
    sizes = [(512, 13, 13, 8), (512, 5, 5, 16), (512, 100), (64, 23, 23, 64)]
    return [*map(_dropout_case, sizes), _gather_case(64), _gather_case(512)]


def with_gradients(function: Callable[..., Any], gradients: tuple[int, ...]) -> Callable[..., Any]:
    """Of (cotangent, *arrays): the function's value and its gradients in the arguments named."""

    def value_and_gradients(cotangent, *arrays):
        def of_these(*chosen):
            every = list(arrays)
            for place, array in zip(gradients, chosen, strict=True):
                every[place] = array
            return function(*every)

        value, pullback = jax.vjp(of_these, *(arrays[place] for place in gradients))
        return value, pullback(cotangent)

    return value_and_gradients


def _conv_methods(problem):
    windows = problem.windows
    names = [
        name
        for name, method in kernels.conv_methods().items()
        if name != "reference"
        and method.supports(windows.size, windows.strides, windows.dilation)
        and (name != "fft" or math.prod(windows.size) >= FFT_FROM)
    ]
    return {
        name: functools.partial(kernels.conv, **_window_arguments(problem), method=name)
        for name in names
    }


def _conv_pool_methods(problem, rows):
    conv_alone = fastest(rows, dataclasses.replace(problem, kind="conv", pool=None))
    methods = {"xla": "xla", "apart": conv_alone} | {
        name: name
        for name, method in kernels.conv_pool_methods().items()
        if method.supports(problem.windows, problem.pool)
    }
    return {
        name: functools.partial(
            kernels.conv_pool,
            **_window_arguments(problem),
            window=problem.pool.size,
            pool_strides=problem.pool.strides,
            method=method,
        )
        for name, method in methods.items()
    }


def _window_arguments(problem):
    windows = problem.windows
    return {
        "strides": windows.strides,
        "padding": windows.padding,
        "dilation": windows.dilation,
        "groups": problem.groups,
    }


def _pool_methods(problem):
    windows = problem.windows
    pool, names = POOLS[problem.kind]
    return {
        name: functools.partial(
            pool,
            window=windows.size,
            strides=windows.strides,
            padding=windows.padding,
            method=name,
        )
        for name in names
    }


def _flops(problem):
    if problem.kind not in ("conv", "conv_pool"):
        return 0
    windows = problem.windows
    products = math.prod(windows.size) * problem.channels // problem.groups
    return 2 * problem.batch * math.prod(windows.count) * problem.features * products


def _arrays(problem, number):
    window = problem.windows.size
    shapes = [
        (problem.batch, *problem.spatial, problem.channels),
        (*window, problem.channels // problem.groups, problem.features),
        (problem.features,),
    ]
    random = np.random.default_rng(0)
    return tuple(jnp.asarray(random.normal(size=s), jnp.float32) for s in shapes[:number])


def _dropout_case(shape):
    def threefry(x, seed, index):
        kept = jax.random.bernoulli(jax.random.key(seed), 0.8, x.shape)
        return jnp.where(kept, x / 0.8, 0)

    def hashed(x, seed, index):
        return kernels.dropout(x, 0.2, jax.random.key(seed), index)

    def arrays():
        return jnp.ones(shape), jnp.uint32(3), jnp.arange(shape[0])

    name = f"dropout {'x'.join(map(str, shape))}"
    return Case(name, {"threefry": threefry, "hash": hashed}, arrays, gradients=(0,))


def _gather_case(batch):
    def indexed(images, labels, rows):
        return images[rows], labels[rows]

    def in_bounds(images, labels, rows):
        return tuple(a.at[rows].get(mode="promise_in_bounds") for a in (images, labels))

    def arrays():
        random = np.random.default_rng(0)
        images = jnp.asarray(random.integers(0, 256, (60_000, 28, 28, 1)), jnp.uint8)
        labels = jnp.asarray(random.integers(0, 10, 60_000), jnp.int32)
        return images, labels, jnp.asarray(random.permutation(60_000)[:batch], jnp.int32)

    methods = {"images[rows]": indexed, "in bounds": in_bounds, "gather_batch": gather_batch}
    return Case(f"gather {batch} of 60000x28x28x1", methods, arrays)
