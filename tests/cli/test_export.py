"""A finished run's network leaves the project, by one command, and answers outside as it did within."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.inference.conftest import trained_run  # noqa: F401 - a fixture

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "export.py"
FILES = {"onnx": "model.onnx", "stablehlo": "model.stablehlo", "safetensors": "model.safetensors"}
SAME = r"^On the run's 1,000 test images .* differ by (\S+) at most .* the same class for each\.$"


def _export(*words, **environment):
    return subprocess.run(
        [sys.executable, EXPERIMENT, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
    )


SLOW = pytest.param("stablehlo", marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=["onnx", SLOW, "safetensors"])
def exported(request, trained_run, tmp_path_factory):  # noqa: F811
    """(format, run's directory, export's folder, what was printed) for each format."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("safetensors")
    folder = tmp_path_factory.mktemp("exports") / "deep" / request.param
    done = _export(trained_run, "--format", request.param, "--output", folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return request.param, trained_run, folder, done.stdout


def test_the_folder_holds_the_file_a_card_and_an_example_and_nothing_else(exported):
    format_, _, folder, _ = exported
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted([FILES[format_], "MODEL_CARD.md", "example.py"])


def test_all_test_images_were_compared_and_the_figures_are_printed_and_on_the_card(exported):
    _, _, folder, printed = exported
    first, check = printed.splitlines()
    assert str(folder) in first
    assert float(re.match(SAME, check).group(1)) < 1e-5
    assert check in (folder / "MODEL_CARD.md").read_text()


def test_the_card_has_the_runs_accuracy_and_command(exported):
    _, run_dir, folder, _ = exported
    card = (folder / "MODEL_CARD.md").read_text()
    result = json.loads((run_dir / "result.json").read_text())
    assert f"{100 * result['test_accuracy']:.2f} %" in card
    assert json.loads((run_dir / "config.json").read_text())["command"] in card


def test_the_example_runs_where_this_project_is_not_and_answers_as_the_run(exported, tmp_path):
    format_, run_dir, folder, _ = exported
    with np.load(run_dir / "evaluation.npz") as evaluation:
        image, probabilities = evaluation["images"][3], evaluation["probabilities"][3]
    Image.fromarray(image[..., 0]).save(tmp_path / "digit.png")
    done = _without_this_project(folder / "example.py", tmp_path / "digit.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    if format_ == "safetensors":
        assert re.search(r"params/conv_1/kernel +\(3, 3, 1, 8\) +float32", done.stdout)
    else:
        likeliest = probabilities.argmax()
        share, name = done.stdout.splitlines()[0].split()
        assert name == str(likeliest)
        assert float(share.rstrip("%")) == pytest.approx(100 * probabilities[likeliest], abs=1e-3)


def _without_this_project(program, image, cwd):
    """Runs the program in a Python that sees neither PYTHONPATH nor its folder, nor can import fidle_jax."""
    start = (
        "import runpy, sys; sys.modules['fidle_jax'] = None; "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    words = [program] if "safetensors" in str(program) else [program, image]
    return subprocess.run(
        [sys.executable, "-I", "-c", start, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
    )


def test_no_check_is_said_on_the_card_and_an_earlier_export_makes_way(
    trained_run,  # noqa: F811
    tmp_path,
):
    pytest.importorskip("safetensors")
    (tmp_path / "model.safetensors").write_text("of an earlier export")
    words = (trained_run, "--format", "safetensors", "--output", tmp_path)
    done = _export(*words, "--no-check")
    assert done.returncode == 0, done.stderr
    assert "not compared" in done.stdout
    assert "not compared" in (tmp_path / "MODEL_CARD.md").read_text()
    assert (tmp_path / "model.safetensors").stat().st_size > 4 * 42_358


def test_a_network_that_answers_otherwise_than_the_run_is_not_written(
    trained_run,  # noqa: F811
    tmp_path,
):
    pytest.importorskip("onnxruntime")
    run_dir, folder = tmp_path / "run", tmp_path / "export"
    shutil.copytree(trained_run, run_dir)
    with np.load(run_dir / "evaluation.npz") as evaluation:
        arrays = dict(evaluation)
    arrays["probabilities"][7] = arrays["probabilities"][7][::-1]
    np.savez(run_dir / "evaluation.npz", **arrays)
    done = _export(run_dir, "--output", folder)
    assert done.returncode == 1
    assert _one_line(done.stderr).endswith("another class for 1.; nothing is written")
    assert not folder.exists()


def test_a_folder_with_other_files_is_left_as_it_is(trained_run, tmp_path):  # noqa: F811
    (tmp_path / "notes.txt").write_text("kept")
    done = _export(trained_run, "--format", "stablehlo", "--output", tmp_path)
    assert done.returncode == 2
    assert "notes.txt" in _one_line(done.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_missing_extra_is_one_line_that_says_how_to_install_it(tmp_path):
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('it is not there')")
    done = _export(tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert "pip install 'fidle-jax[export]'" in _one_line(done.stderr)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ((), "finished run"),
        (("run", "--format", "keras"), "keras"),
    ],
)
def test_bad_arguments_are_one_line(words, named):
    done = _export(*words)
    assert done.returncode == 2
    assert named in _one_line(done.stderr).lower()


def _one_line(text: str) -> str:
    (line,) = text.splitlines()
    assert line.startswith("error: ")
    return line
