"""The state of a training run, one pytree."""

from typing import Any, no_type_check

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int, PyTree, UInt32

NO_STEP = 2**31 - 1


# JAX also unflattens this class with leaves that are not arrays, so the fields are not checked.
@no_type_check
class Totals(flax.struct.PyTreeNode):
    """Sums over the examples of the epoch so far.

    Attributes:
        loss: sum of the examples' losses.
        correct: sum of their scores, as the network was when it met them: of classes, those classified right.
        examples: examples met.
        bad_step: first step whose loss was not finite, or the last of a chunk if the weights are not
            after it; else `NO_STEP`.
    """

    loss: Float[Array, ""]
    correct: Float[Array, ""]
    examples: Float[Array, ""]
    bad_step: Int[Array, ""]

    @classmethod
    def zeros(cls) -> "Totals":
        """No examples met."""
        return cls(
            loss=jnp.float32(0),
            correct=jnp.float32(0),
            examples=jnp.float32(0),
            bad_step=jnp.int32(NO_STEP),
        )


# JAX also unflattens this class with leaves that are not arrays, so the fields are not checked.
@no_type_check
class TrainState(flax.struct.PyTreeNode):
    """All that a run needs to go on.

    Attributes:
        params: the network's weights.
        batch_stats: the statistics of its batch norms; empty where it has none.
        average: moving average of ``params``; None where evaluation takes ``params`` themselves.
        opt_state: the optimizer's state.
        step: steps done.
        seed: what everything random comes from, with the step and the example's index.
        totals: sums over the epoch so far.
    """

    params: PyTree
    batch_stats: PyTree
    average: PyTree | None
    opt_state: Any
    step: Int[Array, ""]
    seed: UInt32[Array, ""]
    totals: Totals

    def variables(self) -> dict[str, PyTree]:
        """What the network is evaluated with."""
        params = self.params if self.average is None else self.average
        return {"params": params, "batch_stats": self.batch_stats}


def init_state(
    model: nn.Module,
    image_shape: tuple[int, ...],
    optimizer: optax.GradientTransformation,
    seed: int,
    *,
    average: bool = False,
) -> TrainState:
    """The state before the first step, from ``seed`` alone."""
    images = jnp.zeros((1, *image_shape), jnp.float32)
    # Compiled, as otherwise the network runs on the images, one operation after the other, for nothing.
    variables = jax.jit(model.init)(jax.random.key(seed), images)
    params = variables["params"]
    return TrainState(
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        average=jax.tree.map(jnp.copy, params) if average else None,
        opt_state=optimizer.init(params),
        step=jnp.int32(0),
        seed=jnp.uint32(seed),
        totals=Totals.zeros(),
    )
