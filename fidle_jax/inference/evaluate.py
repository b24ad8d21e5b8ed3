"""Evaluate trained networks: test examples, confidence intervals, comparison, calibration, latency."""

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from scipy.stats import binomtest, norm

from fidle_jax.data import SIGN_SETS, AnySplit, is_path
from fidle_jax.errors import InputError
from fidle_jax.inference.load import Run, compute_logits, load, map_batches
from fidle_jax.inference.preprocess import resize_method
from fidle_jax.train.config import Config, ResolvedConfig, check
from fidle_jax.train.resume import check_same_data
from fidle_jax.train.run import divide_training, load_configured
from fidle_jax.train.run_content import read_evaluation

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
    """Test examples, and a config that selects them."""

    config: Config
    images: Images
    labels: Labels
    class_names: tuple[str, ...]
    is_own: bool = False  # a user's own images that were read for this evaluation

    def title(self) -> str:
        """Return the name of the set for messages and pages."""
        data = self.config.data
        return f"{data.dataset} ({data.variant}{', cropped' if data.crop == 'roi' else ''})"


class Subject(NamedTuple):
    """A run that is evaluated."""

    name: str  # on the page
    run_dir: Path
    trained: Run
    forward: Callable[[Images], Logits]
    logits: Logits  # of the test set
    temperature: float | str  # fitted on the hold-out set, or why there is none
    seen: int  # number of test images that the run was trained on
    warnings: list[str]  # reasons why the accuracy is too optimistic


def read_subjects(
    run_dirs: tuple[Path, ...], settings: dict[str, Any]
) -> tuple[list[Subject], ExampleSet]:
    """Load the runs and compute their logits of the test set.

    ``settings`` select another test set than that of the first run, and say where the data is: dataset,
    crop, data, archives and data_dir.

    Raises:
        InputError: A run or the data is missing, they don't fit together, or one of two runs was
            trained on examples of the test set.
    """
    all_trained = [_load(run_dir) for run_dir in run_dirs]
    test = _read_test(run_dirs[0], all_trained[0], settings)
    folders = {name: settings[name] for name in ("archives", "data_dir") if name in settings}
    subjects = []
    for run_dir, trained, letter in zip(run_dirs, all_trained, "AB", strict=False):
        _check_fits(trained, run_dir, test)
        name = trained.config.model.name
        name = name if len(run_dirs) == 1 else f"{letter} ({name})"
        subject = _make_subject(name, run_dir, trained, folders, test)
        if len(run_dirs) > 1 and subject.seen:
            raise InputError(
                f"{run_dir} was trained on {subject.seen:,} of the {len(test.labels):,} test examples of "
                f"{test.title()}; compare the runs on examples new to both: give --data full or --dataset"
            )
        subjects.append(subject)
    return subjects, test


def _load(run_dir: Path) -> Run:
    """Load a run. The path of own images becomes absolute."""
    trained = load(run_dir)
    if is_path(trained.config.data.dataset):
        config = trained.config.replace(dataset=trained.result["dataset"])
        trained = dataclasses.replace(trained, config=config)
    return trained


def _read_test(run_dir: Path, trained: Run, settings: dict[str, Any]) -> ExampleSet:
    config = trained.config
    if not settings.keys() & {"dataset", "crop", "data"}:
        own = read_evaluation(run_dir)
        return ExampleSet(config, own.images, own.labels, trained.class_names)
    if is_path(settings.get("dataset", config.data.dataset)):
        return _read_own(trained, settings)
    usual = {"dataset": config.data.dataset, "data_dir": config.data.data_dir}
    usual |= {"data": config.data.variant, "seed": config.optimisation.seed}
    if "dataset" in settings:
        usual |= {"data": "auto"}
    if settings.get("dataset", config.data.dataset) in SIGN_SETS:
        usual |= {"crop": config.data.crop}
    config = Config().replace(**usual | settings)
    check(config)
    found = load_configured(config)
    split = found.read("test")
    config = config.replace(data=found.variant)
    return ExampleSet(config, split.images, split.labels, found.class_names)


def _read_own(trained: Run, settings: dict[str, Any]) -> ExampleSet:
    """Read a user's own images: the test split, or all images if there is none."""
    from fidle_jax.data.own import Settings, read_labelled

    for name in settings.keys() & {"data", "archives"}:
        raise InputError(f"--{name} is not supported for your own images; omit it")
    data = trained.config.data
    if data.dataset in SIGN_SETS:
        raise InputError(
            f"the images of {data.dataset} have further processing, which --dataset PATH does not apply; "
            "use predict.py RUN PATH"
        )
    config = trained.config.replace(**{"crop": data.crop or "full"} | settings | {"data": "full"})
    how = Settings(None, resize_method(trained.config), config.data.crop, data.allow_skipped)
    path = Path(config.data.dataset)
    split = read_labelled(path, trained.class_names, trained.image_shape, how)
    return ExampleSet(config, split.images, split.labels, trained.class_names, is_own=True)


def _identity(config: Config) -> tuple[Any, ...]:
    """Return what the test set of a run depends on. The seed divides only the sample and own images."""
    data, own = config.data, is_path(config.data.dataset)
    seed = config.optimisation.seed if data.variant == "sample" or own else None
    return data.dataset, data.variant, data.crop or "full", seed, data.hold_out if own else None


def _check_fits(trained: Run, run_dir: Path, test: ExampleSet) -> None:
    title, names = test.title(), zip(test.class_names, trained.class_names, strict=False)
    for what, has, expected in (
        (f"{title} has images of shape", test.images.shape[1:], trained.image_shape),
        (f"the number of classes of {title} is", len(test.class_names), len(trained.class_names)),
        *((f"class {i} of {title} is", *pair) for i, pair in enumerate(names)),
    ):
        if has != expected:
            raise InputError(
                f"{what} {has!r}; the network of {run_dir} expects {expected!r}; "
                "give a --dataset that fits it"
            )


def _make_subject(
    name: str, run_dir: Path, trained: Run, folders: dict[str, Any], test: ExampleSet
) -> Subject:
    forward, config = make_forward(trained), trained.config.replace(**folders)
    same_set = not test.is_own and _identity(config) == _identity(test.config)
    seen, warnings = 0, []
    try:
        train, held_out = training_parts(config, run_dir)
        # Published sets of other names have other images.
        same_name = config.data.dataset == test.config.data.dataset
        if not same_set and (same_name or is_path(test.config.data.dataset)):
            seen = count_seen(test.images, train)
        if not (rows := len(held_out.labels)):
            raise InputError("the run has no hold-out set")
        held_out_logits = forward(held_out.read_images(np.arange(rows)))
        temperature = fit_temperature(held_out_logits, held_out.labels)
    except InputError as error:
        temperature = str(error)
    optimistic = f"so the accuracy of {name} is too optimistic."
    if seen:
        warnings.append(f"{seen:,} of these examples are training data, {optimistic}")
    if config.data.hold_out == "test" and same_set:
        warnings.append(f"The epoch was selected on this test set, {optimistic}")
    logits = forward(test.images)
    return Subject(name, run_dir, trained, forward, logits, temperature, seen, warnings)


def make_forward(trained: Run) -> Callable[[Images], Logits]:
    """Return a function from any number of images to their logits.

    It uses this project's convolutions. XLA's compile faster, but a large network then takes two to
    three times as long on a CPU, which matters for thousands of images.
    """
    apply = functools.partial(compute_logits, trained.model, trained.variables)
    return functools.partial(map_batches, apply, size=BATCH_SIZE)


def training_parts(config: ResolvedConfig, run_dir: Path) -> tuple[AnySplit, AnySplit]:
    """Return the training examples and the hold-out set, possibly empty, of a run.

    Raises:
        InputError: The data set is not available, or own images have changed.
    """
    dataset = load_configured(config)
    check_same_data(config.replace(run_dir=run_dir), dataset)
    return divide_training(dataset, dataset.open, config)


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
    neither, only_second, only_first, both = np.bincount(2 * first + second, minlength=4).tolist()
    discordant = only_first + only_second
    p_value = float(binomtest(only_first, discordant).pvalue) if discordant else 1.0
    # Agresti and Min add half an example to each of the four counts.
    total = len(first) + 2
    centre = (only_second - only_first) / total
    variance = (discordant + 1) / total - centre**2
    reach = float(norm.ppf((1 + LEVEL) / 2) * np.sqrt(variance / total))
    interval = max(centre - reach, -1.0), min(centre + reach, 1.0)
    difference = (only_second - only_first) / len(first)
    return Comparison(both, only_first, only_second, neither, p_value, difference, interval)


class Calibration(NamedTuple):
    """Calibration of a network. The confidence is the probability of the predicted class."""

    counts: Int[np.ndarray, " bin"]  # examples by confidence, in bins of equal width
    confidence: Float[np.ndarray, " bin"]  # mean of the bin; NaN if it is empty
    accuracy: Float[np.ndarray, " bin"]  # NaN if the bin is empty
    error: float  # expected calibration error, 0 to 1
    loss: float  # mean negative log-likelihood in nats


def calibrate(
    logits: Logits, labels: Labels, temperature: float = 1.0, bins: int = BINS
) -> Calibration:
    """Measure calibration with the logits divided by ``temperature``.

    A confidence at the edge of two bins counts in the lower one.

    References:
        Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian
        binning" (2015). Guo et al., "On calibration of modern neural networks" (2017).
    """
    logits = logits.astype(np.float64) / temperature
    confidence = softmax(logits, axis=1).max(axis=1)
    bin_of = np.digitize(confidence, np.arange(1, bins) / bins, right=True)
    counts = np.bincount(bin_of, minlength=bins)
    divisors = np.where(counts, counts, np.nan)
    means, accuracy = (
        np.bincount(bin_of, each, minlength=bins) / divisors
        for each in (confidence, logits.argmax(axis=1) == labels)
    )
    error = np.nansum(np.abs(accuracy - means) * counts) / len(labels)
    loss = -log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean()
    return Calibration(counts, means, accuracy, float(error), float(loss))


def fit_temperature(logits: Logits, labels: Labels) -> float:
    """Return the temperature with the smallest loss on examples used neither in training nor in the test.

    Raises:
        InputError: No temperature is the best one. If all examples are correct, the loss falls forever with
            smaller temperatures, and if the network is no better than chance, with larger ones.
    """
    own = logits[np.arange(len(labels)), labels].astype(np.float64)
    if (logits.argmax(axis=1) == labels).all() or (own - logits.mean(axis=1)).mean() <= 0:
        raise InputError(
            "no temperature is the best one, because the network has no error on the hold-out set, or is no "
            "better than chance"
        )
    # The loss is convex in the inverse temperature, so it has one minimum in the logarithm.
    found = minimize_scalar(
        lambda logarithm: calibrate(logits, labels, np.exp(logarithm)).loss,
        bounds=LOG_TEMPERATURES,
        method="bounded",
    )
    return float(np.exp(found.x))


def measure_latency(
    predict: Callable[[Images], Float], image_shape: tuple[int, int, int], batch_size: int
) -> dict[str, float]:
    """Measure the time from images in host memory to probabilities in host memory.

    ``predict`` is called once to compile, once to warm up, and then for `LATENCY_SECONDS`. Return the
    median and the 95th percentile of the duration, and the throughput.
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
        "milliseconds": 1e3 * float(median),
        "slow_milliseconds": 1e3 * float(slow),
        "images_per_second": batch_size / float(median),
    }
