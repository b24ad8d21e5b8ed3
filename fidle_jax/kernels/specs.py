"""Arguments of kernels for comparisons and timings: shapes of real networks, and numbers that find errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


class Spec:
    """Arguments of a function: shapes of arrays, and keyword arguments that are not arrays.

        Spec((8, 32, 32, 3), (3, 3, 3, 16), strides=2)

    Attributes:
        inputs: Trees of shapes. A tuple of integers is the shape of an array of random floats. An array,
            for example of integers, is passed as it is.
        arguments: Keyword arguments.
    """

    def __init__(self, *inputs: Any, **arguments: Any) -> None:
        self.inputs = inputs
        self.arguments = arguments

    def __repr__(self) -> str:
        shapes = [_describe(each) for each in self.inputs]
        return ", ".join([*shapes, *(f"{name}={each}" for name, each in self.arguments.items())])

    def arrays(self, dtype: jax.typing.DTypeLike, numbers: str = "normal", seed: int = 0) -> list:
        """Return the inputs as arrays. ``numbers`` is a name from `NUMBERS`."""
        rng = np.random.default_rng(seed)
        info = jnp.finfo(dtype)

        def fill(index, shape):
            if not is_shape(shape):
                return jnp.asarray(shape)
            values = NUMBERS[numbers](rng, shape, index, info)
            return jnp.asarray(np.asarray(values, np.float64), dtype)

        return [
            jax.tree.map(lambda shape, index=index: fill(index, shape), each, is_leaf=is_shape)
            for index, each in enumerate(self.inputs)
        ]


def is_shape(value: Any) -> bool:
    """Return True for a tuple of integers."""
    return isinstance(value, tuple) and all(isinstance(n, int | np.integer) for n in value)


def is_float(tree: Any) -> bool:
    """Return True if all arrays of the tree have a floating-point type."""
    return all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(tree))


def on_floats(
    function: Callable[..., Any], inputs: Sequence[Any], constants: int = 0
) -> tuple[Callable[..., Any], list[Any], list[int]]:
    """Return the function of the floating-point inputs only, these inputs, and their indices.

    The first ``constants`` inputs are not among them.
    """
    chosen = [i for i, each in enumerate(inputs) if i >= constants and is_float(each)]

    def of_floats(*arrays):
        replaced = dict(zip(chosen, arrays, strict=True))
        return function(*(replaced.get(i, each) for i, each in enumerate(inputs)))

    return of_floats, [inputs[i] for i in chosen], chosen


def _describe(tree):
    if is_shape(tree):
        return "x".join(map(str, tree)) or "scalar"
    return str(
        jax.tree.map(lambda each: each if is_shape(each) else each.shape, tree, is_leaf=is_shape)
    )


def _normal(rng, shape, index, info):
    return rng.normal(size=shape)


def _mixed_scales(rng, shape, index, info):
    return rng.normal(size=shape) * 2.0 ** rng.integers(-8, 8, shape)


def _cancelling(rng, shape, index, info):
    """Return a large offset in the first input, and numbers with mean zero in the others."""
    values = rng.normal(size=shape)
    return values + 100 if index == 0 else values - values.mean()


def _integers(rng, shape, index, info):
    """Return small integers: many values are equal, and sums are exact."""
    return rng.integers(-2, 3, shape)


def _huge(rng, shape, index, info):
    """Return numbers whose products, and sums of 1,000 products, are just finite."""
    return rng.uniform(-1, 1, shape) * 2.0 ** ((info.maxexp - 10) // 2)


def _tiny(rng, shape, index, info):
    """Return numbers whose products are subnormal."""
    return rng.normal(size=shape) * 2.0 ** (info.minexp // 2 - 2)


# Functions (generator, shape, index of the input, `jnp.finfo`) -> values by name.
NUMBERS: Mapping[str, Callable[..., Any]] = {
    "normal": _normal,
    "of mixed scales": _mixed_scales,
    "that cancel": _cancelling,
    "small integers": _integers,
    "huge": _huge,
    "tiny": _tiny,
}

# Layers of networks with fewer channels, and degenerate shapes.
CONV_SPECS: Sequence[Spec] = (
    Spec((4, 14, 14, 1), (3, 3, 1, 8)),  # the course's network for digits
    Spec((1, 20, 20, 3), (7, 7, 3, 8), strides=2, padding="same"),  # first layer of ResNet
    Spec((2, 8, 8, 48), (3, 3, 48, 16), padding="same"),  # ResNet
    Spec((2, 8, 8, 16), (1, 1, 16, 32), strides=2),  # shortcut of ResNet
    Spec((2, 9, 9, 16), (3, 3, 1, 16), padding="same", groups=16),  # MobileNet
    Spec((1, 9, 9, 8), (5, 5, 4, 6), padding=2, groups=2),  # AlexNet
    Spec((2, 40, 8), (2, 8, 12), padding=((4, 0),), dilation=4),  # WaveNet
    Spec((1, 9, 9, 9, 1), (5, 5, 5, 1, 4), strides=2),  # VoxNet
    Spec((1, 30, 2), (3, 2, 4), padding="same"),
    Spec((1, 1, 1), (1, 1, 1)),
    Spec((1, 2, 2, 1), (3, 3, 1, 1), padding=3),
)
POOL_SPECS: Sequence[Spec] = (
    Spec((4, 13, 13, 8), window=2),  # the course's network for digits
    Spec((2, 12, 12, 6), window=3, strides=2, padding="same"),  # the first pooling of ResNet
    Spec((1, 7, 7, 4), window=3, strides=1, padding=1),  # Inception
    Spec((2, 31, 3), window=(4,), strides=(3,)),
    Spec((1, 6, 6, 6, 2), window=2),
    Spec((1, 6, 7, 2), window=(3, 2), strides=(1, 3), padding=((2, 0), (0, 1))),
    Spec((1, 1, 1, 1), window=1),
)
CONV_POOL_SPECS: Sequence[Spec] = (
    Spec((4, 14, 14, 1), (3, 3, 1, 8), (8,), window=2),  # the course's network for digits
    Spec((2, 9, 9, 16), (3, 3, 16, 8), (8,), window=2, padding="same"),
    Spec((1, 12, 12, 3), (5, 5, 3, 4), (4,), window=3, pool_strides=2, strides=2, padding=2),
    Spec((2, 20, 2), (3, 2, 4), (4,), window=2, activation=None),
)
