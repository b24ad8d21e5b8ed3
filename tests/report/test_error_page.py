import shutil

import numpy as np
import pandas as pd
import pytest

from fidle_jax.errors import InputError
from fidle_jax.report.error_page import find_errors, render_errors
from fidle_jax.report.tables import TEST, VALIDATION
from fidle_jax.train.run_content import Evaluation
from tests.browser import faults_on_a_phone
from tests.made_up_run import write_run

IMAGES = np.arange(4 * 4, dtype=np.uint8).reshape(4, 2, 2, 1)
DATA = Evaluation(IMAGES, np.array([0, 1, 2, 0]), np.zeros((4, 3)), ["a", "b", "c"])
# (seed, example, class)
PROBABILITIES = np.array(
    [
        [[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.5, 0.4, 0.1], [0.1, 0.9, 0.0]],
        [[0.2, 0.8, 0.0], [0.1, 0.9, 0.0], [0.1, 0.7, 0.2], [0.2, 0.8, 0.0]],
        [[0.8, 0.2, 0.0], [0.2, 0.8, 0.0], [0.2, 0.6, 0.2], [0.9, 0.1, 0.0]],
    ]
)


def test_errors_are_sorted_by_seeds_and_have_labels_predictions_and_probabilities():
    errors = find_errors(DATA, PROBABILITIES, {3: "it reads b"})
    assert [(error.index, error.seeds) for error in errors] == [(2, 3), (3, 2), (0, 1), (1, 1)]
    first, second, *_ = errors
    assert (first.label, first.label_probability) == ("c", pytest.approx(0.5 / 3))
    guesses = [(guess.name, guess.seeds, round(guess.probability, 9)) for guess in first.guesses]
    assert guesses == [("b", 2, 0.65), ("a", 1, 0.5)]
    assert (second.remark, first.remark) == ("it reads b", "")


@pytest.fixture
def runs(tmp_path):
    """Two runs with the same errors."""
    (tmp_path / "a").mkdir()
    write_run(tmp_path / "a", channels=3)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    row = {"setting": "x", "dataset": "<mnist>", "recipe": "best", "parameters": 9}
    row |= {VALIDATION: 0.9, TEST: 0.875, "train_seconds": 1.0}
    return pd.DataFrame(
        [row | {"seed": seed, "run": tmp_path / name} for seed, name in enumerate("ab")]
    )


def test_the_page_lists_the_errors_and_fits_on_a_phone(browser, runs):
    page = render_errors(runs, {3: "a <b>"}, "python")
    assert page.count("2 of 2 seeds") == page.count("<img") == 5
    assert "a &lt;b&gt;" in page
    assert "&lt;mnist&gt;" in page
    assert faults_on_a_phone(browser, page) == []


def test_runs_on_other_test_images_are_refused(runs):
    write_run(runs["run"][1], channels=1)
    with pytest.raises(InputError, match="has other test images than"):
        render_errors(runs, {}, "python")
