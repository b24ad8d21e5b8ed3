"""Tables, notes and figures of an evaluation with known answers."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.colors import to_hex

from fidle_jax.inference import evaluate_page as page
from fidle_jax.inference.corruptions import CORRUPTIONS
from fidle_jax.inference.evaluate import Calibration, ExampleSet, Subject
from fidle_jax.report.lesson import Table
from fidle_jax.report.style import VERMILLION
from fidle_jax.train.config import Config

CLASSES = tuple("012")
LABELS = np.arange(200) % 3
DIGITS = tuple("0123456789")
SIGNS = ("end of the limit of 80 km/h", "no overtaking by trucks", "stop")


def logits_of(answers):
    return 4.0 * np.eye(3)[answers]


def classify_brightness(images):
    return logits_of(np.clip(images.mean(axis=(1, 2, 3)) // 80, 0, 2).astype(int))


IMAGES = (80 * LABELS[:, None, None, None] + 40 + np.zeros((1, 8, 8, 1))).astype(np.uint8)
TEST = ExampleSet(Config(), IMAGES, LABELS, CLASSES)


def subject(name="cnn", wrong=(), **changes):
    """A network whose answers are wrong for the given examples."""
    answers = LABELS.copy()
    answers[list(wrong)] = (answers[list(wrong)] + 1) % 3
    trained = SimpleNamespace(
        class_names=CLASSES, image_shape=(8, 8, 1), predict=classify_brightness
    )
    logits = logits_of(answers)
    made = Subject(name, Path("x"), trained, classify_brightness, logits, 1.7, 0, [])
    return made._replace(**changes)


def rows_of(part):
    return next(each for each in part.shown if isinstance(each, Table)).rows


def pictures_of(part):
    return [each.name for each in part.shown if not isinstance(each, Table)]


def test_accuracy_has_its_count_interval_and_warnings():
    part = page.accuracy([subject(wrong=range(10), warnings=["Too optimistic."])], TEST)
    assert rows_of(part) == [["cnn", "190 of 200", "95.00 %", "91.04 % to 97.26 %"]]
    assert part.notes == ["Too optimistic."]


@pytest.mark.parametrize(
    ("networks", "corrupted", "latency", "names"),
    [
        (1, 0, False, ["accuracy", "calibration"]),
        (2, 0, True, ["accuracy", "comparison", "calibration", "speed"]),
    ],
)
def test_sections_have_texts_and_notes_and_may_be_skipped(networks, corrupted, latency, names):
    subjects = [subject(name, warnings=["Too optimistic."]) for name in "AB"[:networks]]
    parts = list(page.make_parts(subjects, TEST, corrupted, seed=0, latency=latency))
    assert [name for name, _, _ in parts] == names
    assert parts[0][1].title == "Accuracy"
    assert parts[0][1].text.endswith("Wilson's.\n\n" + "\n\n".join(networks * ["Too optimistic."]))
    json.dumps([part.records for _, _, part in parts], allow_nan=False)


def test_a_comparison_shows_the_examples_that_only_one_network_classifies_correctly():
    both = [subject("A (cnn)", wrong=range(3)), subject("B (dnn)", wrong=range(2, 60))]
    part = page.comparison(both, TEST)
    assert rows_of(part) == [["A (cnn) correct", "140", "57"], ["A (cnn) wrong", "2", "1"]]
    assert pictures_of(part) == ["only_first", "only_second"]
    assert "The difference is significant: p < 0.0001" in part.notes[0]
    assert "is −27.50 percentage points" in part.notes[1]


def test_networks_with_equal_answers_have_no_such_examples():
    part = page.comparison([subject("A (cnn)", wrong=[5]), subject("B (cnn)", wrong=[5])], TEST)
    assert pictures_of(part) == []
    assert "is not significant: p = 1 (McNemar's exact test)" in part.notes[0]


def test_calibration_is_reported_before_and_after_temperature_scaling():
    part = page.calibration([subject(wrong=range(20))], TEST)
    first, second = rows_of(part)
    assert first[:3] == ["cnn", "as trained", "1.00"]
    assert second[:3] == ["cnn", "temperature scaled", "1.70"]
    assert part.notes == []


def test_without_a_temperature_there_is_one_row():
    part = page.calibration([subject(temperature="it has none")], TEST)
    assert part.notes == ["No temperature was fitted for cnn: it has none."]
    assert [row[1] for row in rows_of(part)] == ["as trained"]


def test_robustness_is_the_accuracy_for_each_corruption():
    part = page.robustness([subject("A"), subject("B", wrong=range(200))], TEST, limit=50, seed=0)
    assert all(each["examples"] == 50 for each in part.records)
    assert [each["network"] for each in part.records] == 5 * ["A", "B"]
    found = {each["corruption"]: each["accuracy"] for each in part.records[::2]}
    # Only noise changes an image of a single grey, and it hardly changes its mean.
    for name in ("shift", "rotation", "blur", "contrast"):
        assert found[name] == [1, 1, 1, 1, 1, 1]
    assert found["noise"][:2] == [1, 1]
    assert [each["accuracy"][0] for each in part.records] == 5 * [1, 0]  # as in the logits
    assert rows_of(part)[0] == ["A", "shift", "4 %, 8 %, 12 %, 16 %, 19 %", *6 * ["100.0 %"]]
    mean = 100 * np.mean([each[1:] for each in found.values()])
    assert part.notes[0] == f"The mean accuracy of A on corrupted images is {mean:.2f} %."


def test_speed_has_a_row_for_each_batch_size():
    part = page.speed([subject()])
    assert [row[:2] for row in rows_of(part)] == [["cnn", size] for size in ("1", "8", "64", "512")]
    assert [each["batch_size"] for each in part.records] == [1, 8, 64, 512]


def calibration_of(counts=(0, 0, 3, 0, 200), accuracy=(np.nan, np.nan, 1 / 3, np.nan, 0.95)):
    confidence = np.where(counts, (np.arange(5) + 0.5) / 5, np.nan)
    return Calibration(np.array(counts), confidence, np.array(accuracy), 0.01, 0.1)


def assert_nothing_is_cut_off(figure):
    figure.draw_without_rendering()
    for axes in figure.axes:
        words = [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        for text in filter(lambda each: each.get_text() and each.get_visible(), words):
            box = text.get_window_extent()
            assert box.x0 >= -1, text
            assert box.x1 <= figure.bbox.width + 1, text
            assert box.y0 >= -1, text
            assert box.y1 <= figure.bbox.height + 1, text


def test_accuracy_is_drawn_at_the_confidence_of_its_bin_and_empty_bins_have_none():
    upper, lower = page.draw_reliability({"as trained": calibration_of()}).axes
    assert upper.get_title() == "as trained\nECE 1.00 %"
    (points,) = upper.containers
    np.testing.assert_allclose(points.lines[0].get_xydata(), [(0.5, 1 / 3), (0.9, 0.95)])
    (steps,) = lower.patches
    assert steps.get_data().values.tolist() == [0, 0, 3, 0, 200]


@pytest.mark.parametrize("panels", [1, 2, 3, 4])
def test_each_network_has_a_panel_before_and_after_scaling(panels):
    titles = [f"A (cnn), state {k}" for k in range(panels)]
    figure = page.draw_reliability({title: calibration_of() for title in titles})
    assert len(figure.axes) == 2 * panels
    assert_nothing_is_cut_off(figure)


@pytest.mark.parametrize("names", [DIGITS, SIGNS])
def test_corrupted_images_have_strength_and_answer_and_wrong_ones_a_frame(names):
    pictures = np.arange(30, dtype=np.uint8).reshape(30, 1, 1, 1) + np.zeros((8, 8, 1), np.uint8)
    answers = 30 * [2]
    answers[2] = 0
    figure = page.draw_corruptions(pictures, answers, 2, names)
    (axes,) = figure.axes
    assert [int(image.get_array()[0, 0]) for image in axes.get_images()] == list(range(30))
    texts = [text.get_text() for text in axes.texts]
    assert [text.split("\n")[0] for text in texts[1::6]] == [
        f"{name} {each.texts()[0]}" for name, each in CORRUPTIONS.items()
    ]
    assert texts[2].startswith("shift 8%\n")
    assert names[0][-3:] in texts[2]
    frames = [each for each in axes.patches if to_hex(each.get_edgecolor()).upper() == VERMILLION]
    assert len(frames) == 1
    assert_nothing_is_cut_off(figure)
