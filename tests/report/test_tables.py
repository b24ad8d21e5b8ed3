import json
import os

import numpy as np
import pandas as pd
import pytest

from fidle_jax.errors import InputError
from fidle_jax.files import sealed, write_digests
from fidle_jax.report.tables import (
    TEST,
    VALIDATION,
    average_over_seeds,
    best_in_cells,
    criterion,
    rank_settings,
    read_runs,
    settings_markdown,
    to_markdown,
    write_results,
)
from fidle_jax.train.config import Config, to_json


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


def test_settings_have_mean_and_deviation_over_their_seeds_in_the_order_of_the_runs():
    first, second, third = average_over_seeds(table(RUNS[::-1])).to_dict("records")
    assert [row["setting"] for row in (first, second, third)] == ["a-v2", "b-v1", "a-v1"]
    assert second[VALIDATION] == pytest.approx(0.96)
    assert second[f"{VALIDATION} spread"] == pytest.approx(np.std([0.95, 0.97], ddof=1))
    assert second[TEST] == pytest.approx(0.81)
    assert (second["seeds"], second["run"], second["parameters"]) == (2, "b-v1-seed0", 1234)
    assert second["train_seconds"] == 1.5
    assert np.isnan(first[f"{TEST} spread"])


def test_the_best_setting_on_validation_is_first_and_incomplete_settings_are_last():
    assert list(rank_settings(table(RUNS), AXES)["setting"]) == ["b-v1", "a-v1", "a-v2"]
    runs = [*RUNS, ("b", "v2", 0, 0.99, 0.99)]
    assert list(rank_settings(table(runs), AXES)["model"]) == ["v1", "v1", "v2", "v2"]


def test_runs_without_validation_are_ranked_on_the_test_set():
    runs = [(*run[:3], None, run[4]) for run in RUNS]
    assert criterion(table(RUNS)) == VALIDATION
    assert criterion(table(runs)) == TEST
    assert rank_settings(table(runs), AXES)["dataset"].iloc[0] == "a"


def test_variants_are_compared_with_the_baseline_seed_by_seed():
    rows = [("whole", 0, 0.90, 0.8), ("whole", 1, 0.92, 0.9), ("less", 1, 0.91, 0.9)]
    rows += [("less", 0, 0.86, 0.8)]
    frame = table([("a", *row) for row in rows]).rename(columns={"model": "variant"})
    settings = rank_settings(frame, ["variant"], "whole").set_index("variant")
    less, whole = settings.loc["less"], settings.loc["whole"]
    differences = [-0.04, -0.01]
    assert less[f"{VALIDATION} difference"] == pytest.approx(np.mean(differences))
    spread = less[f"{VALIDATION} difference spread"]
    assert spread == pytest.approx(np.std(differences, ddof=1))
    assert (whole[f"{TEST} difference"], less[f"{TEST} difference"]) == (0, 0)
    lines = settings_markdown(settings.reset_index(), ["variant"]).splitlines()
    head = "| variant | seeds | validation, % | difference | test, % | difference | seconds |"
    assert lines[0].startswith(head)
    assert lines[3].startswith(
        "| less | 2 | 88.50 ± 3.54 | \N{MINUS SIGN}2.50 ± 2.12 | 85.00 ± 7.07"
    )


def test_the_markdown_table_has_the_best_setting_in_bold():
    lines = settings_markdown(rank_settings(table(RUNS), AXES), AXES).splitlines()
    head = "| dataset | model | seeds | validation, % | test, % | seconds | parameters |"
    assert lines[0] == head
    best = "| **b** | **v1** | **2** | **96.00 ± 1.41** | **81.00 ± 1.41** | **2.5** | **1,234** |"
    assert lines[2] == best
    assert lines[4] == "| a | v2 | 1 | 94.00 | 90.00 | 4 | 1,234 |"


def test_each_pair_of_values_has_its_best_setting():
    rows = [(*run, "adam") for run in RUNS]
    rows += [("a", "v1", seed, 0.99, 0.9, "sgd") for seed in (0, 1)]
    frame = table([row[:5] for row in rows]).assign(optimizer=[row[5] for row in rows])
    frame["setting"] += frame["optimizer"]
    settings = rank_settings(frame, [*AXES, "optimizer"])
    indices = best_in_cells(settings, *AXES)
    assert settings.iloc[int(indices.loc["a", "v1"])]["optimizer"] == "sgd"
    assert np.isnan(indices.loc["b", "v2"])


def test_variants_with_nearly_equal_values_of_an_axis_are_compared_value_by_value():
    frame = table([("a", "v1", 0, 0.5 + number / 8, 0.5) for number in range(4)])
    frame["variant"] = ["whole", "whole", "less", "less"]
    frame["rate"] = [0.01, 0.010001] * 2
    frame["setting"] = list("abcd")
    settings = rank_settings(frame, ["variant", "rate"], "whole")
    assert sorted(settings["rate"]) == ["0.01", "0.01", "0.010001", "0.010001"]
    assert sorted(settings[f"{VALIDATION} difference"]) == [0, 0, 0.25, 0.25]


def test_a_table_says_that_the_test_set_selected_the_epoch():
    settings = rank_settings(table(RUNS), AXES)
    assert "| validation, % |" in settings_markdown(settings, AXES)
    chosen = settings_markdown(settings.assign(hold_out="test"), AXES)
    assert "validation" not in chosen
    assert "| test of the epoch with the best test, % |" in chosen


def test_a_bar_in_a_cell_stays_in_its_cell():
    assert to_markdown(["a"], [["x|y"]]) == "| a |\n| --- |\n| x\\|y |"


RESULT = {
    "experiment": "gtsrb_cnn",
    "dataset": "24x24-L",
    "variant": "full",
    "recipe": "fast",
    "train_examples": 90,
    "epochs": 16,
    "parameters": 9,
    "seed": 3,
    VALIDATION: 0.99,
    TEST: 0.95,
    "test_loss": 0.1,
    "train_seconds": 9.0,
    "compile_seconds": 2.0,
}


def write(run_dir, result):
    run_dir.mkdir(exist_ok=True)
    (run_dir / "config.json").write_text(json.dumps(to_json(Config())))
    (run_dir / "result.json").write_text(result if isinstance(result, str) else json.dumps(result))


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("{", "result.json cannot be read .Expecting property name"),
        ("[]", r"result\.json"),
        (RESULT | {TEST: 3}, "test_accuracy is 3, not in"),
        (RESULT | {TEST: float("nan")}, "test_accuracy is None; expected"),
        (RESULT | {"recipe": ["fast"]}, r"recipe is \['fast'\]; expected str"),
        (RESULT | {"parameters": "9"}, "parameters is '9'; expected"),
    ],
)
def test_a_directory_that_is_no_such_run_is_named_on_one_line(tmp_path, result, message):
    write(tmp_path, result)
    with pytest.raises(InputError, match=message) as caught:
        read_runs([tmp_path])
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_runs_on_other_images_under_the_same_path_are_other_settings(tmp_path):
    for seed, (name, digest) in enumerate((("a", "1"), ("b", "1"), ("c", "2"))):
        write(tmp_path / name, RESULT | {"seed": seed})
        file = tmp_path / name / "config.json"
        content = json.loads(file.read_text()) | {"own_images": {"digest": digest}}
        file.write_text(json.dumps(content))
    runs = read_runs(tmp_path / name for name in "abc")
    first, second, other = runs["setting"]
    assert first == second != other


@pytest.mark.parametrize("content", [{"own_images": 3, "extended_from": 4}, {"own_images": {}}])
def test_unexpected_entries_of_config_json_are_no_error(tmp_path, content):
    write(tmp_path, RESULT)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | content))
    assert len(read_runs([tmp_path])) == 1


def test_a_result_that_was_changed_later_is_refused(tmp_path):
    write(tmp_path, RESULT)
    write_digests(tmp_path)
    assert len(read_runs([tmp_path])) == 1
    write(tmp_path, RESULT | {TEST: 0.99})
    with pytest.raises(InputError, match=r"was changed after it was finished: result\.json;"):
        read_runs([tmp_path])


def test_an_unfinished_run_and_a_missing_directory_are_named(tmp_path):
    with pytest.raises(InputError, match="nowhere is not a finished run"):
        read_runs([tmp_path / "nowhere"])
    write(tmp_path, RESULT)
    (tmp_path / "result.json").unlink()
    with pytest.raises(InputError, match=f"{tmp_path} is not a finished run"):
        read_runs([tmp_path])


def test_a_repeated_seed_counts_once_and_its_difference_is_named(tmp_path, caplog):
    names = ("last", "first", "same", "other seed")
    changes = ({TEST: 0.94}, {}, {}, {"seed": 4})
    for name, change in zip(names, changes, strict=True):
        write(tmp_path / name, RESULT | change)
        os.utime(tmp_path / name / "result.json", (0, 0) if name == "first" else None)
    runs = read_runs(tmp_path / name for name in names)
    assert [path.name for path in runs["run"]] == ["first", "other seed"]
    (warning,) = caplog.messages
    first = tmp_path / "first"
    difference = "94.000 %, loss 0.1 instead of 95.000 %, loss 0.1"
    assert f"{tmp_path / 'last'} repeats {first} ({difference});" in warning
    assert warning.endswith(f"{tmp_path / 'same'} repeats {first} (same result)")


@pytest.mark.parametrize("name", ["Fashion-MNIST", "a b"])
def test_kept_results_have_no_folders_and_are_read_after_new_flags_were_added(tmp_path, name):
    write(tmp_path / "run", RESULT)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    command = f"python experiments/a.py --x '/my data/{name}'"
    config |= {"dataset": f"/data/{name}", "command": command}
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    write_results(tmp_path / "kept.json", read_runs([tmp_path / "run"]))
    content = json.loads((tmp_path / "kept.json").read_text())
    assert content["flags"]["dataset"] == f"./{name}"
    (record,) = content["runs"]
    assert record["command"] == f"python experiments/a.py --x './{name}'"
    del content["flags"]["elastic"], content["checksum"]
    (tmp_path / "kept.json").write_text(json.dumps(sealed(content)))
    (run,) = read_runs([tmp_path / "kept.json"]).to_dict("records")
    assert (run[TEST], run["seed"], run["flags"]["elastic"]) == (
        0.95,
        3,
        to_json(Config())["elastic"],
    )


@pytest.mark.parametrize(
    "content",
    [
        "{",
        {"flags": {}, "runs": []},
        {"flags": {"objects": None}, "runs": []},
        {"flags": {"objects": None, "dropout": "x"}, "runs": [RESULT | {"command": ""}]},
        {"flags": {"objects": None}, "runs": [RESULT]},
        {"flags": {"objects": None}, "runs": [RESULT | {"command": "", TEST: 2.0}]},
        {"flags": {"objects": None}, "runs": [RESULT | {"command": ""}], "checksum": "0"},
        {"flags": {"objects": None}, "runs": [RESULT | {"command": ""}], "checksum": None},
    ],
    ids=str,
)
def test_a_damaged_file_of_results_is_named(tmp_path, content):
    text = content if isinstance(content, str) else json.dumps(sealed(content) | content)
    (tmp_path / "kept.json").write_text(text)
    with pytest.raises(InputError, match=r"kept\.json cannot be read"):
        read_runs([tmp_path / "kept.json"])
