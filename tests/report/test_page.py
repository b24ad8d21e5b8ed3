import base64
import dataclasses

import pytest

from fidle_jax.report.html import Picture
from fidle_jax.report.page import render
from fidle_jax.report.scores import ClassScore, GroupScore
from fidle_jax.train.run_dir import read_run

SCORES = [ClassScore("a", 1.0, 0.5, 2 / 3, 1234), ClassScore("b", 0.9, 0.9, 0.9, 10)]
PICTURES = [
    Picture("training_curves", "Training curves", "What to see", b"\x89PNG"),
    Picture("kernels", "Learned kernels", "No convolution.", None),
]


@pytest.fixture
def run(make_run):
    return read_run(make_run())


def with_result(run, **changes):
    return dataclasses.replace(run, result=run.result | changes)


def test_the_page_says_the_result_in_words(run):
    page = render(run, SCORES, PICTURES)
    assert "87.50\N{NO-BREAK SPACE}% of 40 test images right" in page
    assert "5 of the test images were taken for another class" in page


def test_the_page_says_that_photographs_were_cropped(run):
    assert "cropped" not in render(run, SCORES, PICTURES)
    cropped = dataclasses.replace(run, config=run.config | {"crop": "roi"})
    assert "on mnist, cropped to the sign as annotated" in render(cropped, SCORES, PICTURES)


def test_the_page_warns_of_an_epoch_that_was_chosen_on_the_test_set(run):
    assert "chosen on the test set" not in render(run, SCORES, PICTURES)
    flattered = dataclasses.replace(run, config=run.config | {"hold_out": "test"})
    page = render(flattered, SCORES, PICTURES)
    assert "The epoch was chosen on the test set itself" in page
    assert "test images\n  (90.00" in page


def test_the_page_has_the_network_with_its_formulas(run):
    page = render(run, SCORES, PICTURES)
    for text in ("conv_1 (Conv)", "(None, 6, 6, 4)", "4·(1·3·3 + 1) = 40", "(None, 144)", "42,358"):
        assert text in page


def test_the_page_has_configuration_scores_and_command(run):
    page = render(run, SCORES, PICTURES)
    for text in (
        "batch size",
        "512",
        "66.67",
        "1,234",
        "<pre>python experiments/mnist_cnn.py</pre>",
    ):
        assert text in page


def test_the_weakest_class_is_marked_unless_all_are_perfect(run):
    assert render(run, SCORES, PICTURES).count("lowest F1") == 1
    assert "lowest F1" not in render(run, [ClassScore("a", 1.0, 1.0, 1.0, 5)], PICTURES)


def test_where_many_classes_share_the_lowest_score_none_is_marked(run):
    scores = [ClassScore(name, 0.0, 0.0, 0.0, 5) for name in "abcd"]
    assert "lowest F1" not in render(run, scores, PICTURES)


def test_the_groups_have_a_table_below_their_picture(run):
    picture = Picture("group_confusion", "Confusion by group", "Errors", b"PNG")
    groups = [GroupScore("speed limits", 8, 0.765, 0.992, 4170)]
    page = render(run, SCORES, [*PICTURES, picture], groups).replace("\N{NO-BREAK SPACE}", " ")
    table = page[page.index("<h2>Confusion by group") :]
    for text in ("speed limits", ">8<", "76.50 %", "99.20 %", "4,170"):
        assert text in table
    assert "Right group" not in render(run, SCORES, PICTURES)


def test_pictures_are_inside_and_captions_stand_without_them(run):
    page = render(run, SCORES, PICTURES)
    assert f"base64,{base64.b64encode(PICTURES[0].png).decode()}" in page
    assert page.count("<img") == 1
    assert "No convolution." in page


def test_only_the_sample_warns_of_comparing(run):
    warning = "do not compare"
    assert warning not in render(run, SCORES, PICTURES)
    assert warning in render(with_result(run, variant="sample"), SCORES, PICTURES)


def test_what_was_not_measured_is_a_dash(run):
    unmeasured = {"compile_seconds": None, "images_per_second": None, "test_loss": None}
    assert "<dd>–</dd>" not in render(run, SCORES, PICTURES)
    page = render(with_result(run, **unmeasured), SCORES, PICTURES)
    assert page.count("<dd>–</dd>") == 4  # compilation stands in two places


def test_what_the_run_cost_is_told_with_its_units(run):
    page = render(run, SCORES, PICTURES).replace("\N{NO-BREAK SPACE}", " ")
    for text in ("<dd>250 ms</dd>", "<dd>8.0 ms</dd>", "<dd>600 MiB</dd>", "peak memory, process"):
        assert text in page
    on_a_gpu = with_result(run, platform="gpu", peak_memory_bytes=40 * 2**30)
    page = render(on_a_gpu, SCORES, PICTURES).replace("\N{NO-BREAK SPACE}", " ")
    assert "peak memory, device" in page
    assert "<dd>40 GiB</dd>" in page


def test_no_epochs_are_said(run):
    untrained = {"epochs": 0, "best_epoch": 0, "best_validation_accuracy": None}
    page = render(with_result(run, **untrained), SCORES, PICTURES)
    assert "not trained (0 epochs)" in page
    assert "The weights are those" not in page


def test_where_nothing_was_held_out_the_weights_are_said_to_be_the_last(make_run):
    page = render(read_run(make_run(validation=False)), SCORES, PICTURES)
    assert "The weights are those of the last epoch: nothing was held out" in page
    assert "the best on" not in page


@pytest.mark.parametrize("place", ["class", "command", "setting", "caption"])
def test_names_cannot_become_html(run, place):
    evil = "<script>alert(1)</script>"
    scores, pictures, config = SCORES, PICTURES, run.config
    if place == "class":
        scores = [ClassScore(evil, 1.0, 1.0, 1.0, 1)]
    elif place == "caption":
        pictures = [Picture("x", "X", evil, None)]
    else:
        config = config | ({"command": evil} if place == "command" else {"model": evil})
    page = render(dataclasses.replace(run, config=config), scores, pictures)
    assert evil not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (27.84, "27.8 s"), (95, "2 min"), (3599, "1 h 0 min"), (7500, "2 h 5 min")],
)
def test_durations_are_in_the_unit_of_their_size(run, seconds, text):
    assert f"<dd>{text}</dd>" in render(with_result(run, train_seconds=seconds), SCORES, PICTURES)
