"""A run writes what the design promises, and nothing if its input is wrong."""

import csv
import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from fidle_jax.errors import InputError
from fidle_jax.report import write_report
from fidle_jax.train import run as run_module
from fidle_jax.train.config import ResolvedConfig
from fidle_jax.train.loop import NotFinite
from fidle_jax.train.run_dir import read_result

PROMISED = {
    "experiment",
    "dataset",
    "variant",
    "crop",
    "hold_out",
    "train_examples",
    "validation_examples",
    "test_examples",
    "parameters",
    "epochs",
    "steps",
    "seed",
    "parallel",
    "devices",
    "processes",
    "platform",
    "test_accuracy",
    "test_loss",
    "best_validation_accuracy",
    "compile_seconds",
    "train_seconds",
    "images_per_second",
    "versions",
}


@pytest.fixture
def quick_compilation():
    """Compile with few optimizations."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.usefixtures("quick_compilation")
def test_a_run_directory_is_complete(run, tmp_path, capsys):
    result = run(model="cnn", epochs=8, learning_rate=0.01)
    write_report(tmp_path / "run")
    found = {path.name for path in (tmp_path / "run").iterdir()}
    assert found >= {
        "config.json",
        "metrics.csv",
        "result.json",
        "checkpoints",
        "tensorboard",
        "figures",
        "report.html",
    }
    assert read_result(tmp_path / "run") == result
    assert set(result) >= PROMISED
    assert (result["train_examples"], result["validation_examples"]) == (81, 9)
    assert (result["test_examples"], result["steps"]) == (31, 8 * 6)
    assert result["test_accuracy"] > 0.9
    assert len(list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))) == 8
    printed = capsys.readouterr().out
    assert "(None, 10, 10, 8)" in printed
    assert "8·(1·3·3 + 1) = 80" in printed
    assert "recipe: course" in printed


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (
            {"recipe": "small"},
            "the recipe small was selected for the network small, not for dnn; give --model small",
        ),
        ({"recipe": "course"}, None),
        ({"recipe": "fast", "model": "cnn"}, None),
    ],
)
def test_a_recipe_that_was_selected_for_another_network_is_named(run, caplog, flags, expected):
    run(epochs=0, **flags)
    found = [line for line in caplog.messages if "was selected for" in line]
    assert found == ([f"{expected}, or another --recipe"] if expected else [])


def test_the_test_split_is_read_once_after_the_training(run, squares, tmp_path, monkeypatch):
    reads = []

    def read(split):
        reads.append((split, (tmp_path / "run" / "checkpoints").exists()))
        return squares.read(split)

    dataset = dataclasses.replace(squares, read=read)
    monkeypatch.setattr(run_module, "load_dataset", lambda *_, **__: dataset)
    run()
    assert reads == [("train", False), ("test", True)]


def test_two_runs_with_one_seed_are_bit_identical_and_another_seed_differs(run, tmp_path):
    probabilities = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(run_dir=tmp_path / name, seed=seed)
        with np.load(tmp_path / name / "evaluation.npz") as arrays:
            probabilities.append(arrays["probabilities"])
    np.testing.assert_array_equal(probabilities[0], probabilities[1])
    assert np.abs(probabilities[0] - probabilities[2]).max() > 1e-4


def test_micro_batches_give_the_result_of_whole_batches(run, tmp_path):
    whole, parts = run(run_dir=tmp_path / "whole"), run(run_dir=tmp_path / "parts", accumulate=3)
    assert parts["test_loss"] == pytest.approx(whole["test_loss"], abs=1e-3)
    assert (parts["parallel"], parts["devices"]) == ("jit", jax.device_count())


def test_bfloat16_gives_nearly_the_same_result(run, tmp_path):
    whole, half = (
        run(run_dir=tmp_path / dtype, compute_dtype=dtype, epochs=6)
        for dtype in ("float32", "bfloat16")
    )
    assert half["test_loss"] != whole["test_loss"]
    assert half["test_loss"] == pytest.approx(whole["test_loss"], rel=0.1)


def test_augmented_images_and_class_weights_are_recorded(run, tmp_path):
    run(epochs=1, shift=1.0, class_weights="inverse")
    with np.load(tmp_path / "run" / "augmented.npz", allow_pickle=False) as arrays:
        assert arrays["versions"].shape == (31, 12, 12, 1)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["class_weights"] == "inverse"


def test_the_recipe_decides_the_crop_and_the_run_prints_it(
    run, squares, tmp_path, monkeypatch, capsys
):
    asked = []

    def load(*_, crop, **__):
        asked.append(crop)
        return squares

    monkeypatch.setattr(run_module, "load_dataset", load)
    signs = {"dataset": "32x32-RGB", "recipe": "fast", "flips": 0.0, "epochs": 0}
    results = [run(run_dir=tmp_path / str(name), crop=name, **signs) for name in (None, "full")]
    assert asked == [result["crop"] for result in results] == ["roi", "full"]
    assert capsys.readouterr().out.count("cropped to the sign") == 1


def test_without_validation_all_data_is_trained_on_and_the_last_epoch_is_used(run):
    result = run(validation_fraction=0.0)
    assert (result["train_examples"], result["validation_examples"]) == (90, 0)
    assert (result["best_validation_accuracy"], result["best_epoch"]) == (None, 2)


@pytest.mark.parametrize("loader", ["memory", "stream"])
def test_the_epoch_can_be_selected_on_the_test_set_and_the_run_prints_it(run, capsys, loader):
    result = run(hold_out="test", epochs=4, learning_rate=0.01, loader=loader)
    assert (result["train_examples"], result["validation_examples"]) == (90, 31)
    assert result["test_accuracy"] == result["best_validation_accuracy"]
    assert "the test set for selecting the epoch" in capsys.readouterr().out


@pytest.mark.parametrize("loader", ["memory", "stream"])
def test_a_fraction_of_the_training_data_is_the_same_for_every_seed(
    run, tmp_path, monkeypatch, loader
):
    kept, hold_out = [], run_module.hold_out

    def keep(split, config):
        parts = hold_out(split, config)
        images = [
            image for each in parts for image in each.read_images(np.arange(len(each.labels)))
        ]
        kept.append(sorted(image.tobytes() for image in images))
        return parts

    monkeypatch.setattr(run_module, "hold_out", keep)
    for seed in (0, 1):
        how = {"seed": seed, "epochs": 1, "batch_size": 8, "loader": loader}
        result = run(scale=0.4, run_dir=tmp_path / str(seed), **how)
        assert result["train_examples"] + result["validation_examples"] == 36
        assert result["test_examples"] == 31
    assert len(kept[0]) == 36
    assert kept[0] == kept[1]


def test_a_fraction_of_photographs_consists_of_whole_tracks(squares):
    split = squares.read("train")
    grouped = dataclasses.replace(
        split, groups=np.arange(90, dtype=np.int32) // 9 * 3 + split.labels
    )
    config = ResolvedConfig().replace(scale=0.5, validation_fraction=0.0)
    part, _ = run_module.hold_out(grouped, config)
    whole = {group: (grouped.groups == group).sum() for group in part.groups}
    assert all((part.groups == group).sum() == count for group, count in whole.items())
    assert len(part.labels) == pytest.approx(45, abs=9)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(run):
    with pytest.raises(NotFinite, match="not finite at step"):
        run(learning_rate=1e20, optimizer="sgd")


def test_zero_epochs_test_the_untrained_network(run):
    result = run(epochs=0)
    assert (result["steps"], result["best_epoch"]) == (0, 0)


def test_resuming_a_finished_run_changes_nothing(run, tmp_path, capsys):
    result = run()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    assert run(resume=True) == result
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before
    assert "is finished; nothing was changed" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["flip", "empty", "delete"])
@pytest.mark.parametrize("name", ["result.json", "metrics.csv", "model.json", "layers.npz"])
def test_resuming_a_finished_run_with_a_damaged_file_writes_it_again(
    run, tmp_path, capsys, caplog, damage, name
):
    result, path = run(), tmp_path / "run" / name
    content = path.read_bytes()
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes(content.replace(b"0", b"1") if damage == "flip" else b"")
    again = run(resume=True)
    assert (again["test_loss"], again["best_epoch"]) == (result["test_loss"], result["best_epoch"])
    if name != "result.json":  # it contains times
        assert path.read_bytes() == content
    assert f"{name} changed since" in caplog.text
    run(resume=True)
    assert "is finished; nothing was changed" in capsys.readouterr().out


def test_checkpoints_of_another_run_are_refused(run, tmp_path):
    run(run_dir=tmp_path / "other", seed=1)
    run()
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    shutil.copytree(tmp_path / "other" / "checkpoints", tmp_path / "run" / "checkpoints")
    (tmp_path / "run" / "report.html").unlink()
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(InputError, match=r"all checkpoints .* are damaged"):
        run(resume=True)


@pytest.mark.parametrize("name", ["result.json", "config.json"])
def test_the_result_belongs_to_the_config(run, tmp_path, name):
    run(run_dir=tmp_path / "other", seed=1)
    run()
    shutil.copy(tmp_path / "other" / name, tmp_path / "run" / name)
    with pytest.raises(
        InputError, match=r"result.json cannot be read \(its content does not match"
    ):
        read_result(tmp_path / "run")


def test_options_of_jax_that_change_random_numbers_are_refused(run):
    jax.config.update("jax_threefry_partitionable", False)
    try:
        with pytest.raises(InputError, match="JAX_THREEFRY_PARTITIONABLE is False"):
            run()
    finally:
        jax.config.update("jax_threefry_partitionable", True)


def test_a_damaged_run_without_checkpoints_is_not_trained_again(run, tmp_path):
    run()
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    (tmp_path / "run" / "metrics.csv").write_text("")
    with pytest.raises(InputError, match="has no checkpoint to repair it; start again in another"):
        run(resume=True)


def test_a_run_killed_before_its_report_is_finished_by_resuming(run, tmp_path):
    result = run()
    for name in ("report.html", "result.json"):
        (tmp_path / "run" / name).unlink()
    again = run(resume=True)
    for key in ("test_accuracy", "test_loss", "best_epoch", "train_seconds"):
        assert again[key] == result[key]
    assert (tmp_path / "run" / "report.html").exists()


def test_resuming_with_other_settings_is_an_error_that_names_them(run):
    run()
    with pytest.raises(InputError, match=r"settings: --seed 3 \(the run has 0\); leave"):
        run(seed=3, resume=True, loader="stream", debug=True)


def test_a_run_never_overwrites_another(run, tmp_path):
    run()
    before = (tmp_path / "run" / "result.json").read_bytes()
    with pytest.raises(InputError, match="holds another run"):
        run(seed=9)
    assert (tmp_path / "run" / "result.json").read_bytes() == before


def test_wrong_input_is_reported_before_the_data_is_read(run, squares, monkeypatch):
    def read(split):
        raise AssertionError("the data was read")

    dataset = dataclasses.replace(squares, read=read)
    monkeypatch.setattr(run_module, "load_dataset", lambda *_, **__: dataset)
    with pytest.raises(InputError, match=r"--batch-size is 1; it must be at least 2"):
        run(batch_size=1)
    with pytest.raises(InputError, match="expected 2 rates"):
        run(dropout=(0.1,))
    with pytest.raises(InputError, match=r"--flips is 0.5; it must be 0"):
        run(flips=0.5)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"batch_size": 82}, "--batch-size is 82; it must be at most 81"),
        ({"batch_size": 10**6}, "--batch-size is 1000000; it must be at most 81"),
        ({"dropout": (0.1,)}, "expected 2 rates"),
        ({"optimizer": "adm"}, "did you mean adam"),
        ({"devices": 1000}, "--devices is 1000; it must be at most"),
        (
            {"accumulate": 17},
            f"at least {17 * jax.device_count()}, one example for each of {jax.device_count()} devices",
        ),
    ],
)
def test_wrong_input_leaves_the_run_directory_untouched(run, tmp_path, flags, named):
    with pytest.raises(InputError, match=named):
        run(**flags)
    assert not (tmp_path / "run").exists()
