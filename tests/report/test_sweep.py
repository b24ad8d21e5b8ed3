"""The page of a sweep names the best, marks it in its tables, and links to every run."""

import dataclasses
import re

import pandas as pd
import pytest

from fidle_jax.report.sweep import Sweep, _shares, pair_of_axes, render_sweep
from fidle_jax.report.sweep_tables import TEST, VALIDATION


def make(axes, rows):
    """A sweep of runs (values of the axes ..., seed, validation, test)."""
    table = pd.DataFrame(rows, columns=[*axes, "seed", VALIDATION, TEST])
    table["setting"] = table[axes].astype(str).agg("-".join, axis=1)
    table["run"] = table["setting"] + "-seed" + table["seed"].astype(str)
    table = table.assign(hold_out="groups", train_seconds=30.0, parameters=4321)
    curve = pd.DataFrame({"epoch": [1, 2], "validation_accuracy": [0.5, 0.6]})
    return Sweep(
        title="<gtsrb>",
        axes=axes,
        halving=False,
        table=table,
        curves=dict.fromkeys(table["run"], curve),
        planned=9,
        failures=[("v9", "error: <no>")],
        winner=lambda run: f"python experiments/gtsrb_cnn.py --of {run}",
        folder="runs/sweeps/x",
    )


ROWS = [
    ("24x24-L", "v1", 0, 0.90, 0.91),
    ("24x24-L", "v1", 1, 0.92, 0.91),
    ("48x48-RGB", "v2", 0, 0.97, 0.95),
    ("48x48-RGB", "v2", 1, 0.95, 0.95),
]


@pytest.fixture(scope="module")
def sweep():
    return make(["dataset", "model"], ROWS)


def text(page):
    return " ".join(re.sub(r"<[^>]+>", " ", page.replace("\N{NO-BREAK SPACE}", " ")).split())


def test_the_best_is_named_with_the_command_that_reproduces_it(sweep):
    page = text(render_sweep(sweep))
    assert "dataset 48x48-RGB, model v2 : 96.00 ± 1.41&nbsp;% on validation" in page
    assert "python experiments/gtsrb_cnn.py --of 48x48-RGB-v2-seed0" in page
    assert "Runs finished 4 of 9" in page


def test_data_sets_stand_by_models_and_the_best_is_marked_once_in_each_table(sweep):
    page = render_sweep(sweep)
    assert "<h2>dataset by model</h2>" in page
    assert page.count('<span class="tag">best</span>') == 2
    assert "–" in text(page)  # 24x24-L with v2 did not run


def test_every_run_links_to_its_report(sweep):
    page = render_sweep(sweep)
    for run in sweep.table["run"]:
        assert f'<a href="runs/{run}/report.html">report</a>' in page


def test_failures_are_listed_with_their_reason_and_everything_is_escaped(sweep):
    page = render_sweep(sweep)
    assert "error: &lt;no&gt;" in page
    assert "<gtsrb>" not in page


def test_the_page_needs_nothing_else(sweep):
    page = render_sweep(sweep)
    assert not re.search(r'(src|href)="(?!data:|runs/)', page)
    assert not re.search(r"url\(|@import|https?:", page)


def test_a_sweep_that_held_nothing_out_says_that_its_best_was_chosen_on_the_test():
    runs = make(["dataset", "model"], [(*row[:3], None, row[4]) for row in ROWS])
    assert "was chosen by the test set itself" in render_sweep(runs)
    chosen = make(["dataset", "model"], ROWS)
    chosen.table["hold_out"] = "test"
    assert "was chosen by the test set itself" in render_sweep(chosen)
    assert "chose nothing" in render_sweep(make(["dataset", "model"], ROWS))


@pytest.mark.parametrize("runs", [1, 2])
def test_a_sweep_of_one_axis_and_few_runs_has_a_page(runs):
    page = render_sweep(
        make(["learning_rate"], [(0.1 * k, 0, 0.9, 0.9) for k in range(1, runs + 1)])
    )
    assert "Runs finished" in page
    assert "Which flag mattered most" not in page


def test_many_settings_have_a_page():
    rows = [(0.1 + k / 100, o, 0, 0.5 + k / 100, 0.5) for k in range(30) for o in ("adam", "sgd")]
    page = text(render_sweep(make(["learning_rate", "optimizer"], rows)))
    assert "Which flag mattered most" in page


def test_of_a_halving_the_first_rung_tells_what_mattered():
    every = [
        (0.1 * k, o, e, 0, 0.5 + 0.1 * k * e, 0.5) for k in range(5) for o in "ab" for e in (1, 3)
    ]
    rows = [row for row in every if row[2] == 1 or row[0] > 0.2]
    sweep = make(["learning_rate", "optimizer", "epochs"], rows)
    found = _shares(dataclasses.replace(sweep, halving=True))
    assert found == {"learning_rate": pytest.approx(1), "optimizer": 0}


def test_the_table_of_two_axes_is_of_data_sets_and_models_or_of_what_mattered_most():
    shares = {"b": 0.5, "model": 0.3, "dataset": 0.1}
    assert pair_of_axes(["model", "b", "dataset"], shares) == ("dataset", "model")
    assert pair_of_axes(["a", "b", "c"], {"b": 0.5, "a": 0.3, "c": 0.1}) == ("b", "a")
    assert pair_of_axes(["a"], {"a": 1.0}) is None


def test_a_sweep_without_failures_says_nothing_of_them(sweep):
    page = render_sweep(dataclasses.replace(sweep, failures=[]))
    assert "failed" not in text(page).lower()
