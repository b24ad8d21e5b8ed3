"""The state of a run, the training step, and a compiled loop of steps, as pure functions."""

import dataclasses
import functools
from typing import Any, no_type_check

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree, UInt8, UInt32

from fidle_jax.data.augment import NO_AUGMENTATION, Augmentation, augment
from fidle_jax.data.batches import Inputs, Targets, gather_batch, rows_at
from fidle_jax.train.evaluation import CLASSES, Metrics, Objective

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
    frozen: tuple[str, ...] = (),
    variables: PyTree = None,
) -> TrainState:
    """Return the state before the first step.

    Args:
        model, image_shape: The network and the shape of its images.
        optimizer, frozen: See `Task`.
        seed: Seed of the run.
        average: Add a moving average of the weights to the state.
        variables: Initial parameters and batch statistics (default: random ones of ``seed``).
    """
    if variables is None:
        images = jnp.zeros((1, *image_shape), jnp.float32)
        # Without jit, the network would run on the images, operation by operation.
        variables = jax.jit(model.init)(jax.random.key(seed), images)
    params = variables["params"]
    return TrainState(
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        average=jax.tree.map(jnp.copy, params) if average else None,
        opt_state=optimizer.init(_select_trained(params, frozen)),
        step=jnp.int32(0),
        seed=jnp.uint32(seed),
        totals=Totals.zeros(),
    )


@dataclasses.dataclass(frozen=True)
class Task:
    """Everything a training step needs besides the state and the batch."""

    model: nn.Module
    optimizer: optax.GradientTransformation
    ranges: Augmentation = NO_AUGMENTATION
    label_smoothing: float = 0.0  # fraction of the target distributed uniformly over all classes
    class_weights: tuple[float, ...] = ()  # in the gradient; empty for equal weights
    ema_decay: float = 0.0  # of the moving average of the weights, if the state has one
    compute_dtype: str = "float32"  # of the network's arithmetic; the state is always float32
    axis_name: str | None = None  # name of the pmap axis that shards the batch
    objective: Objective = CLASSES
    metrics: Metrics = ()  # for the validation data
    # Names of the layers that are not trained. Their batch norms use the running statistics.
    frozen: tuple[str, ...] = ()

    def over_axis(self, axis_name: str) -> "Task":
        """Return a copy for pmap. Batch normalization averages over the axis too."""
        model = self.model
        if hasattr(model, "axis_name"):
            model = model.clone(axis_name=axis_name)
        return dataclasses.replace(self, model=model, axis_name=axis_name)


def train_step(
    task: Task,
    state: TrainState,
    images: UInt8[Array, "micro_batch batch *shape"] | Float[Array, "micro_batch batch *shape"],
    labels: Int[Array, "micro_batch batch"] | Float[Array, "micro_batch batch"],
    mask: Float[Array, "micro_batch batch"],
    example_index: Int[Array, "micro_batch batch"],
) -> TrainState:
    """Compute one training step with gradient accumulation over micro-batches. Return the new state.

    The loss is the mean over all examples with mask 1, on all devices. Examples with mask 0 are padding.
    For the gradient, the loss of each example is multiplied by its class weight, after augmentation has
    set the label. The totals in the state use unweighted losses.

    ``example_index`` is the position of each example in the whole batch. Augmentation and dropout depend
    only on it, and on the seed and the step of the state.
    """
    count = _sum_over_devices(task, jnp.sum(mask))
    sums, batch_stats = _sum_over_micro_batches(
        functools.partial(_gradients, task, state, count=count),
        state.batch_stats,
        (images, labels, mask, example_index),
    )
    grads, loss, score = _sum_over_devices(task, sums)
    trained = _select_trained(state.params, task.frozen)
    updates, opt_state = task.optimizer.update(grads, state.opt_state, trained)
    trained = optax.apply_updates(trained, wait_for(grads, updates))
    bad_step = jnp.where(jnp.isfinite(loss), NO_STEP, state.step + 1)
    return state.replace(
        params=_merge(trained, state.params),
        batch_stats=batch_stats,
        average=_update_average(state, trained, task),
        opt_state=opt_state,
        step=state.step + 1,
        totals=Totals(
            loss=state.totals.loss + jnp.float32(loss * count),
            correct=state.totals.correct + score,
            examples=state.totals.examples + count,
            bad_step=jnp.minimum(state.totals.bad_step, bad_step),
        ),
    )


def _sum_over_devices(task: Task, sums: PyTree) -> PyTree:
    return sums if task.axis_name is None else lax.psum(sums, task.axis_name)


def _sum_over_micro_batches(gradients, batch_stats: PyTree, batch: PyTree) -> tuple[PyTree, PyTree]:
    """Return the sums over all micro-batches, and the batch statistics after the last one."""
    first = jax.tree.map(lambda array: array[0], batch)
    if len(batch[0]) == 1:
        return gradients(batch_stats, first)

    def add(carry, micro_batch):
        sums, batch_stats = carry
        more, batch_stats = gradients(batch_stats, micro_batch)
        return (jax.tree.map(jnp.add, sums, more), batch_stats), None

    like, _ = jax.eval_shape(gradients, batch_stats, first)
    zeros = jax.tree.map(lambda array: jnp.zeros(array.shape, array.dtype), like)
    return lax.scan(add, (zeros, batch_stats), batch)[0]


def _gradients(task: Task, state: TrainState, batch_stats: PyTree, micro_batch, count):
    """Return the gradient, loss and sum of scores of a micro-batch, and the new statistics.

    Gradient and loss are divided by ``count``, the number of examples of the whole batch.
    """
    images, labels, mask, example_index = micro_batch
    # Batch normalization ignores examples with index -1.
    example_index = jnp.where(mask > 0, example_index, -1)
    augment_key, dropout_key = step_keys(state.seed, state.step)
    x, labels = augment(images, labels, augment_key, example_index, task.ranges)

    def loss_fn(trained):
        params = _merge(trained, state.params)
        with nn.intercept_methods(functools.partial(_apply_frozen, task.frozen)):
            logits, changed = task.model.apply(
                {"params": _cast(params, task.compute_dtype), "batch_stats": batch_stats},
                _cast(x, task.compute_dtype),
                train=True,
                example_index=example_index,
                rngs={"dropout": dropout_key},
                mutable=["batch_stats"],
            )
        logits = _cast(logits, "float32")
        losses = task.objective.losses(logits, labels, task.label_smoothing) * mask
        loss = objective = jnp.sum(losses) / count
        if task.class_weights:
            of_class = jnp.asarray(task.class_weights, losses.dtype)
            objective = jnp.sum(losses * of_class[labels]) / count
        return objective, (loss, logits, changed.get("batch_stats", batch_stats))

    gradient = jax.grad(loss_fn, has_aux=True)
    grads, (loss, logits, batch_stats) = gradient(_select_trained(state.params, task.frozen))
    score = jnp.sum(mask * task.objective.scores(logits, labels))
    return (grads, loss, score), batch_stats


def _select_trained(params: PyTree, frozen: tuple[str, ...]) -> PyTree:
    """Return the parameters with None in place of those of frozen layers, which JAX then ignores."""
    if not frozen:
        return params
    return jax.tree.map_with_path(
        lambda path, leaf: None if "/".join(key.key for key in path[:-1]) in frozen else leaf,
        params,
    )


def _merge(trained: PyTree, params: PyTree) -> PyTree:
    """Return ``trained`` with the values of ``params`` where it has None."""
    return jax.tree.map(
        lambda new, old: old if new is None else new, trained, params, is_leaf=lambda x: x is None
    )


def _apply_frozen(frozen: tuple[str, ...], call, args, kwargs, context) -> Any:
    """Call a method of a module. Batch norms of frozen layers use and keep their running statistics."""
    if "train" in kwargs and "/".join(context.module.path) in frozen:
        kwargs = kwargs | {"train": False}
    return call(*args, **kwargs)


def step_keys(
    seed: UInt32[Array, ""], step: Int[Array, ""]
) -> tuple[Key[Array, ""], Key[Array, ""]]:
    """Return the keys of a step for augmentation and for dropout."""
    _, stepping = jax.random.split(jax.random.key(seed))
    augmentation, dropout = jax.random.split(jax.random.fold_in(stepping, step))
    return augmentation, dropout


def _cast(tree: PyTree, dtype: str) -> PyTree:
    """Cast between bfloat16 and float32. Leave other types, such as float64, unchanged."""
    kinds = jnp.bfloat16, jnp.float32
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if leaf.dtype in kinds else leaf, tree)


def wait_for(grads: PyTree, updates: PyTree) -> PyTree:
    """Return ``updates`` unchanged, with a data dependency on all ``grads``.

    The backward pass reads the weights. Without this dependency, XLA copies the old weights.
    The copy takes 5 % of the time of a step. The result is NaN if a gradient is NaN.
    """
    firsts = [leaf.reshape(-1)[0] for leaf in jax.tree.leaves(grads) if leaf.size]
    if not firsts:
        return updates
    # An overflow to infinity is harmless, because inf == inf. If the sum is NaN, a gradient was not finite,
    # and the step is NaN anyway.
    known = functools.reduce(jnp.add, firsts)
    one = jnp.where(known == known, 1.0, jnp.nan)
    return jax.tree.map(lambda update: update * one.astype(update.dtype), updates)


def _all_finite(tree: PyTree) -> Bool[Array, ""]:
    # A finite number times 0 is 0; other values give NaN. On a CPU a sum is faster than a logical "all",
    # and a maximum would skip NaN.
    return jnp.stack([jnp.sum(leaf * 0) == 0 for leaf in jax.tree.leaves(tree)]).all()


def _update_average(state: TrainState, trained: PyTree, task: Task) -> PyTree | None:
    """Update the moving average, with a smaller decay in the first steps."""
    if state.average is None:
        return None
    reached = jnp.minimum(task.ema_decay, (1 + state.step) / (10 + state.step))
    average = _select_trained(state.average, task.frozen)
    return _merge(optax.incremental_update(trained, average, 1 - reached), state.average)


def train_chunk(
    task: Task,
    state: TrainState,
    images: Inputs,
    labels: Targets,
    order: Int[Array, "step batch"],
    start: Int[Array, ""] | int,
    stop: Int[Array, ""] | int,
    positions: Int[Array, "micro_batch position"] | None = None,
) -> TrainState:
    """Return the state after the steps ``start ... stop - 1`` of an epoch, in one compiled loop.

    One compilation serves all chunks of all epochs. ``order`` is that of `epoch_order`. ``positions`` has
    one row of positions in the batch per micro-batch (default: one micro-batch). Those beyond the end of
    the batch are padding.
    """
    if positions is None:
        positions = jnp.arange(order.shape[1])[None]

    def body(i, state):
        batch = gather_batch(images, labels, rows_at(order[i], positions))
        return train_step(task, state, *batch, positions)

    return _check_params(lax.fori_loop(start, stop, body, state))


def train_batch(
    task: Task,
    state: TrainState,
    images: UInt8[Array, "micro_batch position height width channel"],
    labels: Int[Array, "micro_batch position"],
    mask: Float[Array, "micro_batch position"],
    positions: Int[Array, "micro_batch position"],
) -> TrainState:
    """Return the state after one step of `train_chunk` on a given batch."""
    return _check_params(train_step(task, state, images, labels, mask, positions))


def _check_params(state: TrainState) -> TrainState:
    # Non-finite weights make the loss of the next step non-finite, so check them only after the last step.
    # A check in every step would take 5 % of the time.
    last_bad = jnp.where(_all_finite(state.params), NO_STEP, state.step)
    bad_step = jnp.minimum(state.totals.bad_step, last_bad)
    return state.replace(totals=state.totals.replace(bad_step=bad_step))
