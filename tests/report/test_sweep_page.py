import re

import numpy as np
import pandas as pd
import pytest

from fidle_jax.report.sweep_page import Sweep, draw_charts, palette, render_sweep
from fidle_jax.report.tables import TEST, VALIDATION, rank_settings
from tests.browser import faults_on_a_phone


def make(axes, rows, **fields):
    """A sweep of runs (values of the axes ..., seed, validation, test)."""
    runs = pd.DataFrame(rows, columns=[*axes, "seed", VALIDATION, TEST])
    runs["setting"] = runs[axes].astype(str).agg("-".join, axis=1)
    runs["run"] = runs["setting"] + "-seed" + runs["seed"].astype(str)
    runs = runs.assign(hold_out="groups", train_seconds=30.0, parameters=4321)
    curve = {"epoch": np.array([1.0, 2.0]), "validation_accuracy": np.array([0.5, 0.6])}
    usual = {
        "title": "<gtsrb>",
        "axes": axes,
        "runs": runs,
        "curves": dict.fromkeys(runs["run"], curve),
        "planned": 9,
        "failures": {"v9": "error: <no>"},
        "command": lambda run: f"python experiments/gtsrb_cnn.py --of {run}",
        "folder": "runs/sweeps/x",
    }
    return Sweep(**usual | fields)


AXES = ["dataset", "model"]
ROWS = [
    ("24x24-L", "v1", 0, 0.90, 0.91),
    ("24x24-L", "v1", 1, 0.92, 0.91),
    ("48x48-RGB", "v2", 0, 0.97, 0.95),
    ("48x48-RGB", "v2", 1, 0.95, 0.95),
]


def text(page):
    page = page.replace("\N{NO-BREAK SPACE}", " ").replace("&nbsp;", " ")
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


@pytest.fixture(scope="module")
def page():
    return render_sweep(make(AXES, ROWS))


def test_the_best_setting_has_the_command_that_repeats_it(page):
    words = text(page)
    assert "dataset 48x48-RGB, model v2 : 96.00 ± 1.41 % on validation" in words
    assert "python experiments/gtsrb_cnn.py --of 48x48-RGB-v2-seed0" in words
    assert "Runs finished 4 of 9" in words


def test_data_sets_and_models_have_a_table_and_the_best_is_marked_once_in_each_table(page):
    assert "<h2>Dataset by model</h2>" in page
    assert page.count('<span class="tag">best</span>') == 2
    assert "–" in text(page)  # 24x24-L with v2 did not run


def test_the_page_links_to_the_report_of_each_run_and_needs_no_other_files(page):
    for run in make(AXES, ROWS).runs["run"]:
        assert f'<a href="runs/{run}/report.html">report</a>' in page
    assert not re.search(r'(src|href)="(?!data:|runs/)', page)
    assert not re.search(r"url\(|@import|https?:", page)


def test_failures_have_their_reason_and_everything_is_escaped(page):
    assert "error: &lt;no&gt;" in page
    assert "<gtsrb>" not in page
    assert "failed" not in text(render_sweep(make(AXES, ROWS, failures={}))).lower()


def test_the_page_says_if_the_best_was_selected_on_the_test_set(page):
    message = "was selected on the test set itself"
    assert message not in page
    assert message in render_sweep(make(AXES, [(*row[:3], None, row[4]) for row in ROWS]))
    selected = make(AXES, ROWS)
    selected.runs["hold_out"] = "test"
    assert message in render_sweep(selected)


def test_variants_have_their_differences_to_the_baseline():
    rows = [("whole", 0, 0.9, 0.9), ("whole", 1, 0.8, 0.9), ("less", 0, 0.9, 0.9)]
    rows += [("less", 1, 0.7, 0.8)]
    words = text(render_sweep(make(["variant"], rows, baseline="whole")))
    assert "to the baseline “whole”" in words
    minus = "\N{MINUS SIGN}5.00 ± 7.07"
    assert f"less 80.00 ± 14.14 {minus} 85.00 ± 7.07 {minus} 30" in words


@pytest.mark.parametrize("runs", [1, 2])
def test_a_sweep_of_one_axis_and_few_runs_has_a_page(runs):
    rows = [(0.1 * k, 0, 0.9, 0.9) for k in range(1, runs + 1)]
    page = render_sweep(make(["learning_rate"], rows))
    assert "Runs finished" in page
    assert "Learning rate by" not in page


def test_many_settings_have_a_page():
    rows = [(0.1 + k / 100, o, 0, 0.5 + k / 100, 0.5) for k in range(30) for o in ("adam", "sgd")]
    page = render_sweep(make(["learning_rate", "optimizer"], rows))
    assert "<h2>Learning rate by optimizer</h2>" in page


def test_both_charts_draw_a_setting_with_the_same_colour_and_end_at_100_percent():
    sweep = make(AXES, ROWS)
    settings = rank_settings(sweep.runs, AXES)
    cost, curves = draw_charts(sweep, settings).axes
    expected = [palette(settings["dataset"])[name] for name in settings["dataset"]]
    assert [bar.lines[0].get_color() for bar in cost.containers] == expected
    assert [line.get_color() for line in curves.get_lines()] == np.repeat(expected, 2).tolist()
    assert cost.get_ylim()[1] == curves.get_ylim()[1] == 100


def test_a_chart_of_low_and_similar_accuracies_does_not_end_at_100_percent():
    sweep = make(AXES, [(*row[:3], row[3] / 10, row[4]) for row in ROWS], curves={})
    (cost,) = draw_charts(sweep, rank_settings(sweep.runs, AXES)).axes
    assert cost.get_ylim()[1] < 12


def test_fractions_of_a_second_are_written_as_seconds():
    sweep = make(AXES, ROWS)
    sweep.runs["train_seconds"] = [0.14, 0.14, 0.30, 0.30]
    figure = draw_charts(sweep, rank_settings(sweep.runs, AXES))
    figure.draw_without_rendering()
    labels = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert "0.2" in labels
    assert "test 95.00 ± 0.00 0.3 s" in text(render_sweep(sweep))


def test_columns_with_one_value_are_only_among_the_facts(page):
    assert "Parameters 4,321" in text(page)
    assert "parameters</button>" not in page
    sweep = make(AXES, ROWS)
    sweep.runs["parameters"] = [1, 1, 2, 2]
    page = render_sweep(sweep)
    assert "Parameters" not in text(page)
    assert "parameters</button>" in page


def test_the_page_fits_on_a_phone_and_has_no_barriers(browser, page):
    assert faults_on_a_phone(browser, page) == []


def test_a_random_search_has_no_table_of_two_axes_and_a_wide_table_is_turned():
    values = [0.1 + k / 100 for k in range(9)]
    random = make(AXES, [(a, 1 - a, 0, 0.5, 0.5) for a in values])
    assert "<h2>Dataset by model</h2>" not in render_sweep(random)
    wide = make(AXES, [(d, v, 0, 0.5, 0.5) for d in ("a", "b") for v in values])
    assert "<h2>Model by dataset</h2>" in render_sweep(wide)
