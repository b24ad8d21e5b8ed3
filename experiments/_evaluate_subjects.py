"""The runs that are evaluated, and the examples that they are asked of."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from fidle_jax.data import SIGN_SETS, Split, StoredSplit, load_dataset
from fidle_jax.errors import InputError
from fidle_jax.inference.evaluation import count_seen, make_forward, training_parts
from fidle_jax.inference.load import Trained, load
from fidle_jax.train.config import Config, check
from fidle_jax.train.run_dir import read_run


class ExampleSet(NamedTuple):
    """The examples that all runs are asked of, and where they are from."""

    dataset: str
    variant: str
    crop: str
    seed: int
    images: UInt8[np.ndarray, "example height width channel"]
    labels: Int[np.ndarray, " example"]
    class_names: tuple[str, ...]

    def title(self) -> str:
        """What a person calls it."""
        return f"{self.dataset} ({self.variant}{', cropped' if self.crop == 'roi' else ''})"


class Subject(NamedTuple):
    """A run, what it says of the test set, and of the examples that it held out.

    Attributes:
        name: on the page.
        run_dir: its directory.
        trained: its network.
        forward: from images to logits.
        logits: of the test set.
        validation: logits and labels of what it held out; or, in words, why there are none.
        chosen_on_test: its epoch was chosen on this test set.
        seen: how many of the test set's images it was trained on.
    """

    name: str
    run_dir: Path
    trained: Trained
    forward: Callable[[UInt8[np.ndarray, "n h w c"]], Float[np.ndarray, "n class"]]
    logits: Float[np.ndarray, "example class"]
    validation: tuple[Float[np.ndarray, "n class"], Int[np.ndarray, " n"]] | str
    chosen_on_test: bool
    seen: int


@dataclasses.dataclass(frozen=True)
class Source:
    """Where the test set is to come from, and the runs' training data; None: as the runs had it."""

    dataset: str | None
    crop: str | None
    data: str | None
    archives: Path | None
    data_dir: Path | None


def read_subjects(run_dirs: tuple[Path, ...], source: Source) -> tuple[list[Subject], ExampleSet]:
    """The runs, each with what it says of the test set, and that.

    Raises:
        InputError: a run or the data cannot be had, they do not go together, or one of two runs was
            trained on examples of the test set.
    """
    all_trained = [load(run_dir) for run_dir in run_dirs]
    test = _read_test(run_dirs[0], all_trained[0], source)
    names = [trained.config.model.name for trained in all_trained]
    if len(names) > 1:
        names = [f"{letter} ({name})" for letter, name in zip("AB", names, strict=True)]
    for run_dir, trained in zip(run_dirs, all_trained, strict=True):
        _check_fits(trained, run_dir, test.title(), test.images.shape[1:], test.class_names)
    return [
        _subject(name, run_dir, trained, test, source, compared=len(names) > 1)
        for name, run_dir, trained in zip(names, run_dirs, all_trained, strict=True)
    ], test


def _read_test(run_dir: Path, trained: Trained, source: Source) -> ExampleSet:
    config = trained.config
    if source.dataset is source.crop is source.data is None:
        own = read_run(run_dir).evaluation
        where = (
            config.data.dataset,
            config.data.variant,
            config.data.crop or "full",
            config.optimisation.seed,
        )
        return ExampleSet(*where, own.images, own.labels, trained.class_names)
    name = source.dataset or config.data.dataset
    asked = Config().replace(
        dataset=name,
        data=source.data or ("auto" if source.dataset else config.data.variant),
        crop=source.crop or (config.data.crop if name in SIGN_SETS else "full"),
    )
    check(asked)
    dataset = load_dataset(
        asked.data.dataset,
        data=asked.data.variant,
        archives=source.archives,
        data_dir=source.data_dir or config.data.data_dir,
        crop=asked.data.crop or "full",
        seed=config.optimisation.seed,
    )
    # Before it is read.
    _check_fits(trained, run_dir, dataset.name, dataset.image_shape, dataset.class_names)
    split = dataset.read("test")
    where = dataset.name, dataset.variant, asked.data.crop or "full", config.optimisation.seed
    return ExampleSet(*where, split.images, split.labels, dataset.class_names)


def _check_fits(
    trained: Trained,
    run_dir: Path,
    title: str,
    shape: tuple[int, ...],
    class_names: tuple[str, ...],
) -> None:
    """Raises InputError where the network takes other images than the set ``title`` has, or tells others."""
    differs = None
    if tuple(shape) != trained.image_shape:
        has, takes = ("x".join(map(str, each)) for each in (shape, trained.image_shape))
        differs = f"images of {has}", f"takes {takes}"
    elif len(class_names) != len(trained.class_names):
        differs = f"{len(class_names)} classes", f"tells {len(trained.class_names)}"
    elif class_names != trained.class_names:
        pairs = zip(class_names, trained.class_names, strict=True)
        has, tells = next((ours, theirs) for ours, theirs in pairs if ours != theirs)
        differs = f"a class {has!r}", f"has {tells!r} in its place"
    if differs:
        raise InputError(
            f"{title} has {differs[0]}; the network of {run_dir} {differs[1]}: give a --dataset that fits it"
        )


def _subject(
    name: str, run_dir: Path, trained: Trained, test: ExampleSet, source: Source, compared: bool
) -> Subject:
    forward = make_forward(trained)
    config = trained.config.replace(
        archives=source.archives,
        data_dir=source.data_dir or trained.config.data.data_dir,
    )
    try:
        train, held_out = training_parts(config)
    except InputError as error:
        train, validation = None, f"the examples that it held out cannot be had: {error}"
    else:
        validation = _validation(forward, held_out)
    seen = _seen(config, test, train)
    if compared and seen:
        raise InputError(
            f"{run_dir} was trained on {seen:,} of the {len(test.labels):,} test examples of "
            f"{test.title()}; compare the two on examples that are new to both: --data full, or another "
            "--dataset"
        )
    return Subject(
        name=name,
        run_dir=run_dir,
        trained=trained,
        forward=forward,
        logits=forward(test.images),
        validation=validation,
        chosen_on_test=config.data.hold_out == "test" and _same_set(config, test),
        seen=seen,
    )


def _validation(forward: Callable, held_out: Split | StoredSplit):
    if not len(held_out.labels):
        return "it held nothing out, and on the test set itself a temperature is not to be fitted"
    rows = np.arange(len(held_out.labels))
    return forward(held_out.read_images(rows)), held_out.labels


def _same_set(config: Config, test: ExampleSet) -> bool:
    """Whether the test set is the one that came with what the run was trained on."""
    own = config.data.dataset, config.data.variant, config.data.crop or "full"
    same_draw = config.data.variant != "sample" or config.optimisation.seed == test.seed
    return own == (test.dataset, test.variant, test.crop) and same_draw


def _seen(config: Config, test: ExampleSet, train: Split | StoredSplit | None) -> int:
    # Other sets than this one in another draw or extent have pictures of their own.
    if train is None or config.data.dataset != test.dataset or _same_set(config, test):
        return 0
    return count_seen(test.images, train)
