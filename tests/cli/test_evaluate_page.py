"""What the page of an evaluation says of given answers."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))

from _evaluate_calibration import calibrations
from _evaluate_page import accuracy, comparison, evenly, speed
from _evaluate_robustness import robustness
from _evaluate_subjects import ExampleSet, Subject

from fidle_jax.report.lesson import Table

CLASSES = tuple("012")
LABELS = np.arange(200) % 3


def logits_of(answers, sharpness=4.0):
    return sharpness * np.eye(3)[answers]


def answers(wrong):
    """The labels, but others for those rows."""
    said = LABELS.copy()
    said[wrong] = (said[wrong] + 1) % 3
    return said


def brightness_is_the_class(images):
    return logits_of(np.clip(images.mean(axis=(1, 2, 3)) // 80, 0, 2).astype(int))


TEST = ExampleSet(
    "mnist",
    "sample",
    "full",
    0,
    (80 * LABELS[:, None, None, None] + 40 + np.zeros((1, 8, 8, 1))).astype(np.uint8),
    LABELS,
    CLASSES,
)


def subject(name="cnn", wrong=(), **changes):
    logits = logits_of(answers(list(wrong)))
    trained = SimpleNamespace(
        class_names=CLASSES, image_shape=(8, 8, 1), predict=brightness_is_the_class
    )
    held_out = (logits_of(np.array([0, 1, 2, 0, 1, 2])), np.array([0, 1, 2, 0, 1, 1]))
    made = Subject(
        name, Path("runs/x"), trained, brightness_is_the_class, logits, held_out, False, 0
    )
    return made._replace(**changes)


def rows_of(part):
    return next(each for each in part.section.shown if isinstance(each, Table)).rows


def names_of(part):
    return [each.name for each in part.section.shown if not isinstance(each, Table)]


def test_accuracy_has_its_count_and_interval():
    part = accuracy([subject(wrong=range(10))], TEST)
    assert rows_of(part)[0][:4] == ["cnn", "190 of 200", "95.00 %", "91.04 % to 97.26 %"]
    assert part.facts == {"accuracy": "95.00 %"}
    assert not part.notes


def test_what_flatters_a_network_is_said():
    part = accuracy([subject(seen=150, chosen_on_test=True)], TEST)
    assert part.notes[0].startswith("cnn was trained on 150 of these 200 examples")
    assert part.notes[1].startswith("The epoch of cnn was chosen on this very test set")
    assert all(note in part.section.text for note in part.notes)


def test_two_networks_have_the_examples_that_one_alone_has_right():
    both = [subject("A (cnn)", wrong=range(3)), subject("B (dnn)", wrong=range(2, 60))]
    part = comparison(both, TEST)
    assert rows_of(part) == [["A (cnn) right", "140", "57"], ["A (cnn) wrong", "2", "1"]]
    assert names_of(part) == ["only_first", "only_second"]
    assert "chance alone would seldom make: p < 0.0001" in part.notes[0]
    assert "is −27.50 points" in part.section.text


def test_networks_that_answer_alike_have_no_such_examples():
    part = comparison([subject("A (cnn)", wrong=[5]), subject("B (cnn)", wrong=[5])], TEST)
    assert names_of(part) == []
    assert "chance alone may well make: p = 1 (McNemar's test, exact)" in part.notes[0]


def test_calibration_is_told_before_and_after_a_temperature_from_what_was_held_out():
    part = calibrations([subject(wrong=range(20))], TEST)
    first, second = rows_of(part)
    assert (first[1], first[2], second[1]) == ("as trained", "1.000", "temperature scaled")
    # Five of the six held out are right, and their answer gets 5/6 where exp(4/T) : 2 is as 5 : 1.
    assert float(second[2]) == pytest.approx(4 / np.log(10), abs=2e-3)
    assert part.notes == [
        "The temperature of cnn is fitted where 5 of the 6 examples that the run held out are right."
    ]
    json.dumps(part.numbers, allow_nan=False)


@pytest.mark.parametrize(
    ("validation", "note"),
    [
        ("it held nothing out", "The temperature of cnn is left out: it held nothing out."),
        (
            (logits_of(LABELS), LABELS),
            "No temperature suits cnn best: 200 of the 200 examples that the run held out are right.",
        ),
    ],
)
def test_a_temperature_that_cannot_be_fitted_is_left_out(validation, note):
    part = calibrations([subject(validation=validation)], TEST)
    assert part.notes == [note]
    assert [row[1] for row in rows_of(part)] == ["as trained"]


def test_robustness_is_that_of_the_network_on_each_corruption():
    part = robustness([subject()], TEST, most=50, seed=0)
    assert part.numbers["examples"] == 50
    found = part.numbers["corruptions"]
    # Images of one grey are what they were, but for noise, whose mean is nearly 0.
    for name in ("shift", "rotation", "blur", "contrast"):
        assert found[name]["accuracy"]["cnn"] == [1, 1, 1, 1, 1]
    assert found["noise"]["accuracy"]["cnn"][0] == 1
    assert [row[0] for row in rows_of(part)] == list(found)
    assert (
        part.facts["accuracy, corrupted"] == f"{100 * part.numbers['mean_accuracy']['cnn']:.2f} %"
    )


def test_speed_has_a_row_for_each_size_of_batch():
    part = speed([subject()])
    assert [row[:2] for row in rows_of(part)] == [["cnn", size] for size in ("1", "8", "64", "512")]
    assert [each["batch_size"] for each in part.numbers["cnn"]] == [1, 8, 64, 512]


@pytest.mark.parametrize(("examples", "most", "rows"), [(3, 5, [0, 1, 2]), (9, 3, [0, 4, 8])])
def test_some_of_many_are_evenly_spaced(examples, most, rows):
    assert evenly(examples, most).tolist() == rows
