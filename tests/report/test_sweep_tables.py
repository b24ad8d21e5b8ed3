"""A sweep's tables: means and spreads over seeds, the best by validation, and what mattered."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidle_jax.report.sweep_tables import (
    TEST,
    VALIDATION,
    best_in_cells,
    by_setting,
    criterion,
    importance,
    markdown,
)


def table(rows):
    """A table of runs (dataset, model, seed, validation, test)."""
    frame = pd.DataFrame(rows, columns=["dataset", "model", "seed", VALIDATION, TEST])
    frame["setting"] = frame["dataset"] + "-" + frame["model"]
    frame["run"] = frame["setting"] + "-seed" + frame["seed"].astype(str)
    return frame.assign(train_seconds=[float(k) for k in range(len(frame))], parameters=1234)


RUNS = [
    ("a", "v1", 0, 0.90, 0.99),
    ("a", "v1", 1, 0.92, 0.99),
    ("b", "v1", 0, 0.95, 0.80),
    ("b", "v1", 1, 0.97, 0.82),
    ("a", "v2", 0, 0.94, 0.90),
]
AXES = ["dataset", "model"]


def test_settings_have_mean_and_spread_over_their_seeds_the_best_on_validation_first():
    best, second, third = by_setting(table(RUNS), AXES).to_dict("records")
    assert (best["dataset"], best["model"], best["seeds"]) == ("b", "v1", 2)
    assert best[VALIDATION] == pytest.approx(0.96)
    assert best[f"{VALIDATION} spread"] == pytest.approx(np.std([0.95, 0.97], ddof=1))
    assert best[TEST] == pytest.approx(0.81)
    assert (best["train_seconds"], best["parameters"], best["run"]) == (2.5, 1234, "b-v1-seed0")
    assert (second["dataset"], third["model"]) == ("a", "v2")


def test_settings_of_fewer_seeds_come_last_however_good():
    runs = [*RUNS, ("b", "v2", 0, 0.99, 0.99)]
    assert list(by_setting(table(runs), AXES)["model"]) == ["v1", "v1", "v2", "v2"]


def test_runs_that_held_nothing_out_are_compared_on_the_test():
    runs = [(*run[:3], None, run[4]) for run in RUNS]
    assert criterion(table(RUNS)) == VALIDATION
    assert criterion(table(runs)) == TEST
    assert by_setting(table(runs), AXES)["dataset"].iloc[0] == "a"


def test_the_table_in_markdown_has_the_best_in_bold():
    lines = markdown(by_setting(table(RUNS), AXES)).splitlines()
    assert (
        lines[0] == "| dataset | model | seeds | validation, % | test, % | seconds | parameters |"
    )
    assert lines[2] == (
        "| **b** | **v1** | **2** | **96.00 ± 1.41** | **81.00 ± 1.41** | **2** | **1,234** |"
    )
    assert lines[4] == "| a | v2 | 1 | 94.00 | 90.00 | 4 | 1,234 |"


def test_each_pair_of_values_has_its_best_setting():
    rows = [(*run, "adam") for run in RUNS] + [
        ("a", "v1", seed, 0.99, 0.9, "sgd") for seed in (0, 1)
    ]
    frame = table([row[:5] for row in rows]).assign(optimizer=[row[5] for row in rows])
    frame["setting"] += frame["optimizer"]
    settings = by_setting(frame, [*AXES, "optimizer"])
    places = best_in_cells(settings, *AXES)
    assert settings.iloc[int(places.loc["a", "v1"])]["optimizer"] == "sgd"
    assert np.isnan(places.loc["b", "v2"])


def grid(effect_a, effect_b, noise, seeds=4):
    random = np.random.default_rng(0)
    return table(
        [
            (f"a{i}", f"b{j}", s, 0.5 + effect_a * i + effect_b * j + noise * random.normal(), 0.5)
            for i in range(3)
            for j in range(3)
            for s in range(seeds)
        ]
    )


def test_the_flag_that_makes_the_difference_mattered_most():
    shares = importance(grid(0.1, 0.01, 0.001), AXES)
    assert list(shares) == AXES
    assert shares["dataset"] == pytest.approx(0.99, abs=0.01)
    assert 0 < shares["model"] < 0.02
    assert list(importance(grid(0.01, 0.1, 0.001), AXES)) == AXES[::-1]


def test_flags_that_make_no_difference_have_no_share_but_by_chance():
    shares = importance(grid(0, 0, 0.01, seeds=40), AXES)
    assert all(share < 0.03 for share in shares.values())


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_shares_are_shares(accuracies):
    rows = [("ab"[k % 2], f"v{k % 3}", k, x, x) for k, x in enumerate(accuracies)]
    shares = [share for share in importance(table(rows), AXES).values() if share == share]
    assert all(0 <= share <= 1 for share in shares)


def test_many_numbers_are_compared_in_four_groups():
    frame = grid(0.1, 0, 0.001).assign(learning_rate=np.linspace(0.1, 1, 36))
    assert importance(frame, ["learning_rate"])["learning_rate"] > 0.7


def test_an_axis_that_cannot_be_told_from_the_runs_has_no_share():
    one_value, own_value = grid(0.1, 0.1, 0.01).assign(dataset="a"), table(RUNS[3:])
    assert np.isnan(importance(one_value, ["dataset"])["dataset"])
    assert np.isnan(importance(own_value, ["dataset"])["dataset"])
