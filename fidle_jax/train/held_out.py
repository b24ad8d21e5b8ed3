"""Which examples a run is trained on, and which it holds out to choose the epoch by."""

from fidle_jax.data import Split, StoredSplit, grouped_split, stratified_split
from fidle_jax.errors import InputError
from fidle_jax.train.config import ResolvedConfig


def take_share(split: Split | StoredSplit, share: float) -> Split | StoredSplit:
    """That share of it, the same for every seed: runs that are compared see the same examples."""
    if share == 1:
        return split
    try:
        if split.groups is None:
            kept, _ = stratified_split(split.labels, 1 - share, seed=0)
        else:
            kept, _ = grouped_split(split.labels, split.groups, 1 - share, seed=0)
    except InputError:  # so near to 1 that no example is left out
        return split
    return split.take(kept)


def hold_out(
    split: Split | StoredSplit, config: ResolvedConfig
) -> tuple[Split | StoredSplit, Split | StoredSplit]:
    """The training examples and those held out for validation, none for a fraction of 0.

    Raises:
        InputError: as of `fidle_jax.data.stratified_split` and `fidle_jax.data.grouped_split`.
    """
    if split.groups is None or config.data.hold_out == "examples":
        rows = stratified_split(
            split.labels, config.data.validation_fraction, config.optimisation.seed
        )
    else:
        rows = grouped_split(
            split.labels, split.groups, config.data.validation_fraction, config.optimisation.seed
        )
    train, validation = map(split.take, rows)
    return train, validation
