import base64
import dataclasses
import re
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread

from fidle_jax.errors import InputError
from fidle_jax.report import write_report
from fidle_jax.report.run_page import draw_figures, render_run
from fidle_jax.train.run_content import read_run
from tests.browser import faults_on_a_phone

ALWAYS = {"confusion_matrix", "feature_maps", "kernels", "predictions"}
ALWAYS |= {"training_curves", "worst_errors"}
DRAWN = dict.fromkeys((*ALWAYS, "augmented", "near_duplicates"), b"\x89PNG")


def text(run, **figures):
    """Text of the page, with figures that are not drawn."""
    page = render_run(run, DRAWN | figures).replace("\N{NO-BREAK SPACE}", " ")
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


@pytest.fixture
def run(make_run):
    return read_run(make_run())


def with_result(run, **changes):
    return dataclasses.replace(run, result=run.result | changes)


def with_config(run, **changes):
    return dataclasses.replace(run, config=run.config | changes)


def test_the_page_reports_the_run_in_words(run):
    words = text(run)
    for sentence in (
        "87.50 % of 40 test images correct",
        "5 test images were classified wrongly",
        "The weights of epoch 4 were selected on validation data.",
        "Most frequent errors: class 0 predicted as class 1 (2); ",
        "The example is test image 7 (class class 1)",
        "conv_1 (Conv) (None, 6, 6, 4) 40 4·(1·3·3 + 1) = 40",
        "flatten (Flatten) (None, 144) 0",
        "batch size 512",
        "transfer of the data 250 ms",
        "training step 8.04 ms",
        "images per second 33,000",
        "peak memory of the process 600.0 MiB",
        "Command python experiments/mnist_cnn.py jax 0.10.2",
    ):
        assert sentence in words
    assert "cropped" not in words
    assert "Augmentation" not in words
    assert "between groups" not in words


@pytest.mark.parametrize(
    ("kind", "result", "config", "sentences"),
    [
        ({}, {}, {"crop": "roi"}, ["on mnist, cropped to the annotated sign:"]),
        (
            {},
            {},
            {"hold_out": "test"},
            [
                "The epoch was selected on the test set itself",
                "has the best accuracy on 6,000 test images (90.00 %)",
                "were selected on the test set, which was evaluated after every epoch",
                "If the test loss rises while",
            ],
        ),
        ({}, {"variant": "sample"}, {}, ["Do not compare its accuracy with published ones"]),
        (
            {},
            {"platform": "gpu", "peak_memory_bytes": 40 * 2**30},
            {},
            ["peak memory of the device 40.0 GiB"],
        ),
        (
            {"validation": False},
            {},
            {},
            [
                "The weights are those of the last epoch, because there was no hold-out set.",
                "so the run kept the weights of the last epoch. Training values are averages over an epoch",
            ],
        ),
        (
            {"groups": True},
            {},
            {},
            [
                "2 of 5 errors are within a group, the others",
                "Correct group Support first 1 85.71 % 85.71 % 14 others 2 88.46 % 96.15 % 26",
            ],
        ),
        (
            {"augmented": True},
            {},
            {},
            [
                "a training image (class class 1) and 32 augmented versions of it",
                "Framed versions were flipped and belong to another class.",
            ],
        ),
        (
            {"own_images": True},
            {},
            {},
            [
                "photos: class folders, 40x30 to 80x60 (median 50x50) pixels.",
                "Near-duplicates: 2 groups with 5 images.",
                "1 file was skipped: photos/a.txt: not the name of an image.",
                "correct on 50.00 % of this test set, and on 90.00 % of a random test set",
                "The figure shows images of the largest groups of near-duplicates",
            ],
        ),
    ],
    ids=str,
)
def test_only_pages_of_special_runs_mention_it(make_run, kind, result, config, sentences):
    usual = text(read_run(make_run()))
    words = text(with_config(with_result(read_run(make_run(**kind)), **result), **config))
    for sentence in sentences:
        assert sentence in words
        assert sentence not in usual


def test_every_figure_has_a_section_in_the_template(make_run):
    run = read_run(make_run(augmented=True, own_images=True))
    figures = draw_figures(run)
    assert figures.keys() == DRAWN.keys()
    assert render_run(run, figures).count("data:image/png") == len(figures)


def test_missing_figures_are_explained(make_run):
    run = read_run(make_run(epochs=0, errors=False, kernels=False))
    words = text(run, training_curves=None, worst_errors=None, kernels=None)
    for sentence in (
        "It was not trained (0 epochs)",
        "The run had no epochs, so there are no curves.",
        "There was no error.",
        "No test image was classified wrongly.",
        "This network has no convolution.",
    ):
        assert sentence in words
    assert "The weights are those" not in words


def test_a_long_table_of_classes_is_collapsed_below_its_weakest_classes(make_run):
    page = render_run(read_run(make_run(classes=13)), DRAWN)
    before, collapsed = page.split("<summary>All 13 classes</summary>")
    assert before.count('<td class="name">') == 5
    assert collapsed.count('<td class="name">') == 13
    assert "<summary>All" not in render_run(read_run(make_run(classes=12)), DRAWN)


def test_the_result_comes_before_the_figures_and_the_configuration_last(make_run):
    page = render_run(read_run(make_run(groups=True, own_images=True)), DRAWN)
    titles = re.findall("<h2>(.*?)</h2>", page)
    assert titles[:3] == ["Groups of classes", "Training curves", "Confusion matrix"]
    assert titles[-5:] == ["The images", "The network", "Configuration", "Cost", "Command"]


def test_missing_measurements_are_dashes(run):
    unmeasured = {"compile_seconds": None, "images_per_second": None, "test_loss": None}
    assert "<dd>–</dd>" not in render_run(run, DRAWN)
    page = render_run(with_result(run, **unmeasured), DRAWN)
    assert page.count("<dd>–</dd>") == 3


@pytest.mark.parametrize(
    ("labels", "predicted", "tags"),
    [
        ([0, 0, 1, 2, 3], [0, 0, 1, 1, 3], 1),
        ([0, 1], [0, 1], 0),
        ([0, 1, 2, 3], [1, 2, 3, 0], 0),
        ([0, 0, 2, 2], [0, 0, 2, 0], 1),  # class 1 has no test images
    ],
)
def test_up_to_three_weakest_classes_are_marked_unless_all_are_perfect(
    run, labels, predicted, tags
):
    classes = max(labels) + 1
    evaluation = dataclasses.replace(
        run.evaluation,
        images=run.evaluation.images[: len(labels)],
        labels=np.array(labels),
        probabilities=np.eye(classes, dtype=np.float32)[predicted],
        class_names=list("abcd")[:classes],
    )
    page = render_run(dataclasses.replace(run, evaluation=evaluation, digit=0), DRAWN)
    assert page.count("lowest F1") == tags


@pytest.mark.parametrize("place", ["class", "command", "setting"])
def test_names_are_escaped(run, place):
    evil = "<script>alert(1)</script>"
    if place == "class":
        evaluation = dataclasses.replace(run.evaluation, class_names=["a", "b", evil])
        run = dataclasses.replace(run, evaluation=evaluation)
    else:
        run = with_config(run, **({"command": evil} if place == "command" else {"model": evil}))
    page = render_run(run, DRAWN)
    assert evil not in page
    assert "&lt;script&gt;" in page


def figures(run_dir):
    return {path.stem for path in (run_dir / "figures").glob("*.png")}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (
            {"epochs": 0, "errors": False, "kernels": False, "classes": 2},
            ALWAYS - {"training_curves", "worst_errors", "kernels"},
        ),
        (
            {
                "epochs": 1,
                "validation": False,
                "channels": 3,
                "groups": True,
                "augmented": True,
                "own_images": True,
            },
            {*DRAWN},
        ),
        ({"classes": 100}, ALWAYS),
    ],
    ids=["no epochs", "one epoch without validation", "100 classes"],
)
def test_all_kinds_of_runs_have_their_figures_and_a_page_that_needs_no_other_files(
    make_run, kind, expected
):
    run_dir = make_run(**kind)
    path = write_report(run_dir)
    assert path == run_dir / "report.html"
    assert figures(run_dir) == expected
    for figure in (run_dir / "figures").iterdir():
        assert imread(figure).std() > 0.01, f"{figure.name} is blank"
    page = path.read_text(encoding="utf-8")
    sources = re.findall(r"(?:src|href)\s*=\s*[\"']([^\"']*)", page)
    assert len(sources) == len(expected)
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    first = base64.b64encode((run_dir / "figures" / "confusion_matrix.png").read_bytes()).decode()
    assert first in page
    assert "http" not in page
    assert "<script" not in page


def test_a_damaged_run_is_refused_before_anything_is_written(make_run):
    run_dir = make_run()
    (run_dir / "layers.npz").unlink()
    with pytest.raises(InputError, match=r"layers\.npz"):
        write_report(run_dir)
    assert not (run_dir / "figures").exists()
    assert not (run_dir / "report.html").exists()


def test_the_report_needs_no_jax_and_is_the_same_if_it_is_written_again(make_run):
    run_dir = make_run()
    code = (
        "import sys; from pathlib import Path; from fidle_jax.report import write_report\n"
        f"assert 'matplotlib' not in sys.modules\npath = write_report(Path({str(run_dir)!r}))\n"
        "assert not {'jax', 'matplotlib.pyplot'} & set(sys.modules), 'imported'\n"
        "first = path.read_bytes()\nassert write_report(path.parent).read_bytes() == first"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not [path for path in run_dir.rglob("*") if path.name.startswith(".")]


def test_groups_of_near_duplicates_are_read_as_they_were_written(make_run):
    (first, second) = read_run(make_run(own_images=True)).near_duplicates
    assert [label for label, _ in (first, second)] == [0, 0]
    assert [images.shape for _, images in (first, second)] == [(3, 8, 8, 1), (2, 8, 8, 1)]


def test_the_page_fits_on_a_phone_and_has_no_barriers(browser, make_run):
    run = read_run(make_run(classes=13, groups=True, augmented=True))
    assert faults_on_a_phone(browser, render_run(run, DRAWN)) == []


def test_a_printed_page_has_no_collapsed_tables(browser, make_run):
    page = browser.new_page()
    page.set_content(render_run(read_run(make_run(classes=13)), DRAWN))
    last = page.locator("details td.name").last
    assert not last.is_visible()
    page.emulate_media(media="print")
    assert last.is_visible()
    page.close()
