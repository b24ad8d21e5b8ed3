"""The state of a training run: one pytree."""

from typing import Any, no_type_check

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int, PyTree, UInt32

NO_STEP = 2**31 - 1


# JAX also unflattens these classes with leaves that are not arrays, so fields are not checked.
@no_type_check
class Totals(flax.struct.PyTreeNode):
    """Sums over the examples of the current epoch."""

    loss: Float[Array, ""]  # each loss is from the step that used the example
    correct: Float[Array, ""]  # sum of the scores, such as the number of correct predictions
    examples: Float[Array, ""]
    # First step with a loss that is not finite, or the last step of a chunk that ends with weights that are
    # not finite, or NO_STEP.
    bad_step: Int[Array, ""]

    @classmethod
    def zeros(cls) -> "Totals":
        """Return totals in which all sums are zero."""
        # A donated state must not contain one buffer twice.
        loss, correct, examples = (jnp.float32(0) for _ in range(3))
        return cls(loss, correct, examples, bad_step=jnp.int32(NO_STEP))


@no_type_check
class TrainState(flax.struct.PyTreeNode):
    """Everything that is needed to continue a run.

    All randomness is derived from the seed, the step, and the position of an example in the whole batch.
    """

    params: PyTree
    batch_stats: PyTree  # of batch normalization; may be empty
    average: PyTree | None  # moving average of params, for evaluation
    opt_state: Any
    step: Int[Array, ""]  # number of steps done
    seed: UInt32[Array, ""]
    totals: Totals  # of the current epoch

    def variables(self) -> dict[str, PyTree]:
        """Return the variables for evaluation."""
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
    """Return the state before the first step, which depends only on ``seed``."""
    images = jnp.zeros((1, *image_shape), jnp.float32)
    # Without jit, the network would run on the images, operation by operation.
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
