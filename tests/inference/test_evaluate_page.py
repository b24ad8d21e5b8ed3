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

CLASSES = tuple("012")
LABELS = np.arange(200) % 3
DIGITS = tuple("0123456789")
SIGNS = ("end of the limit of 80 km/h", "no overtaking by trucks", "stop")


def logits_of(answers):
    return 4.0 * np.eye(3)[answers]


def classify_brightness(images):
    return logits_of(np.clip(images.mean(axis=(1, 2, 3)) // 80, 0, 2).astype(int))


IMAGES = (80 * LABELS[:, None, None, None] + 40 + np.zeros((1, 8, 8, 1))).astype(np.uint8)
TEST = ExampleSet("mnist", "sample", "full", 0, IMAGES, LABELS, CLASSES)


def subject(name="cnn", wrong=(), **changes):
    """A network whose answers are wrong for the given examples."""
    answers = LABELS.copy()
    answers[list(wrong)] = (answers[list(wrong)] + 1) % 3
    trained = SimpleNamespace(
        class_names=CLASSES, image_shape=(8, 8, 1), predict=classify_brightness
    )
    held_out = (logits_of(np.array([0, 1, 2, 0, 1, 2])), np.array([0, 1, 2, 0, 1, 1]))
    logits = logits_of(answers)
    made = Subject(name, Path("x"), trained, classify_brightness, logits, held_out, False, 0)
    return made._replace(**changes)


def rows_of(part):
    return next(each for each in part.section.shown if isinstance(each, Table)).rows


def pictures_of(part):
    return [each.name for each in part.section.shown if not isinstance(each, Table)]


def test_accuracy_has_its_count_and_interval():
    part = page.accuracy([subject(wrong=range(10))], TEST)
    assert rows_of(part)[0][:4] == ["cnn", "190 of 200", "95.00 %", "91.04 % to 97.26 %"]
    assert part.facts == {"accuracy": "95.00 %"}
    assert not part.notes


def test_optimistic_accuracies_have_a_note():
    part = page.accuracy([subject(seen=150, chosen_on_test=True)], TEST)
    assert part.notes[0].startswith(
        "150 of these examples are training data, so the accuracy of cnn"
    )
    assert part.notes[1].startswith(
        "The epoch was selected on this test set, so the accuracy of cnn"
    )
    assert all(note in part.section.text for note in part.notes)


def test_a_comparison_shows_the_examples_that_only_one_network_classifies_correctly():
    both = [subject("A (cnn)", wrong=range(3)), subject("B (dnn)", wrong=range(2, 60))]
    part = page.comparison(both, TEST)
    assert rows_of(part) == [["A (cnn) correct", "140", "57"], ["A (cnn) wrong", "2", "1"]]
    assert pictures_of(part) == ["only_first", "only_second"]
    assert "The difference is significant: p < 0.0001" in part.notes[0]
    assert "is −27.50 percentage points" in part.section.text


def test_networks_with_equal_answers_have_no_such_examples():
    part = page.comparison([subject("A (cnn)", wrong=[5]), subject("B (cnn)", wrong=[5])], TEST)
    assert pictures_of(part) == []
    assert "is not significant: p = 1 (McNemar's exact test)" in part.notes[0]


def test_calibration_is_reported_before_and_after_temperature_scaling():
    part = page.calibration([subject(wrong=range(20))], TEST)
    first, second = rows_of(part)
    assert (first[1], first[2], second[1]) == ("as trained", "1.000", "temperature scaled")
    # Five of six hold-out examples are correct: a probability of 5/6 if exp(4/T) : 2 is 5 : 1.
    assert float(second[2]) == pytest.approx(4 / np.log(10), abs=2e-3)
    note = "The temperature of cnn was fitted on the hold-out set: 5 of 6 hold-out examples are correct."
    assert part.notes == [note]
    json.dumps(part.numbers, allow_nan=False)


@pytest.mark.parametrize(
    ("validation", "note"),
    [
        ("it has none", "No temperature was fitted for cnn: it has none."),
        (
            (logits_of(LABELS), LABELS),
            "No temperature is the best one for cnn: 200 of 200 hold-out examples are correct.",
        ),
    ],
)
def test_without_a_temperature_there_is_one_row_and_a_note(validation, note):
    part = page.calibration([subject(validation=validation)], TEST)
    assert part.notes == [note]
    assert [row[1] for row in rows_of(part)] == ["as trained"]


def test_robustness_is_the_accuracy_for_each_corruption():
    part = page.robustness([subject()], TEST, limit=50, seed=0)
    assert part.numbers["examples"] == 50
    found = part.numbers["corruptions"]
    # Only noise changes an image of a single grey, and it hardly changes its mean.
    for name in ("shift", "rotation", "blur", "contrast"):
        assert found[name]["accuracy"]["cnn"] == [1, 1, 1, 1, 1]
    assert found["noise"]["accuracy"]["cnn"][0] == 1
    assert [row[0] for row in rows_of(part)] == list(found)
    mean = 100 * part.numbers["mean_accuracy"]["cnn"]
    assert part.facts["accuracy, corrupted"] == f"{mean:.2f} %"


def test_speed_has_a_row_for_each_batch_size():
    part = page.speed([subject()])
    assert [row[:2] for row in rows_of(part)] == [["cnn", size] for size in ("1", "8", "64", "512")]
    assert [each["batch_size"] for each in part.numbers["cnn"]] == [1, 8, 64, 512]


@pytest.mark.parametrize(("examples", "limit", "rows"), [(3, 5, [0, 1, 2]), (9, 3, [0, 4, 8])])
def test_chosen_examples_are_evenly_spaced(examples, limit, rows):
    assert page.evenly_spaced(examples, limit).tolist() == rows


def calibration_of(counts=(0, 0, 3, 0, 200), accuracy=(np.nan, np.nan, 1 / 3, np.nan, 0.95)):
    confidence = np.where(counts, (np.arange(5) + 0.5) / 5, np.nan)
    return Calibration(1.0, np.array(counts), confidence, np.array(accuracy), 0.01, 0.1, 0.0)


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
    assert upper.get_title() == "as trained"
    (points,) = upper.containers
    np.testing.assert_allclose(points.lines[0].get_xydata(), [(0.5, 1 / 3), (0.9, 0.95)])
    (steps,) = lower.patches
    assert steps.get_data().values.tolist() == [0, 0, 3, 0, 200]


@pytest.mark.parametrize("panels", [1, 2, 3, 4])
def test_each_network_has_a_panel_before_and_after_scaling(panels):
    titles = [f"A (cnn), state {k}\nECE 1.00 %" for k in range(panels)]
    figure = page.draw_reliability({title: calibration_of() for title in titles})
    assert len(figure.axes) == 2 * panels
    assert_nothing_is_cut_off(figure)


@pytest.mark.parametrize("names", [["A (cnn)"], ["A (cnn)", "B (dnn)"]])
def test_accuracy_is_drawn_by_strength_for_each_network(names):
    correct = np.array([95, 90, 80, 50, 30, 20])[:, None] - 10 * np.arange(len(names))
    figure = page.draw_robustness(np.stack([correct] * 5), 100, names, chance=0.1)
    axes = figure.axes[0]
    assert axes.get_title() == "shift"
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert ticks == ["–", "4%", "8%", "12%", "16%", "19%"]
    drawn = [bars.lines[0].get_ydata() for bars in axes.containers]
    np.testing.assert_allclose(drawn, correct.T)
    assert [10, 10] in [list(line.get_ydata()) for line in axes.lines]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(legend) == sorted([*names, "chance"])
    assert_nothing_is_cut_off(figure)


@pytest.mark.parametrize("names", [DIGITS, SIGNS])
def test_corrupted_images_have_strength_and_answer_and_wrong_ones_a_frame(names):
    pictures = np.arange(30, dtype=np.uint8).reshape(5, 6, 1, 1, 1) + np.zeros((8, 8, 1), np.uint8)
    answers = np.full((5, 6), 2)
    answers[0, 2] = 0
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
