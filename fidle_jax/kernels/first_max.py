"""The maximum of a few arrays, its gradient going to the first of equal ones."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


@jax.custom_jvp
def first_max(values: Float[Array, "... option rest"]) -> Float[Array, "... rest"]:
    """The largest along the last axis but one; the gradient goes to the first of equal values.

    Autodiff of `jnp.max` would share it among them, which training then does twice over with the
    zeros after a ReLU. Forward and reverse mode.
    """
    return values.max(axis=-2)


@first_max.defjvp
def _jvp(primals, tangents):
    (values,), (tangent,) = primals, tangents
    largest = first_max(values)
    chosen = _first(values == largest[..., None, :])
    return largest, jnp.where(chosen, tangent, 0).sum(axis=-2)


def _first(flags: Bool[Array, "... option rest"]) -> Bool[Array, "... option rest"]:
    """The flags but those that follow another along the last axis but one."""
    before = jnp.zeros_like(flags[..., 0, :])
    firsts = []
    for option in range(flags.shape[-2]):
        flag = flags[..., option, :]
        firsts.append(flag & ~before)
        before = before | flag
    return jnp.stack(firsts, axis=-2)
