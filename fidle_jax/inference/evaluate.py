"""Evaluate trained networks: test examples, confidence intervals, comparison, calibration, latency."""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from scipy.stats import binomtest, norm

from fidle_jax.data import SIGN_SETS, AnySplit, Dataset, load_dataset
from fidle_jax.errors import InputError
from fidle_jax.inference.load import Trained, load, map_batches
from fidle_jax.train.config import Config, ResolvedConfig, check
from fidle_jax.train.evaluation import apply_model
from fidle_jax.train.run import hold_out
from fidle_jax.train.run_dir import read_evaluation

BATCH_SIZE = 100

LEVEL = 0.95  # of confidence intervals

BINS = 15
LOG_TEMPERATURES = (-4.0, 4.0)  # natural logarithms of the search range

LATENCY_BATCH_SIZES = (1, 8, 64, 512)
LATENCY_SECONDS = 1.0  # for each batch size
MIN_CALLS, MAX_CALLS = 5, 200

Images = UInt8[np.ndarray, "n height width channel"]
Logits = Float[np.ndarray, "n class"]
Labels = Int[np.ndarray, " n"]


class ExampleSet(NamedTuple):
    """Test examples, and the data set they come from."""

    dataset: str
    variant: str
    crop: str
    seed: int
    images: Images
    labels: Labels
    class_names: tuple[str, ...]

    def title(self) -> str:
        """Return the name of the set for messages and pages."""
        return f"{self.dataset} ({self.variant}{', cropped' if self.crop == 'roi' else ''})"


class Subject(NamedTuple):
    """A run that is evaluated."""

    name: str  # on the page
    run_dir: Path
    trained: Trained
    forward: Callable[[Images], Logits]
    logits: Logits  # of the test set
    validation: tuple[Logits, Labels] | str  # of the hold-out set, or why there is none
    chosen_on_test: bool  # the epoch was selected on this test set
    seen: int  # test images that the run was trained on


def read_subjects(
    run_dirs: tuple[Path, ...],
    dataset: str | None = None,
    crop: str | None = None,
    data: str | None = None,
    archives: Path | None = None,
    data_dir: Path | None = None,
) -> tuple[list[Subject], ExampleSet]:
    """Load the runs and compute their logits of the test set.

    The other arguments select the test set (default: the one of the first run).

    Raises:
        InputError: A run or the data is missing, they don't fit together, or one of two runs was
            trained on examples of the test set.
    """
    all_trained = [load(run_dir) for run_dir in run_dirs]
    asked = {"dataset": dataset, "crop": crop, "data": data}
    asked = {name: value for name, value in asked.items() if value is not None}
    where = {"archives": archives} | ({} if data_dir is None else {"data_dir": data_dir})
    test = _read_test(run_dirs[0], all_trained[0], asked, where)
    subjects = []
    for run_dir, trained in zip(run_dirs, all_trained, strict=True):
        _check_fits(trained, run_dir, test.title(), test.images.shape[1:], test.class_names)
        name = trained.config.model.name
        if len(run_dirs) > 1:
            name = f"{'AB'[len(subjects)]} ({name})"
        subject = _make_subject(name, run_dir, trained, where, test)
        if len(run_dirs) > 1 and subject.seen:
            raise InputError(
                f"{run_dir} was trained on {subject.seen:,} of the {len(test.labels):,} test examples of "
                f"{test.title()}; compare the runs on examples new to both: give --data full or --dataset"
            )
        subjects.append(subject)
    return subjects, test


def _read_test(run_dir: Path, trained: Trained, asked: dict, where: dict) -> ExampleSet:
    config = trained.config
    if not asked:
        own = read_evaluation(run_dir)
        return ExampleSet(*_own_set(config), own.images, own.labels, trained.class_names)
    name = asked.get("dataset", config.data.dataset)
    usual = {"dataset": name, "data_dir": config.data.data_dir, "seed": config.optimisation.seed}
    usual["data"] = "auto" if "dataset" in asked else config.data.variant
    usual["crop"] = config.data.crop if name in SIGN_SETS else "full"
    config = Config().replace(**usual | asked | where)
    check(config)
    found = _load(config)
    # Check before reading, which may take long.
    _check_fits(trained, run_dir, found.name, found.image_shape, found.class_names)
    split, (_, _, crop, seed) = found.read("test"), _own_set(config)
    about = found.name, found.variant, crop, seed
    return ExampleSet(*about, split.images, split.labels, found.class_names)


def _load(config: Config) -> Dataset:
    data = config.data
    return load_dataset(
        data.dataset,
        data=data.variant,
        archives=data.archives,
        data_dir=data.data_dir,
        crop=data.crop or "full",
        seed=config.optimisation.seed,
    )


def _own_set(config: Config) -> tuple[str, str, str, int]:
    data = config.data
    return data.dataset, data.variant, data.crop or "full", config.optimisation.seed


def _check_fits(trained: Trained, run_dir: Path, title: str, shape, class_names) -> None:
    names = zip(class_names, trained.class_names, strict=False)
    for what, has, expected in (
        (f"{title} has images of shape", tuple(shape), trained.image_shape),
        (f"the number of classes of {title} is", len(class_names), len(trained.class_names)),
        *((f"class {i} of {title} is", *pair) for i, pair in enumerate(names)),
    ):
        if has != expected:
            raise InputError(
                f"{what} {has!r}; the network of {run_dir} expects {expected!r}; "
                "give a --dataset that fits it"
            )


def _make_subject(name, run_dir, trained: Trained, where: dict, test: ExampleSet) -> Subject:
    forward, config = make_forward(trained), trained.config.replace(**where)
    # Only the sample is divided by the seed.
    own, other = _own_set(config), test[:4]
    same_set = own[:3] == other[:3] and (own == other or config.data.variant != "sample")
    seen = 0
    validation = "it has no hold-out set, and a temperature must not be fitted on the test set"
    try:
        train, held_out = training_parts(config)
    except InputError as error:
        validation = f"its hold-out set is not available: {error}"
    else:
        # Sets of other names have other images.
        if config.data.dataset == test.dataset and not same_set:
            seen = count_seen(test.images, train)
        if rows := len(held_out.labels):
            validation = forward(held_out.read_images(np.arange(rows))), held_out.labels
    chosen_on_test = config.data.hold_out == "test" and same_set
    logits = forward(test.images)
    return Subject(name, run_dir, trained, forward, logits, validation, chosen_on_test, seen)


def make_forward(trained: Trained) -> Callable[[Images], Logits]:
    """Return a function from any number of images to their logits.

    It uses this project's convolutions. XLA's compile faster, but a large network then takes two to
    three times as long on a CPU, which matters for thousands of images.
    """
    compiled = jax.jit(apply_model, static_argnums=0)
    apply = functools.partial(compiled, trained.model, trained.variables)
    return functools.partial(map_batches, apply, size=BATCH_SIZE)


def training_parts(config: ResolvedConfig) -> tuple[AnySplit, AnySplit]:
    """Return the training examples and the hold-out set, possibly empty, of a run.

    Raises:
        InputError: The data set is not available.
    """
    dataset = _load(config)
    return hold_out((dataset.open or dataset.read)("train"), config)


def count_seen(images: Images, train: AnySplit) -> int:
    """Return how many of the images are exact copies of training images."""
    wanted = {image.tobytes() for image in images}
    seen: set[bytes] = set()
    for rows in np.array_split(np.arange(len(train.labels)), -(-len(train.labels) // BATCH_SIZE)):
        seen |= wanted & {image.tobytes() for image in train.read_images(rows)}
    return sum(image.tobytes() in seen for image in images)


def accuracy_interval(correct: int, examples: int) -> tuple[float, float]:
    """Return Wilson's (1927) 95 % confidence interval of an accuracy."""
    return tuple(binomtest(correct, examples).proportion_ci(LEVEL, method="wilson"))


class Comparison(NamedTuple):
    """Two networks on the same examples."""

    both: int  # examples that both classify correctly
    only_first: int  # examples that only the first classifies correctly
    only_second: int
    neither: int
    p_value: float  # of McNemar's exact test
    difference: float  # accuracy of the second minus accuracy of the first
    interval: tuple[float, float]  # 95 % confidence interval of the difference


def compare(first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"]) -> Comparison:
    """Compare two networks, given which examples each of them classifies correctly.

    The test is McNemar's (1947) in its exact form: a binomial test on the discordant examples.

    References:
        Dietterich, "Approximate statistical tests for comparing supervised classification learning
        algorithms" (1998). Agresti and Min, "Simple improved confidence intervals for comparing
        matched proportions" (2005).
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    discordant = only_first + only_second
    p_value = binomtest(only_first, discordant).pvalue if discordant else 1.0
    # Agresti and Min add half an example to each of the four counts.
    total = len(first) + 2
    centre = (only_second - only_first) / total
    variance = (discordant + 1) / total - centre**2
    reach = float(norm.ppf((1 + LEVEL) / 2) * np.sqrt(variance / total))
    return Comparison(
        both=int((first & second).sum()),
        only_first=only_first,
        only_second=only_second,
        neither=int((~first & ~second).sum()),
        p_value=float(p_value),
        difference=(only_second - only_first) / len(first),
        interval=(max(centre - reach, -1.0), min(centre + reach, 1.0)),
    )


class Calibration(NamedTuple):
    """Calibration of a network. The confidence is the probability of the predicted class."""

    temperature: float  # divisor of the logits
    counts: Int[np.ndarray, " bin"]  # examples by confidence, in bins of equal width
    confidence: Float[np.ndarray, " bin"]  # mean of the bin; NaN if it is empty
    accuracy: Float[np.ndarray, " bin"]  # NaN if the bin is empty
    error: float  # expected calibration error, 0 to 1
    loss: float  # mean negative log-likelihood in nats
    standard_error: float  # of the loss


def calibrate(
    logits: Logits, labels: Labels, temperature: float = 1.0, bins: int = BINS
) -> Calibration:
    """Measure calibration with the logits divided by ``temperature``.

    A confidence at the edge of two bins counts in the lower one.

    References:
        Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian
        binning" (2015). Guo et al., "On calibration of modern neural networks" (2017).
    """
    confidence = softmax(logits.astype(np.float64) / temperature, axis=1).max(axis=1)
    bin_of = np.digitize(confidence, np.arange(1, bins) / bins, right=True)
    counts = np.bincount(bin_of, minlength=bins)
    divisors = np.where(counts, counts, np.nan)
    means, accuracy = (
        np.bincount(bin_of, each, minlength=bins) / divisors
        for each in (confidence, is_correct(logits, labels))
    )
    losses = negative_log_likelihoods(logits, labels, temperature)
    return Calibration(
        temperature=temperature,
        counts=counts,
        confidence=means,
        accuracy=accuracy,
        error=float(np.nansum(np.abs(accuracy - means) * counts) / len(labels)),
        loss=float(losses.mean()),
        standard_error=float(losses.std(ddof=1) / np.sqrt(len(losses))) if len(losses) > 1 else 0.0,
    )


def is_correct(logits: Logits, labels: Labels) -> Bool[np.ndarray, " n"]:
    """Return which examples are classified correctly."""
    return logits.argmax(axis=1) == labels


def negative_log_likelihoods(
    logits: Logits, labels: Labels, temperature: float = 1.0
) -> Float[np.ndarray, " n"]:
    """Return the cross-entropy of each example in nats, with the logits divided by ``temperature``."""
    logarithms = log_softmax(logits.astype(np.float64) / temperature, axis=1)
    return -logarithms[np.arange(len(labels)), labels]


def fit_temperature(logits: Logits, labels: Labels) -> float | None:
    """Return the temperature with the smallest loss on examples used neither in training nor in the test.

    Return None if there is none: the loss falls forever with smaller temperatures if all examples are
    correct, and with larger ones if the network is no better than chance.
    """
    own = logits[np.arange(len(labels)), labels].astype(np.float64)
    if is_correct(logits, labels).all() or (own - logits.mean(axis=1)).mean() <= 0:
        return None

    # The loss is convex in the inverse temperature, so it has one minimum in the logarithm.
    def mean_loss(logarithm: float) -> float:
        return negative_log_likelihoods(logits, labels, np.exp(logarithm)).mean()

    found = minimize_scalar(mean_loss, bounds=LOG_TEMPERATURES, method="bounded")
    return float(np.exp(found.x))


def measure_latency(
    predict: Callable[[Images], Float], image_shape: tuple[int, int, int], batch_size: int
) -> dict[str, float]:
    """Measure the time from images in host memory to probabilities in host memory.

    ``predict`` is called once to compile, once to warm up, and then for `LATENCY_SECONDS`.

    Returns:
        Batch size, median and 95th percentile of the duration, number of calls, and throughput.
    """
    shape = (batch_size, *image_shape)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for _ in range(2):
        np.asarray(predict(images))
    times: list[float] = []
    while len(times) < MIN_CALLS or (sum(times) < LATENCY_SECONDS and len(times) < MAX_CALLS):
        began = time.perf_counter()
        np.asarray(predict(images))
        times.append(time.perf_counter() - began)
    median, slow = np.quantile(times, [0.5, 0.95])
    return {
        "batch_size": batch_size,
        "seconds": float(median),
        "slow_seconds": float(slow),
        "calls": len(times),
        "images_per_second": batch_size / float(median),
    }
