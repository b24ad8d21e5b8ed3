"""A run is exported by one command, and the files work without this project."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fidle_jax.cli.export import main

SAME = (
    r"On the run's 1,000 test images, the probabilities of the exported network and of the run differ by at "
    r"most (\S+), and both networks predict the same class for each image\."
)


@pytest.mark.parametrize(
    "format_", ["onnx", pytest.param("stablehlo", marks=pytest.mark.slow), "safetensors"]
)
def test_the_files_describe_the_run_and_the_example_gives_its_answer(
    call, trained_run, evaluation, tmp_path, format_
):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("safetensors")
    folder = tmp_path / "deep" / format_
    done = call(main, trained_run, "--format", format_, "--output", folder)
    assert (done.status, done.err) == (0, "")
    names = {path.name for path in folder.iterdir()}
    assert names == {f"model.{format_}", "MODEL_CARD.md", "example.py"}

    first, check = done.out.splitlines()
    assert str(folder) in first
    assert float(re.fullmatch(SAME, check).group(1)) < 1e-5
    card = (folder / "MODEL_CARD.md").read_text()
    assert check in card
    result = json.loads((trained_run / "result.json").read_text())
    assert f"{100 * result['test_accuracy']:.2f} %" in card
    assert json.loads((trained_run / "config.json").read_text())["command"] in card

    image, probabilities = evaluation["images"][3], evaluation["probabilities"][3]
    Image.fromarray(image[..., 0]).save(tmp_path / "digit.png")
    images = [] if format_ == "safetensors" else [tmp_path / "digit.png"]
    printed = run_without_this_project(folder / "example.py", *images, cwd=tmp_path)
    if format_ == "safetensors":
        assert re.search(r"params/conv_1/kernel +\(3, 3, 1, 8\) +float32", printed)
    else:
        best = probabilities.argmax()
        share, name = printed.splitlines()[0].split()
        assert name == str(best)
        assert float(share.rstrip("%")) == pytest.approx(100 * probabilities[best], abs=1e-3)


def run_without_this_project(*words, cwd):
    """Run a program that can import neither fidle_jax nor modules of its own directory."""
    start = (
        "import runpy, sys; sys.modules['fidle_jax'] = None; "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-I", "-c", start, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_page_is_exported_with_a_card(call, trained_run, tmp_path):
    done = call(main, trained_run, "--format", "html", "--output", tmp_path)
    assert done.status == 0, done.err
    card = (tmp_path / "MODEL_CARD.md").read_text()
    assert "Open `model.html` in a browser." in card
    assert "the page compares itself with the run on the 10 test images it contains" in card
    assert "example.py" not in card
    assert sorted(path.name for path in tmp_path.iterdir()) == ["MODEL_CARD.md", "model.html"]
    assert (tmp_path / "model.html").stat().st_size < 1e6


def test_no_check_is_stated_on_the_card_and_an_earlier_export_is_replaced(
    call, trained_run, tmp_path
):
    pytest.importorskip("safetensors")
    (tmp_path / "model.safetensors").write_text("of an earlier export")
    words = (trained_run, "--format", "safetensors", "--output", tmp_path)
    done = call(main, *words, "--no-check")
    assert done.status == 0, done.err
    assert "not compared" in done.out
    assert "not compared" in (tmp_path / "MODEL_CARD.md").read_text()
    assert (tmp_path / "model.safetensors").stat().st_size > 4 * 42_358


def test_a_network_that_differs_from_the_run_is_not_written(
    call, trained_run, evaluation, tmp_path
):
    pytest.importorskip("onnxruntime")
    run_dir, folder = tmp_path / "run", tmp_path / "export"
    shutil.copytree(trained_run, run_dir)
    probabilities = evaluation["probabilities"].copy()
    probabilities[7] = probabilities[7][::-1]
    np.savez(run_dir / "evaluation.npz", **evaluation | {"probabilities": probabilities})
    done = call(main, run_dir, "--output", folder)
    assert done.status == 1
    warning, error = done.err.splitlines()
    assert warning.startswith("warning: evaluation.npz of the run in ")
    assert error.endswith("a different class for 1 of them.; nothing was written")
    assert not folder.exists()


def test_a_directory_with_other_files_is_not_changed(call, trained_run, tmp_path):
    (tmp_path / "notes.txt").write_text("unchanged")
    done = call(main, trained_run, "--format", "stablehlo", "--output", tmp_path)
    assert done.status == 2
    assert "notes.txt" in done.error()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_missing_extra_gives_the_command_that_installs_it(call, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = call(main, tmp_path)
    assert done.status == 2
    assert "pip install 'fidle-jax[export]'" in done.error()


@pytest.mark.parametrize(
    ("words", "expected"),
    [((), "RUN is missing"), (("run", "--format", "keras"), "--format is 'keras'")],
)
def test_bad_arguments_are_one_line(call, words, expected):
    done = call(main, *words)
    assert done.status == 2
    assert expected in done.error()


def test_every_entry_file_has_help_without_importing_jax():
    experiments = Path(__file__).parents[2] / "experiments"
    for name in ("predict", "evaluate", "explain", "export", "demo"):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", experiments / f"{name}.py", "--help"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert "--debug" in done.stdout
        assert not re.search(r"\| +(jax|matplotlib|flax)$", done.stderr, re.MULTILINE)
