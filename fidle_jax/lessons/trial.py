"""A network on one split of a table: fitted, its epoch chosen by validation, its outputs on the test part."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Shaped

from fidle_jax.data.tables import Parts
from fidle_jax.train.evaluation import predict
from fidle_jax.train.fit import fit
from fidle_jax.train.step import Task

_outputs = jax.jit(predict, static_argnames="model")


class Trial(NamedTuple):
    """What came of it.

    Attributes:
        outputs: of the network of the best epoch, for each test example.
        history: of `fidle_jax.train.fit.Fit`.
        best_epoch: of the least validation loss, counted from 1.
    """

    outputs: Float[np.ndarray, "test output"]
    history: dict[str, Float[np.ndarray, " epoch"]]
    best_epoch: int


def trial(
    task: Task,
    features: Float[np.ndarray, "example feature"],
    targets: Shaped[np.ndarray, " example"],
    parts: Parts,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
) -> Trial:
    """Fits the task's network on the training part; the test part is read once, after all is chosen.

    Args:
        task: the network, its optimizer and its objective.
        features: of all rows, as the network is to have them.
        targets: of all rows.
        parts: the split.
        epochs: as of `fidle_jax.train.fit.fit`, as are ``batch_size`` and ``seed``.
    """
    fitted = fit(
        task,
        (features[parts.train], targets[parts.train]),
        validation=(features[parts.validation], targets[parts.validation]),
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
    )
    outputs = np.asarray(_outputs(task.model, fitted.best, features[parts.test]))
    best = int(np.nanargmin(fitted.history["validation_loss"])) + 1
    return Trial(outputs, fitted.history, best)
