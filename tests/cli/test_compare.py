import json
import os
import shutil

import numpy as np
import pytest

from fidle_jax.cli.compare import main
from fidle_jax.train.config import Config, to_json

CONFIG = Config().replace(
    dataset="32x32-RGB", model="compact", recipe="fast", validation_fraction=0.1, crop="full"
)
RESULT = {
    "experiment": "gtsrb_cnn",
    "dataset": "32x32-RGB",
    "variant": "full",
    "recipe": "fast",
    "epochs": 13,
    "train_examples": 35219,
    "validation_examples": 3990,
    "parameters": 871979,
    "best_validation_accuracy": 0.99,
    "test_accuracy": 0.99,
    "test_loss": 0.05,
    "train_seconds": 400.0,
    "compile_seconds": 7.5,
}
FLAGS = ("crop", "recipe", "hold_out", "validation_fraction", "flips", "dropout")
FLAGS += ("width", "contrast")
# The number of held-out images depends on the seed, because whole tracks are held out.
OTHER_SPLIT = {"train_examples": 35220, "validation_examples": 3989}


@pytest.fixture
def compare(tmp_path, call):
    """``compare(*changes)`` returns the rows of runs with these changes to CONFIG and RESULT."""

    def compare(*changes, warning=""):
        for number, change in enumerate(changes):
            run = tmp_path / str(number)
            run.mkdir()
            flags = {name: value for name, value in change.items() if name in FLAGS}
            config = to_json(CONFIG.replace(seed=number, **flags))
            config |= {name: change[name] for name in change if name == "extended_from"}
            (run / "config.json").write_text(json.dumps(config))
            (run / "result.json").write_text(json.dumps(RESULT | {"seed": number} | change))
        status, out, err = call(main, *sorted(tmp_path.iterdir()))
        assert status == 0
        assert warning in err if warning else not err
        return out.splitlines()[2:]

    return compare


def test_seeds_of_one_setting_share_a_row_with_mean_deviation_and_median_seconds(compare):
    (row,) = compare({}, {"test_accuracy": 0.98, "train_seconds": 500.0, **OTHER_SPLIT})
    assert row == (
        "| gtsrb_cnn | 32x32-RGB full | fast | 13 | 35,219 | 871,979 | 2 "
        "| 98.500 ± 0.707 (99.00, 98.00) | 450 | 7.5 |"
    )


def test_cropped_images_selection_on_the_test_set_and_other_splits_have_their_own_rows(compare):
    everything = {"train_examples": 39209, "validation_examples": 0, "validation_fraction": 0}
    on_test = {"hold_out": "test", "validation_fraction": 0}
    plain, cropped, selected, whole = compare({}, {"crop": "roi"}, on_test, everything)
    assert "| 39,209 | 871,979 | 1 |" in whole
    assert "cropped" not in plain
    assert "selected" not in plain
    assert "| 32x32-RGB full cropped |" in cropped
    assert "| 99.000 (99.00), epoch selected on it |" in selected


def test_rows_that_look_the_same_have_a_column_with_the_flags_in_which_they_differ(compare):
    plain, without = compare({"flips": 0.5}, {"flips": 0.0, "dropout": (0.1, 0.2)})
    assert plain.endswith("| 99.000 (99.00) | 400 | 7.5 | --flips 0.5 |")
    assert without.endswith("| 99.000 (99.00) | 400 | 7.5 | --dropout 0.1 0.2 --flips 0.0 |")


def test_values_of_a_recipe_are_not_shown_but_others_are(compare):
    recipe = {"width": 1.5, "contrast": 1.5}
    fast, best = compare({"contrast": 1.0}, {"recipe": "best"} | recipe)
    assert "| fast |" in fast
    assert "| best |" in best
    assert "contrast" not in fast + best


def test_a_value_that_is_not_the_recipes_is_shown(compare):
    (row,) = compare({"flips": 0.5, "contrast": 1.5})
    assert row.endswith("| --contrast 1.5 |")


def test_runs_on_other_machines_are_named_and_extended_runs_have_their_own_row(compare):
    extended = {"extended_from": [6]}
    plain, more = compare({"cpu": "2 A"}, {"cpu": "1 B"}, extended, warning="in cpu: 2 A; 1 B;")
    assert "| 2 | 99.000 ± 0.000" in plain
    assert more.endswith("| --extended-from 6 |")


def test_of_many_seeds_the_range_is_shown(compare):
    (row,) = compare(*({"test_accuracy": 0.98 + k / 1000} for k in range(11)))
    assert "(98.00 to 99.00)" in row


def test_the_finished_runs_of_a_folder_are_found_once(call, trained_run, tmp_path):
    (tmp_path / "sweep" / "runs").mkdir(parents=True)
    for link in ("a", "sweep/runs/b"):
        shutil.copytree(trained_run, tmp_path / link)
    shutil.copytree(trained_run, tmp_path / "unfinished")
    (tmp_path / "unfinished" / "result.json").unlink()
    (tmp_path / "lesson").mkdir()
    (tmp_path / "lesson" / "result.json").write_text("{}")
    os.utime(tmp_path / "sweep/runs/b/result.json", (0, 0))
    done = call(main, tmp_path, tmp_path / "a")
    (row,) = done.out.splitlines()[2:]
    assert (done.status, row.split(" | ")[6]) == (0, "1")
    (warning,) = done.err.splitlines()
    repeat = f"{tmp_path / 'a'} repeats {tmp_path / 'sweep/runs/b'} (same result)"
    assert warning.endswith(f"the one that finished first counts: {repeat}")


def test_results_that_are_kept_in_a_file_give_the_same_table(call, trained_run, tmp_path):
    file = tmp_path / "kept.json"
    done = call(main, trained_run, "--write", file)
    assert (done.status, done.err) == (0, "")
    assert f"{trained_run.parent}/" not in file.read_text()
    (record,) = json.loads(file.read_text())["runs"]
    assert record["command"].startswith("python ./mnist_cnn.py --data sample")
    assert call(main, file).out.splitlines() == done.out.splitlines()[:3]
    file.write_text(file.read_text().replace('"test_accuracy": 0.', '"test_accuracy": 0.9'))
    assert "kept.json cannot be read" in call(main, file).error()


def test_the_page_of_errors_has_the_remarks(call, trained_run, tmp_path):
    remarks, page = tmp_path / "remarks.toml", tmp_path / "errors.html"
    with np.load(trained_run / "evaluation.npz") as arrays:
        wrong = np.flatnonzero(arrays["probabilities"].argmax(1) != arrays["labels"])
    remarks.write_text(f'{wrong[0]} = "a 3 or a 5"')
    done = call(main, trained_run, "--errors", page, "--remarks", remarks)
    assert (done.status, done.err) == (0, "")
    assert "a 3 or a 5" in page.read_text()
    for content in ("99999 = 'far'", "first = 'no index'", "1 = 2", "1"):
        remarks.write_text(content)
        assert call(main, trained_run, "--errors", page, "--remarks", remarks).error()
    assert "give both" in call(main, trained_run, "--remarks", remarks).error()


def test_a_damaged_run_in_a_folder_is_left_out_but_one_that_is_given_is_an_error(
    call, trained_run, tmp_path
):
    for name in ("a", "b"):
        shutil.copytree(trained_run, tmp_path / name)
    (tmp_path / "a" / "result.json").write_text("{}")
    done = call(main, tmp_path)
    assert (done.status, len(done.out.splitlines()), len(done.err.splitlines())) == (0, 3, 1)
    assert f"warning: a damaged run is left out: {tmp_path / 'a' / 'result.json'}" in done.err
    done = call(main, tmp_path, tmp_path / "a")
    assert (done.status, done.out) == (2, "")
    assert done.error().startswith(str(tmp_path / "a" / "result.json"))
    (tmp_path / "b" / "result.json").write_text("{}")
    done = call(main, tmp_path)
    assert (done.status, done.out, len(done.err.splitlines())) == (2, "", 3)
    assert "error: all runs are damaged" in done.err


def test_a_directory_that_is_no_finished_run_is_named(call, tmp_path):
    status, _, err = call(main, tmp_path)
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith(f"error: {tmp_path} is not a finished run")
    status, _, err = call(main)
    assert (status, err.count("\n")) == (2, 1)
