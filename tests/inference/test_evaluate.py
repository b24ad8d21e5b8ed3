"""Statistics of an evaluation, and the examples that a run is evaluated on."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax
from sklearn.metrics import log_loss

from fidle_jax.data import Dataset, Split, StoredSplit
from fidle_jax.errors import InputError
from fidle_jax.files import read_json, write_json
from fidle_jax.inference import evaluate
from fidle_jax.inference.evaluate import (
    BATCH_SIZE,
    accuracy_interval,
    calibrate,
    compare,
    count_seen,
    fit_temperature,
    make_forward,
    measure_latency,
    read_subjects,
    training_parts,
)
from fidle_jax.train import run as run_module
from fidle_jax.train import run_dir as run_dirs
from fidle_jax.train.config import ResolvedConfig

DIGITS = tuple("0123456789")


@pytest.mark.parametrize("examples", [1, 2, 10, 777, 20_000])
def test_the_ends_of_wilsons_interval_are_196_deviations_from_the_accuracy(examples):
    for correct in np.unique(np.linspace(0, examples, 7).astype(int)).tolist():
        ends = accuracy_interval(correct, examples)
        for end, extreme in zip(ends, (0, examples), strict=True):
            deviation = np.sqrt(end * (1 - end) / examples)
            if correct == extreme:
                assert end == pytest.approx(extreme / examples, abs=1e-9)
            else:
                distance = abs(end - correct / examples)
                assert distance == pytest.approx(1.959964 * deviation, rel=1e-5, abs=1e-12)


def correct_examples(both, only_first, only_second, neither):
    counts = (both, only_first, only_second, neither)
    first = np.repeat([True, True, False, False], counts)
    return first, np.repeat([True, False, True, False], counts)


def test_every_example_is_counted_once():
    found = compare(*correct_examples(50, 4, 7, 3))
    assert found[:4] == (50, 4, 7, 3)
    assert found.difference == pytest.approx(3 / 64)


def test_disagreements_are_tested_exactly():
    found = compare(*correct_examples(90, 1, 8, 1))
    assert found.p_value == pytest.approx(2 * (1 + 9) / 2**9)


@pytest.mark.parametrize("discordant", [0, 10, 20])
def test_networks_of_equal_accuracy_do_not_differ(discordant):
    assert compare(*correct_examples(100, discordant, discordant, 5)).p_value == 1


def test_the_interval_is_not_empty_without_disagreements():
    # 1.96 times √(1 / 52) / √52: half an example more in each count of 50 examples.
    interval = compare(*correct_examples(50, 0, 0, 0)).interval
    assert interval == pytest.approx((-1.95996 / 52, 1.95996 / 52), rel=1e-5)


def test_chance_is_rarely_significant_and_the_interval_usually_contains_the_difference():
    rng = np.random.default_rng(0)
    found = [compare(*rng.random((2, 500)) < 0.9) for _ in range(1000)]
    assert np.mean([each.p_value < 0.05 for each in found]) < 0.06
    contains = [each.interval[0] <= 0 <= each.interval[1] for each in found]
    assert 0.93 < np.mean(contains) < 0.98


@pytest.mark.parametrize("seed", range(20))
def test_swapping_the_networks_changes_only_the_sign(seed):
    counts = np.random.default_rng(seed).integers(0, 60, 4)
    first, second = correct_examples(*counts)
    found, swapped = compare(first, second), compare(second, first)
    assert swapped.p_value == pytest.approx(found.p_value)
    assert swapped.difference == -found.difference
    assert swapped.interval[0] == pytest.approx(-found.interval[1])
    assert -1 <= found.interval[0] <= found.interval[1] <= 1
    assert 0 <= found.p_value <= 1


def draw_answers(seed=0, examples=4000, classes=5, sharpness=1.0):
    """Labels drawn from calibrated logits, and ``sharpness`` times these logits."""
    rng = np.random.default_rng(seed)
    calibrated = 2 * rng.normal(size=(examples, classes))
    labels = (calibrated + rng.gumbel(size=calibrated.shape)).argmax(axis=1)
    return sharpness * calibrated, labels


def test_a_bin_has_the_examples_of_its_confidence_and_their_accuracy():
    logits = np.log([[0.9, 0.1], [0.86, 0.14], [0.3, 0.7], [0.45, 0.55]])
    found = calibrate(logits, np.array([0, 1, 1, 1]), bins=10)
    assert found.counts.tolist() == [0, 0, 0, 0, 0, 1, 1, 0, 2, 0]
    np.testing.assert_allclose(found.confidence[[5, 6, 8]], [0.55, 0.7, 0.88])
    np.testing.assert_allclose(found.accuracy[[5, 6, 8]], [1, 1, 0.5])
    assert np.isnan(found.accuracy[[0, 1, 2, 3, 4, 7, 9]]).all()
    assert found.error == pytest.approx((0.45 + 0.3 + 2 * 0.38) / 4)


def test_the_confidence_in_two_classes_is_at_least_one_half():
    assert not calibrate(*draw_answers(classes=2)).counts[:7].any()


def test_a_calibrated_network_has_hardly_any_calibration_error():
    assert calibrate(*draw_answers()).error < 0.02
    assert calibrate(*draw_answers(sharpness=3)).error > 0.1


@pytest.mark.parametrize("examples", [1, 2, 13, 40])
@pytest.mark.parametrize("classes", [2, 6])
def test_every_example_is_in_one_bin_and_the_order_does_not_matter(examples, classes):
    logits, labels = draw_answers(examples, examples, classes)
    found = calibrate(logits, labels)
    assert found.counts.sum() == examples
    assert 0 <= found.error <= 1
    order = np.random.default_rng(0).permutation(examples)
    assert calibrate(logits[order], labels[order]).error == pytest.approx(found.error)


def test_the_loss_is_the_cross_entropy():
    logits, labels = draw_answers(examples=50)
    expected = log_loss(labels, softmax(logits / 1.7, axis=1))
    assert calibrate(logits, labels, 1.7).loss == pytest.approx(expected)


@pytest.mark.parametrize("sharpness", [0.2, 1, 5])
def test_the_temperature_undoes_the_scaling_of_the_logits(sharpness):
    assert fit_temperature(*draw_answers(sharpness=sharpness)) == pytest.approx(sharpness, rel=0.08)


@pytest.mark.parametrize("factor", [0.5, 0.9, 0.99, 1.01, 1.1, 2])
def test_no_other_temperature_has_a_lower_loss(factor):
    logits, labels = draw_answers(3, examples=200, sharpness=4)
    best = fit_temperature(logits, labels)
    other = calibrate(logits, labels, factor * best).loss
    assert calibrate(logits, labels, best).loss <= other + 1e-9


def test_a_temperature_lowers_the_error_on_other_examples_and_changes_no_answer():
    overconfident = draw_answers(1, sharpness=4)
    before = calibrate(*overconfident)
    after = calibrate(*overconfident, fit_temperature(*draw_answers(2, sharpness=4)))
    assert after.error < before.error / 4
    assert after.loss < before.loss
    correct = [np.nansum(each.accuracy * each.counts) for each in (before, after)]
    assert correct[0] == pytest.approx(correct[1])


def test_without_errors_or_without_skill_there_is_no_best_temperature():
    logits, _ = draw_answers(examples=100)
    for labels in (logits.argmax(axis=1), logits.argmin(axis=1)):
        with pytest.raises(InputError, match="no temperature is the best one"):
            fit_temperature(logits, labels)


def test_huge_float32_logits_have_a_finite_loss():
    logits = np.array([[1e4, 0], [0, 1e4]], np.float32)
    assert calibrate(logits, np.array([0, 0])).loss == pytest.approx(5e3)


class SlowNetwork:
    """A network with the given duration per call, on a clock of its own. The first call compiles."""

    def __init__(self, seconds, monkeypatch):
        self.now, self.seconds, self.shapes = 0.0, seconds, []
        monkeypatch.setattr(evaluate.time, "perf_counter", lambda: self.now)

    def __call__(self, images):
        self.now += self.seconds(len(self.shapes)) if self.shapes else 100
        self.shapes.append(images.shape)
        return np.zeros((len(images), 10))


def test_latency_is_the_median_without_compilation(monkeypatch):
    # Every tenth call is slow.
    network = SlowNetwork(lambda call: 0.05 if call % 10 else 0.5, monkeypatch)
    found = measure_latency(network, (4, 6, 3), batch_size=8)
    assert found["milliseconds"] == pytest.approx(50)
    assert 50 < found["slow_milliseconds"] <= 500
    assert found["images_per_second"] == pytest.approx(8 / 0.05)
    assert set(network.shapes) == {(8, 4, 6, 3)}


@pytest.mark.parametrize(
    ("seconds", "calls"), [(20, evaluate.MIN_CALLS), (0.1, 10), (1e-5, evaluate.MAX_CALLS)]
)
def test_latency_is_measured_for_a_second_within_limits(monkeypatch, seconds, calls):
    network = SlowNetwork(lambda _: seconds, monkeypatch)
    measure_latency(network, (2, 2, 1), batch_size=1)
    assert abs(len(network.shapes) - 2 - calls) <= 1


def noise(count, shape=(28, 28, 1)):
    return np.random.default_rng(count).integers(0, 256, (count, *shape), np.uint8)


@pytest.mark.parametrize("count", [1, BATCH_SIZE, 2 * BATCH_SIZE + 1])
def test_logits_are_those_of_the_network_for_any_number_of_images(trained, count):
    images = noise(count)
    logits = make_forward(trained)(images)
    assert logits.shape == (count, 10)
    np.testing.assert_allclose(softmax(logits, axis=1), trained.predict(images), atol=1e-5)


@pytest.mark.parametrize("tracks", [False, True])
@pytest.mark.parametrize(
    ("hold_out", "fraction", "scale"),
    [("groups", 0.1, 1.0), ("examples", 0.4, 0.5), ("groups", 0.0, 0.999), ("groups", 0.4, 0.5)],
)
def test_a_run_is_split_as_in_its_training(
    monkeypatch, trained_run, tracks, hold_out, fraction, scale
):
    config = ResolvedConfig().replace(
        hold_out=hold_out, validation_fraction=fraction, scale=scale, seed=3
    )
    labels = np.repeat(np.arange(3), 40).astype(np.int32)
    groups = np.arange(120, dtype=np.int32) // 10 if tracks else None
    whole = Split(np.arange(120, dtype=np.uint8).reshape(120, 1, 1, 1), labels, groups)
    names, read = tuple("012"), lambda _: whole
    dataset = Dataset("x", "full", names, (1, 1, 1), 120, 0, read=read, open=read)
    monkeypatch.setattr(run_module, "load_dataset", lambda *_, **__: dataset)
    expected = run_module.hold_out(whole, config)
    for part, same in zip(training_parts(config, trained_run), expected, strict=True):
        np.testing.assert_array_equal(part.images, same.images)
        np.testing.assert_array_equal(part.labels, same.labels)


def test_a_run_that_selected_its_epoch_on_the_test_set_has_no_hold_out_set(trained, trained_run):
    config = trained.config.replace(hold_out="test", validation_fraction=0.0)
    train, held_out = training_parts(config, trained_run)
    assert (len(train.labels), len(held_out.labels)) == (4000, 0)


def test_the_sample_is_divided_as_in_the_result(trained, trained_run):
    train, held_out = training_parts(trained.config, trained_run)
    counts = trained.result["train_examples"], trained.result["validation_examples"]
    assert (len(train.labels), len(held_out.labels)) == counts
    assert count_seen(held_out.read_images(np.arange(len(held_out.labels))), train) == 0


def test_images_used_in_training_are_counted():
    known, others = noise(1200, (4, 4, 1)), noise(7, (4, 4, 1))
    train = StoredSplit(np.zeros(1200, np.int32), None, lambda rows: known[rows])
    asked = np.concatenate([others, known[[0, 1199]], known[[3]], known[[3]]])
    assert count_seen(asked, train) == 4


@pytest.fixture
def altered(trained_run, tmp_path, monkeypatch):
    """A function that copies the run and changes its config, as if it had always been so."""
    identity = run_dirs.identity(trained_run)
    monkeypatch.setattr(run_dirs, "identity", lambda _: identity)

    def alter(**changes):
        copy = shutil.copytree(trained_run, tmp_path / "altered")
        (copy / "SHA256SUMS").unlink()
        config = read_json(copy / "config.json", {})
        write_json(copy / "config.json", config | changes)
        return copy

    return alter


def made_up(shape=(28, 28, 1), class_names=DIGITS):
    split = Split(noise(20, shape), np.arange(20, dtype=np.int32) % len(class_names))
    return Dataset(
        "tfds:made_up",
        "full",
        class_names,
        shape,
        20,
        20,
        read=lambda _: split,
        open=lambda _: split,
    )


def test_by_default_a_run_is_evaluated_on_its_own_test_set(trained_run, evaluation):
    (subject,), test = read_subjects((trained_run,), {})
    np.testing.assert_array_equal(test.images, evaluation["images"])
    np.testing.assert_array_equal(subject.logits.argmax(1), evaluation["probabilities"].argmax(1))
    assert test.title() == "mnist (sample)"
    assert (subject.name, subject.seen, subject.warnings) == ("cnn", 0, [])
    assert 0.3 < subject.temperature < 3


def test_another_data_set_with_the_same_classes_may_be_given(trained_run, monkeypatch):
    own = run_module.load_dataset
    monkeypatch.setattr(
        run_module,
        "load_dataset",
        lambda name, **how: made_up() if name == "tfds:made_up" else own(name, **how),
    )
    (subject,), test = read_subjects((trained_run,), {"dataset": "tfds:made_up"})
    assert test.title() == "tfds:made_up (full)"
    np.testing.assert_array_equal(test.images, made_up().read("test").images)
    assert subject.logits.shape == (20, 10)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (
            made_up(shape=(32, 32, 3)),
            r"tfds:made_up \(full\) has images of shape \(32, 32, 3\); .* expects \(28, 28, 1\); give",
        ),
        (
            made_up(class_names=tuple("01")),
            r"the number of classes of tfds:made_up \(full\) is 2; .* expects 10",
        ),
        (
            made_up(class_names=(*DIGITS[:9], "shirt")),
            r"class 9 of tfds:made_up \(full\) is 'shirt'; .* expects '9'",
        ),
    ],
)
def test_a_data_set_that_does_not_fit_is_an_error(trained_run, monkeypatch, dataset, message):
    monkeypatch.setattr(run_module, "load_dataset", lambda *_, **__: dataset)
    with pytest.raises(InputError, match=message):
        read_subjects((trained_run,), {"dataset": "tfds:made_up"})


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"data": "all"}, "unknown data 'all'"),
        ({"crop": "roi"}, "--crop is roi, but mnist has no annotated regions"),
        ({"dataset": "24x24-L", "data": "sample"}, "24x24-L has no sample"),
    ],
)
def test_a_data_set_that_does_not_exist_is_an_error(trained_run, asked, message):
    with pytest.raises(InputError, match=message):
        read_subjects((trained_run,), asked)


def test_runs_are_not_compared_if_one_was_trained_on_test_examples(trained_run, altered):
    # With another seed, most of the test digits of one sample are training digits of the other.
    with pytest.raises(InputError, match=r"altered was trained on [67]\d\d of the 1,000 test ex"):
        read_subjects((trained_run, altered(seed=1)), {})


def test_runs_with_other_classes_are_not_compared(trained_run, altered):
    other = altered()
    model = json.loads((other / "model.json").read_text())
    (other / "model.json").write_text(json.dumps(model | {"class_names": list("012345678X")}))
    message = r"class 9 of mnist \(sample\) is '9'; the network of .* expects 'X'"
    with pytest.raises(InputError, match=message):
        read_subjects((trained_run, other), {})


def test_an_epoch_selected_on_the_test_set_is_noticed(altered):
    (subject,), _ = read_subjects((altered(hold_out="test", validation_fraction=0.0),), {})
    expected = "The epoch was selected on this test set, so the accuracy of cnn is too optimistic."
    assert subject.warnings == [expected]
    assert subject.temperature == "the run has no hold-out set"


def test_training_images_in_the_test_set_are_noticed(trained_run, monkeypatch):
    monkeypatch.setattr(evaluate, "_identity", lambda config: object())  # never the same
    monkeypatch.setattr(evaluate, "count_seen", lambda images, train: 150)
    (subject,), _ = read_subjects((trained_run,), {})
    expected = "150 of these examples are training data, so the accuracy of cnn is too optimistic."
    assert subject.warnings == [expected]


def test_without_its_training_data_a_run_is_still_evaluated(trained_run, monkeypatch):
    def fail(config, run_dir):
        raise InputError("the disk is gone")

    monkeypatch.setattr(evaluate, "training_parts", fail)
    (subject,), test = read_subjects((trained_run,), {})
    assert len(subject.logits) == len(test.labels) == 1000
    assert "the disk is gone" in subject.temperature


def save_digits(folder, evaluation, rows):
    """Save test images of the run in class folders."""
    for row in rows:
        label = folder / str(evaluation["labels"][row])
        label.mkdir(parents=True, exist_ok=True)
        Image.fromarray(evaluation["images"][row, ..., 0]).save(label / f"{row}.png")


def test_own_images_of_some_classes_have_the_logits_of_the_test(trained_run, evaluation, tmp_path):
    rows = np.concatenate([np.flatnonzero(evaluation["labels"] == label)[:9] for label in (3, 8)])
    save_digits(tmp_path, evaluation, rows)
    (subject,), test = read_subjects((trained_run,), {"dataset": str(tmp_path)})
    assert set(test.labels) == {3, 8}
    np.testing.assert_array_equal(test.images, evaluation["images"][rows])
    found = softmax(subject.logits, axis=1)
    np.testing.assert_allclose(found, evaluation["probabilities"][rows], atol=1e-5)
    assert subject.seen == 0


def test_of_own_images_only_the_test_split_is_used(trained_run, evaluation, tmp_path):
    save_digits(tmp_path / "train", evaluation, range(0, 1000, 90))
    save_digits(tmp_path / "test", evaluation, range(50, 1000, 200))
    _, test = read_subjects((trained_run,), {"dataset": str(tmp_path)})
    assert sorted(test.labels) == sorted(evaluation["labels"][50::200])


def test_own_images_of_an_unknown_class_are_an_error(trained_run, evaluation, tmp_path):
    save_digits(tmp_path, evaluation, range(4))
    (tmp_path / "cat").mkdir()
    Image.new("L", (28, 28)).save(tmp_path / "cat" / "1.png")
    with pytest.raises(InputError, match="has the class 'cat', which the network does not know"):
        read_subjects((trained_run,), {"dataset": str(tmp_path)})
    with pytest.raises(InputError, match="--data is not supported for your own images"):
        read_subjects((trained_run,), {"dataset": str(tmp_path), "data": "full"})


def test_if_own_images_changed_the_stored_test_images_are_used(altered, evaluation, monkeypatch):
    run_dir = altered(own_images={"digest": "of the training"})
    changed = dataclasses.replace(made_up(), facts={"digest": "of today"})
    monkeypatch.setattr(run_module, "load_dataset", lambda *_, **__: changed)
    (subject,), test = read_subjects((run_dir,), {})
    np.testing.assert_array_equal(test.images, evaluation["images"])
    assert "have changed since the run started" in subject.temperature
