"""The usual activations, their slopes, and where they saturate (Fidle, notebook ACTF1)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Activation(NamedTuple):
    """A function of one number, and how one writes it."""

    function: Callable[[Float[Array, ""]], Float[Array, ""]]
    formula: str


ACTIVATIONS = {
    "step": Activation(lambda x: jnp.heaviside(x, 0.0), "1 if x > 0 else 0"),
    "sigmoid": Activation(jax.nn.sigmoid, "1 / (1 + exp(−x))"),
    "tanh": Activation(jnp.tanh, "tanh x"),
    "ReLU": Activation(jax.nn.relu, "max(0, x)"),
    "leaky ReLU": Activation(jax.nn.leaky_relu, "x if x > 0 else 0.01 x"),
    "ELU": Activation(jax.nn.elu, "x if x > 0 else exp(x) − 1"),
    "softplus": Activation(jax.nn.softplus, "log(1 + exp x)"),
    "SiLU": Activation(jax.nn.silu, "x · sigmoid(x)"),
    "GELU": Activation(
        lambda x: jax.nn.gelu(x, approximate=False), "x · Φ(x), Φ of the normal distribution"
    ),
}

# A layer whose slope is below this passes less than a twentieth of the gradient on.
FLAT = 0.05


def values_and_slopes(
    activation: Activation, x: Float[Array, " point"]
) -> tuple[Float[Array, " point"], Float[Array, " point"]]:
    """The activation at each point, and its derivative there, by `jax.grad`."""
    return jax.vmap(jax.value_and_grad(activation.function))(x)


def flat_parts(
    x: Float[np.ndarray, "point"],
    slopes: Float[Array | np.ndarray, "point"],
    least: float = FLAT,
) -> list[tuple[float, float]]:
    """Where the slope is flatter than ``least``: the first and the last point of each such part.

    A single point is none: there a slope changes its sign.

    Args:
        x: points in ascending order.
        slopes: the derivative at each.
        least: size of a slope that counts as one.
    """
    flat = np.abs(np.asarray(slopes)) < least
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat, [False]])))
    return [
        (float(x[first]), float(x[last - 1]))
        for first, last in edges.reshape(-1, 2)
        if last - first > 1
    ]
