"""The page about traffic signs reports what its arrays contain."""

import dataclasses
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from fidle_jax.report.signs import Photographs, Signs, render_signs
from fidle_jax.report.tables import TEST, VALIDATION
from tests.browser import faults_on_a_phone

NAMES = ("turn left", "turn right", "stop")
FRAMES = 5
EPOCHS = {"epochs": 1}


def photographs(tracks, seed):
    """Photographs with similar frames in each track and a bright bar that depends on the class."""
    random = np.random.default_rng(seed)
    labels = np.sort(np.repeat(np.arange(tracks) % len(NAMES), FRAMES))
    images = random.integers(0, 90, (tracks, 32, 32, 3)).repeat(FRAMES, 0)
    images += random.integers(0, 9, images.shape)
    for image, label in zip(images, labels, strict=True):
        image[:, 8 * label : 8 * label + 6] += 120
    n = tracks * FRAMES
    widths = 30 + 10 * (np.arange(n) % FRAMES)
    return Photographs(
        images=images.astype(np.uint8),
        labels=labels,
        sizes=np.stack([widths, widths], axis=1),
        digests=np.array([f"{seed}-{k}" for k in range(n)]),
    )


@pytest.fixture(scope="module")
def signs():
    train, test = photographs(12, 0), photographs(3, 1)
    test.images[0], test.digests[0] = train.images[0], train.digests[0]
    test.images[1] = train.images[30]
    return Signs(
        names=NAMES,
        mirrored=(1, 0, -1),
        train=train,
        groups=np.repeat(np.arange(12), FRAMES),
        test=test,
        treated={"24x24-L": train.images[:2, :24, :24, :1], "32x32-RGB": train.images[:2]},
        runs=pd.DataFrame(),
        commands="python experiments/gtsrb_cnn.py --hold-out $way",
    )


def text(signs):
    page = render_signs(signs).replace("\N{NO-BREAK SPACE}", " ")
    return page, " ".join(re.sub(r"<[^>]+>", " ", page).split())


@pytest.fixture(scope="module")
def page(signs):
    return text(signs)


def test_the_facts_are_those_of_the_arrays(page):
    facts = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page[0]))
    assert facts == {
        "Training photographs": "60",
        "Test photographs": "15",
        "Classes": "3",
        "Training tracks": "12",
        "Width and height": "30 to 70 pixels",
        "Rarest to largest class": "1 : 1.0",
    }


def test_every_section_has_its_figure_and_the_page_needs_no_other_files(page):
    titles = re.findall(r"<h2>(.*?)</h2>", page[0])
    assert len(titles) == len(set(titles)) == 10
    assert page[0].count("<img") == 9  # the last section has none without runs
    assert not re.search(r"(src|href)=\"(?!data:)", page[0])
    assert "<script" not in page[0]
    assert page[0].startswith("<!DOCTYPE html>")


def test_captions_have_the_numbers_of_the_arrays(page):
    for sentence in (
        "half of the training photographs are at most 50 pixels wide, the widest has 70.",
        "Half of the photographs belong to 2 of 3 classes.",
        "1 test photograph has exactly the pixels of a training photograph.",
        "Within the training set, 0 photographs repeat another one, within the test set 0.",
        "come from 1 training track.",
        "training photograph, compared with all others 100.00 %",
        "$way",
    ):
        assert sentence in page[1]


def test_without_duplicates_there_is_no_figure_of_them(signs):
    test = photographs(3, 1)
    page, words = text(dataclasses.replace(signs, test=test))
    assert "0 test photographs have exactly the pixels" in words
    assert page.count("<img") == 8


def test_runs_have_their_accuracies_and_their_gap_and_names_are_escaped(signs):
    runs = pd.DataFrame(
        [
            {
                "setting": kind,
                "flags": {"model": "v1", "dataset": "<b>", "crop": "roi", "hold_out": kind}
                | EPOCHS,
                "seed": seed,
                VALIDATION: accuracy + 0.01 * seed,
                TEST: 0.94,
            }
            for kind, accuracy in (("examples", 0.98), ("groups", 0.94))
            for seed in (0, 1)
        ]
    ).assign(train_seconds=1.0, **EPOCHS)
    names = ("<b>left</b>", *NAMES[1:])
    page, words = text(dataclasses.replace(signs, runs=runs, names=names))
    assert (
        "v1, &lt;b&gt; cropped, 1 epoch, random examples held out 0, 1 98.50 ± 0.71 94.00 ± 0.00 +4.50"
        in words
    )
    assert "whole tracks held out 0, 1 94.50 ± 0.71 94.00 ± 0.00 +0.50" in words
    assert "--hold-out $way" not in page
    assert "<b>left" not in page
    assert page.count("<img") == 9


def test_the_page_needs_no_jax():
    code = "import sys, fidle_jax.report.signs; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "jax" not in done.stdout.split()


def test_the_page_fits_on_a_phone_and_has_no_barriers(browser, page):
    assert faults_on_a_phone(browser, page[0]) == []
