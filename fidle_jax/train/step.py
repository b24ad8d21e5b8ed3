"""One training step, and many of them in one compiled loop: pure functions."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree, UInt8, UInt32

from fidle_jax.data.augment import NO_AUGMENTATION, Augmentation, augment
from fidle_jax.data.batches import Inputs, Targets, gather_batch, rows_at
from fidle_jax.train.objectives import CLASSES, Objective
from fidle_jax.train.state import NO_STEP, Totals, TrainState


@dataclasses.dataclass(frozen=True)
class Task:
    """What a training step needs to know besides the state and the batch.

    Attributes:
        model: the network.
        optimizer: gradients to updates.
        ranges: of the augmentation.
        label_smoothing: share of each target that is spread over all classes.
        class_weights: by which each class's examples count in the gradient; empty: all alike.
        ema_decay: of the moving average of the weights, where the state has one.
        compute_dtype: of the network's arithmetic; the state is float32 whatever it is.
        axis_name: of the mapped axis that batches are spread over; None where arrays are whole.
        objective: what the network's outputs are held against.
    """

    model: nn.Module
    optimizer: optax.GradientTransformation
    ranges: Augmentation = NO_AUGMENTATION
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] = ()
    ema_decay: float = 0.0
    compute_dtype: str = "float32"
    axis_name: str | None = None
    objective: Objective = CLASSES

    def over_axis(self, axis_name: str) -> "Task":
        """The same over a mapped axis; a network with batch norms has to know of it."""
        model = self.model
        if hasattr(model, "axis_name"):
            model = model.clone(axis_name=axis_name)
        return dataclasses.replace(self, model=model, axis_name=axis_name)


def train_step(
    task: Task,
    state: TrainState,
    images: UInt8[Array, "part batch *shape"] | Float[Array, "part batch *shape"],
    labels: Int[Array, "part batch"] | Float[Array, "part batch"],
    weights: Float[Array, "part batch"],
    example_index: Int[Array, "part batch"],
) -> TrainState:
    """The state after one step on a batch, whose parts are computed one after the other.

    The loss is the mean over the examples of weight 1, those of all parts and devices; those of
    weight 0 fill a batch up and count for nothing. The gradient is that of this mean with each loss
    multiplied by the weight of its class, the one after augmentation; the totals are of plain losses.
    ``example_index`` is each example's place in the whole batch: with the state's seed and step, all
    that augmentation and dropout depend on.
    """
    count = _over_devices(task, jnp.sum(weights))
    sums, batch_stats = _over_parts(
        functools.partial(_gradients, task, state, count=count),
        state.batch_stats,
        (images, labels, weights, example_index),
    )
    grads, loss, score = _over_devices(task, sums)
    updates, opt_state = task.optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, once_known(grads, updates))
    step_now = jnp.where(jnp.isfinite(loss), NO_STEP, state.step + 1)
    return state.replace(
        params=params,
        batch_stats=batch_stats,
        average=_move_average(state, params, task.ema_decay),
        opt_state=opt_state,
        step=state.step + 1,
        totals=Totals(
            loss=state.totals.loss + jnp.float32(loss * count),
            correct=state.totals.correct + score,
            examples=state.totals.examples + count,
            bad_step=jnp.minimum(state.totals.bad_step, step_now),
        ),
    )


def _over_devices(task: Task, sums: PyTree) -> PyTree:
    """The sums over all devices, of those over each one's examples."""
    return sums if task.axis_name is None else lax.psum(sums, task.axis_name)


def _over_parts(gradients, batch_stats: PyTree, parts: PyTree) -> tuple[PyTree, PyTree]:
    """The sums of what ``gradients`` gives for each part, and the statistics after the last."""
    first = jax.tree.map(lambda array: array[0], parts)
    if len(parts[0]) == 1:
        return gradients(batch_stats, first)

    def add(carry, part):
        sums, batch_stats = carry
        more, batch_stats = gradients(batch_stats, part)
        return (jax.tree.map(jnp.add, sums, more), batch_stats), None

    like, _ = jax.eval_shape(gradients, batch_stats, first)
    zeros = jax.tree.map(lambda array: jnp.zeros(array.shape, array.dtype), like)
    return lax.scan(add, (zeros, batch_stats), parts)[0]


def _gradients(task: Task, state: TrainState, batch_stats: PyTree, part, count):
    """Of one part: its shares of the gradient and the loss, the sum of scores; and the statistics.

    Args:
        task: as of `train_step`.
        state: as of `train_step`.
        batch_stats: before this part.
        part: images, labels, weights and indices.
        count: examples of the whole batch.
    """
    images, labels, weights, example_index = part
    # What fills up has no place in the batch: a batch norm leaves it out.
    example_index = jnp.where(weights > 0, example_index, -1)
    augment_key, dropout_key = step_keys(state.seed, state.step)
    x, labels = augment(images, labels, augment_key, example_index, task.ranges)

    def loss_fn(params):
        logits, changed = task.model.apply(
            {"params": _as_type(params, task.compute_dtype), "batch_stats": batch_stats},
            _as_type(x, task.compute_dtype),
            train=True,
            example_index=example_index,
            rngs={"dropout": dropout_key},
            mutable=["batch_stats"],
        )
        logits = _as_type(logits, "float32")
        losses = task.objective.losses(logits, labels, task.label_smoothing) * weights
        loss = objective = jnp.sum(losses) / count
        if task.class_weights:
            of_class = jnp.asarray(task.class_weights, losses.dtype)
            objective = jnp.sum(losses * of_class[labels]) / count
        return objective, (loss, logits, changed.get("batch_stats", batch_stats))

    gradient = jax.grad(loss_fn, has_aux=True)
    grads, (loss, logits, batch_stats) = gradient(state.params)
    score = jnp.sum(weights * task.objective.scores(logits, labels))
    return (grads, loss, score), batch_stats


def step_keys(
    seed: UInt32[Array, ""], step: Int[Array, ""]
) -> tuple[Key[Array, ""], Key[Array, ""]]:
    """What augmentation and dropout of a step get from a run's seed."""
    _, stepping = jax.random.split(jax.random.key(seed))
    augmentation, dropout = jax.random.split(jax.random.fold_in(stepping, step))
    return augmentation, dropout


def _as_type(tree: PyTree, dtype: str) -> PyTree:
    """Arrays of half precision from single, and back; others, of double precision, as they are."""
    kinds = jnp.bfloat16, jnp.float32
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if leaf.dtype in kinds else leaf, tree)


def once_known(grads: PyTree, updates: PyTree) -> PyTree:
    """``updates``, bit for bit, for XLA to compute once all of ``grads`` are; NaN if it meets one in them.

    The backward pass reads the weights. Where nothing says that new ones come after it, XLA copies the
    old ones at each step, which takes a twentieth of it.
    """
    firsts = [leaf.reshape(-1)[0] for leaf in jax.tree.leaves(grads) if leaf.size]
    if not firsts:
        return updates
    # Their sum may overflow, and stays itself; that of infinities of both signs is NaN, as is the step.
    known = functools.reduce(jnp.add, firsts)
    one = jnp.where(known == known, 1.0, jnp.nan)
    return jax.tree.map(lambda update: update * one.astype(update.dtype), updates)


def _all_finite(tree: PyTree) -> Bool[Array, ""]:
    # A finite number times 0 is 0, any other NaN. Sums are fast on a CPU, a logical "all" is not, and
    # its maximum passes over NaN.
    return jnp.stack([jnp.sum(leaf * 0) == 0 for leaf in jax.tree.leaves(tree)]).all()


def _move_average(state: TrainState, params: PyTree, decay: float) -> PyTree | None:
    """The average, faster at first so that the initial weights are soon forgotten."""
    if state.average is None:
        return None
    reached = jnp.minimum(decay, (1 + state.step) / (10 + state.step))
    return optax.incremental_update(params, state.average, 1 - reached)


def train_chunk(
    task: Task,
    state: TrainState,
    images: Inputs,
    labels: Targets,
    order: Int[Array, "step batch"],
    start: Int[Array, ""] | int,
    stop: Int[Array, ""] | int,
    places: Int[Array, "part place"] | None = None,
) -> TrainState:
    """The state after the epoch's steps ``start ... stop - 1``, as one loop of the compiled program.

    The bounds are arrays, so that one compilation serves chunks of every length. ``places`` are those
    of a batch that are computed here, part by part; by default all of them at once. Places past the
    batch's end fill up.
    """
    if places is None:
        places = jnp.arange(order.shape[1])[None]

    def body(i, state):
        batch = gather_batch(images, labels, rows_at(order[i], places))
        return train_step(task, state, *batch, places)

    return _look_at_weights(lax.fori_loop(start, stop, body, state))


def train_batch(
    task: Task,
    state: TrainState,
    images: UInt8[Array, "part place height width channel"],
    labels: Int[Array, "part place"],
    weights: Float[Array, "part place"],
    places: Int[Array, "part place"],
) -> TrainState:
    """The state after one step, as of `train_chunk`, on a batch that is brought to it."""
    return _look_at_weights(train_step(task, state, images, labels, weights, places))


def _look_at_weights(state: TrainState) -> TrainState:
    # What a step makes of the weights shows in the next one's loss; here, for the last: to read all
    # weights at each step takes a twentieth of it.
    last_bad = jnp.where(_all_finite(state.params), NO_STEP, state.step)
    bad_step = jnp.minimum(state.totals.bad_step, last_bad)
    return state.replace(totals=state.totals.replace(bad_step=bad_step))
