"""Use any Flax linen module as the model of a run."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from fidle_jax.errors import InputError

# The keyword arguments that tell a module whether it trains.
_MODES = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "use_running_average": False,
}


class Adapted(nn.Module):
    """A module with the interface of `fidle_jax.nn.models.Network`. Its variables are those of ``module``.

    ``module`` receives the images, and those of these keyword arguments that its ``__call__`` names:
    ``train``, ``training`` or ``is_training``, their opposites ``deterministic`` or
    ``use_running_average``, and ``example_index`` (see `Network`).
    """

    module: nn.Module

    def setup(self):
        """Store the variables of ``module`` without a level of their own."""
        nn.share_scope(self, self.module)

    def __call__(
        self,
        x: Float[Array, "batch ..."],
        *,
        train: bool = False,
        example_index: Int[Array, " batch"] | None = None,
    ) -> Float[Array, "batch class"]:
        """Return the logits."""
        values: dict[str, Any] = {name: train == mode for name, mode in _MODES.items()}
        values["example_index"] = example_index
        known = inspect.signature(type(self.module).__call__).parameters
        arguments = {name: value for name, value in values.items() if name in known}
        return self.module(x, **arguments)  # pyright: ignore[reportCallIssue]


def adapt(model: Any, classes: int, image_shape: tuple[int, int, int]) -> Adapted:
    """Return the model of a run, with ``module`` as given by the user.

    Raises:
        InputError: It is not a Flax linen module, or does not return one logit per class.
    """
    if not isinstance(model, nn.Module):
        kind = getattr(model, "__name__", type(model).__name__)
        advice = "create it, for example model=Net()" if isinstance(model, type) else "rewrite it"
        raise InputError(
            f"the model {kind} is not a Flax linen module or a name of a model; {advice}"
        )
    try:
        hash(model)
    except TypeError:
        raise InputError(
            f"the model {type(model).__name__} is not hashable; use tuples in place of lists and arrays"
        ) from None
    adapted = Adapted(model)
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    init = jax.eval_shape(adapted.init_with_output, jax.random.key(0), images)
    logits, variables = init
    if (shape := getattr(logits, "shape", None)) != (2, classes):
        raise InputError(
            f"the model {type(model).__name__} returns {shape or type(logits).__name__} for 2 images; "
            f"expected (2, {classes}), one logit for each class"
        )
    if other := sorted(variables.keys() - {"params", "batch_stats"}):
        raise InputError(
            f"the model {type(model).__name__} has variables of the collection {other[0]}; expected only "
            "params and batch_stats"
        )
    return adapted
