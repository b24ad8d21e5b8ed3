"""The page about the traffic signs says what is in the arrays that it is given."""

import dataclasses
import re
import subprocess
import sys

import numpy as np
import pytest

from fidle_jax.report.claims import Claim
from fidle_jax.report.sign_data import Photographs, Signs, TrackedPhotographs
from fidle_jax.report.traffic_signs import render_signs

NAMES = ("turn left", "turn right", "stop")
FRAMES = 5


def photographs(tracks, seed):
    """Nearly the same frames in each track; the class is told by the place of a bright bar."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(tracks) % len(NAMES), FRAMES)
    order = np.argsort(labels, kind="stable")
    images = random.integers(0, 90, (tracks, 32, 32, 3)).repeat(FRAMES, 0)
    images += random.integers(0, 9, images.shape)
    for image, label in zip(images, labels, strict=True):
        image[:, 8 * label : 8 * label + 6] += 120
    n = tracks * FRAMES
    widths = 30 + 10 * (np.arange(n) % FRAMES)
    return TrackedPhotographs(
        images=images.astype(np.uint8)[order],
        labels=labels[order],
        groups=np.repeat(np.arange(tracks), FRAMES)[order],
        sizes=np.stack([widths, widths], axis=1)[order],
        digests=np.array([f"{seed}-{k}" for k in range(n)])[order],
    )


@pytest.fixture(scope="module")
def signs():
    train = photographs(12, 0)
    known = vars(photographs(3, 1))
    test = Photographs(**{name: known[name] for name in known if name != "groups"})
    test.images[0], test.digests[0] = train.images[0], train.digests[0]
    test.images[1] = train.images[30]
    return Signs(
        names=NAMES,
        mirrored=(1, 0, -1),
        train=train,
        test=test,
        treated={"24x24-L": train.images[:2, :24, :24, :1], "32x32-RGB": train.images[:2]},
        claims=[],
        commands="python experiments/gtsrb_cnn.py --hold-out $way",
    )


@pytest.fixture(scope="module")
def page(signs):
    return render_signs(signs)


def test_the_numbers_at_a_glance_are_those_of_the_arrays(page):
    facts = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page))
    assert facts == {
        "Training photographs": "60",
        "Test photographs": "15",
        "Classes": "3",
        "Tracks in training": "12",
        "Pixels a side": "30 to 70",
        "Rarest to commonest": "1 : 1.0",
    }


def test_every_section_is_there_with_its_figure(page):
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert len(titles) == len(set(titles)) == 14
    assert page.count("<img") == 13  # the last section has none without runs


def test_the_page_needs_nothing_else(page):
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "<script" not in page
    assert page.startswith("<!DOCTYPE html>")


def test_photographs_that_both_sets_have_are_counted(page):
    assert "0 within the training set, 0 within the test set, and 1 of the test set" in page
    assert "These 1 (left: test, right: training) are frames of 1 training track:" in page


def test_near_duplicates_are_counted_without_those_whose_pixels_are_the_same(page):
    assert "Of the 1 test photographs that have a near-duplicate" in page


def test_without_photographs_in_both_sets_there_is_no_figure_of_them(signs):
    test = dataclasses.replace(signs.test, digests=np.array([f"t{k}" for k in range(15)]))
    page = render_signs(dataclasses.replace(signs, test=test))
    assert "and 0 of the test set that training has as well." in page
    assert page.count("<img") == 12


def test_the_nearest_neighbour_is_surer_where_it_may_be_of_the_same_track(page):
    right = [
        float(share)
        for share in re.findall(r"<td class=\"right\">([\d.]+)\N{NO-BREAK SPACE}%", page)
    ]
    assert right[0] == 100
    assert len(right) == 3


def test_without_runs_it_says_how_to_make_them(page):
    assert "<pre>python experiments/gtsrb_cnn.py --hold-out $way</pre>" in page


def test_with_runs_it_says_mean_and_spread_and_how_much_too_much_was_claimed(signs):
    claims = [
        Claim("v1", "24x24-L", 16, way, seed, validation + 0.01 * seed, 0.94)
        for way, validation in (("examples", 0.98), ("groups", 0.94))
        for seed in (0, 1)
    ]
    page = render_signs(dataclasses.replace(signs, claims=claims)).replace(
        "\N{NO-BREAK SPACE}", " "
    )
    for text in ("98.50 ± 0.71 %", "94.50 ± 0.71 %", "94.00 ± 0.00 %", "+4.50", "+0.50", "0, 1"):
        assert text in page
    assert "--hold-out $way" not in page
    assert page.count("<img") == 14


def test_names_cannot_become_html(signs):
    names = ("<b>left</b>", *NAMES[1:])
    page = render_signs(dataclasses.replace(signs, names=names))
    assert "<b>left" not in page


def test_it_needs_neither_jax_nor_the_other_rooms():
    code = "import sys, fidle_jax.report.traffic_signs; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"jax", "fidle_jax.data", "fidle_jax.train"} & set(modules)
