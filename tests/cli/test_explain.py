"""The command line that explains answers."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.inference.conftest import finished_run

pytestmark = pytest.mark.slow

EXPLAIN = Path(__file__).parents[2] / "experiments" / "explain.py"
METHODS = ("answer", "saliency", "integrated_gradients", "grad_cam", "occlusion", "layers")


@pytest.fixture(scope="module")
def run(tmp_path_factory, compilation_cache):
    return finished_run(tmp_path_factory)


def call(*words, cwd):
    command = [sys.executable, str(EXPLAIN), *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def explained(run, tmp_path_factory):
    """A page of an image file and of test example 0, on the class 8, and what was printed."""
    folder = tmp_path_factory.mktemp("explain")
    with np.load(run / "evaluation.npz") as evaluation:
        Image.fromarray(evaluation["images"][3, :, :, 0]).save(folder / "digit.png")
    words = ("digit.png", "--test", 0, "--target", 8, "--run-dir", "page")
    return folder / "page", call(run, *words, cwd=folder)


def test_it_says_each_answer_and_where_the_page_is(explained):
    page, done = explained
    assert (done.returncode, done.stderr) == (0, "")
    *answers, last = done.stdout.splitlines()
    assert [line.split(":")[0] for line in answers] == ["digit.png", "test example 0"]
    assert all(re.fullmatch(r".*: \d, \d+\.\d %", line) for line in answers)
    assert last == "page: page/report.html"
    assert page.joinpath("report.html").exists()


def test_it_leaves_the_page_with_all_figures(explained):
    page, _ = explained
    figures = {f"{method}_{number}.png" for method in METHODS for number in (1, 2)}
    assert {path.name for path in (page / "figures").iterdir()} == figures | {"kernels.png"}
    html = (page / "report.html").read_text()
    assert html.count("data:image/png;base64,") == len(figures) + 1
    assert html.count("What not to conclude: ") == len(METHODS) + 1


def test_it_leaves_the_numbers(explained, run):
    page, _ = explained
    drawn, example = json.loads((page / "explanation.json").read_text())["images"]
    with np.load(run / "evaluation.npz") as evaluation:
        label, probabilities = evaluation["labels"][0], evaluation["probabilities"][0]
    assert (drawn["truth"], example["truth"]) == (None, str(label))
    np.testing.assert_allclose(list(example["probabilities"].values()), probabilities, atol=1e-5)
    assert example["answer"] == str(probabilities.argmax()) != example["target"] == "8"
    sums = example["integrated_gradients"]
    assert sums["error"] == pytest.approx(sums["sum"] - sums["difference"], abs=1e-5)
    assert abs(sums["error"]) < 0.05 * abs(sums["difference"])
    assert example["grad_cam"]["layer"] == "conv_2"


def make_files(folder):
    (folder / "words.png").write_text("no image")
    Image.new("L", (40, 40), "white").save(folder / "blank.png")
    (folder / "taken").mkdir()
    (folder / "taken" / "file").touch()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "there is no image; give image files, or --test with an example's number"),
        (("missing.png",), "missing.png cannot be read: No such file or directory"),
        (("words.png",), "words.png is no "),
        (("blank.png",), "blank.png: "),
        (("--test", "1000000"), "--test is 1000000; expected 0 to "),
        (("--test", "0", "--target", "10"), "unknown class of --target '10'; "),
        (("--test", "x"), "Error parsing --test"),
        (("--test", "0", "--run-dir", "taken"), "the run directory taken holds other files; "),
    ],
)
def test_what_is_wrong_is_told_in_a_line_and_nothing_is_written(run, tmp_path, words, message):
    make_files(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    done = call(run, *words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"error: [^\n]*\n", done.stderr)
    assert message in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_is_no_run_is_told_in_a_line(tmp_path):
    done = call("nothing", "--test", 0, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"error: there is no run in nothing: [^\n]*\n", done.stderr)
