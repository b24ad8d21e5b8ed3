"""The evaluation at the command line."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.inference.conftest import finished_run

pytestmark = pytest.mark.slow

FILE = Path(__file__).parents[2] / "experiments" / "evaluate.py"


def call(*words, cwd):
    command = [sys.executable, str(FILE), *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def run(tmp_path_factory, compilation_cache):
    return finished_run(tmp_path_factory)


def files_of(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def evaluated(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    before = files_of(run)
    done = call(run, "--run-dir", "out", "--corrupted-examples", 100, cwd=folder)
    assert files_of(run) == before
    return folder / "out", done


def numbers_of(run_dir):
    return json.loads((run_dir / "evaluation.json").read_text())


def test_accuracy_and_loss_are_those_of_the_runs_own_test(run, evaluated):
    run_dir, done = evaluated
    assert (done.returncode, done.stderr) == (0, "")
    found, result = numbers_of(run_dir), json.loads((run / "result.json").read_text())
    assert (found["dataset"], found["variant"], found["examples"]) == ("mnist", "sample", 1000)
    accuracy = found["accuracy"]["cnn"]
    assert accuracy["accuracy"] == pytest.approx(result["test_accuracy"])
    assert accuracy["loss"] == pytest.approx(result["test_loss"], abs=1e-4)
    low, high = accuracy["interval"]
    assert low < accuracy["accuracy"] < high
    assert f"{100 * accuracy['accuracy']:.2f} %" in done.stdout


def test_the_temperature_is_fitted_and_changes_no_answer(evaluated):
    before, after = numbers_of(evaluated[0])["calibration"]["cnn"].values()
    assert (before["temperature"], after["temperature"] != 1) == (1, True)
    # On other examples than it was fitted on it need not be better, but hardly worse.
    assert after["nll"] < before["nll"] + 0.01
    right = [
        sum(
            count * share
            for count, share in zip(each["bins"]["counts"], each["bins"]["accuracy"], strict=True)
            if count
        )
        for each in (before, after)
    ]
    assert right[0] == pytest.approx(right[1])


def test_corruptions_and_speed_have_their_numbers(evaluated):
    found = numbers_of(evaluated[0])
    assert found["robustness"]["examples"] == 100
    corruptions = found["robustness"]["corruptions"]
    assert list(corruptions) == ["shift", "rotation", "noise", "blur", "contrast"]
    assert all(len(each["accuracy"]["cnn"]) == 5 for each in corruptions.values())
    assert corruptions["shift"]["accuracy"]["cnn"][-1] < 0.9
    assert [each["batch_size"] for each in found["speed"]["cnn"]] == [1, 8, 64, 512]
    assert all(0 < each["seconds"] <= each["slow_seconds"] for each in found["speed"]["cnn"])


def test_it_leaves_a_page_with_its_figures(evaluated):
    run_dir, done = evaluated
    assert done.stdout.splitlines()[-1] == "page: out/report.html"
    figures = {path.stem for path in (run_dir / "figures").iterdir()}
    assert figures == {"reliability", "robustness", "corruptions"}
    page = (run_dir / "report.html").read_text()
    assert page.count('src="data:image/png;base64,') == 3
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_it_never_writes_over_another(run, evaluated):
    run_dir, _ = evaluated
    before = files_of(run_dir)
    done = call(run, "--run-dir", "out", cwd=run_dir.parent)
    assert done.returncode == 2
    assert re.fullmatch(r"error: the run directory out holds other files; [^\n]*\n", done.stderr)
    assert files_of(run_dir) == before


@pytest.fixture(scope="module")
def other(tmp_path_factory, compilation_cache):
    """A run without convolutions on the same digits, which held none out."""
    run_dir = tmp_path_factory.mktemp("other") / "dnn"
    flags = ("--data", "sample", "--epochs", 1, "--validation-fraction", 0, "--run-dir", run_dir)
    command = [sys.executable, str(FILE.with_name("mnist_dnn.py")), *map(str, flags)]
    subprocess.run(command, capture_output=True, check=True, timeout=300)
    return run_dir


BRIEF = ("--no-latency", "--corrupted-examples", 0)


@pytest.mark.slow
def test_two_runs_are_compared_on_the_same_examples(run, other, tmp_path):
    done = call(run, other, "--run-dir", "out", *BRIEF, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    found = numbers_of(tmp_path / "out")
    first, second = (found["accuracy"][name]["right"] for name in ("A (cnn)", "B (dnn)"))
    compared = found["comparison"]
    assert compared["both"] + compared["only_first"] == first
    assert compared["both"] + compared["only_second"] == second
    assert compared["p_value"] < 0.05
    assert {path.stem for path in (tmp_path / "out" / "figures").iterdir()} == {
        "only_first",
        "only_second",
        "reliability",
    }
    assert "note: The temperature of B (dnn) is left out: it held nothing out" in done.stdout
    assert list(found["calibration"]["B (dnn)"]) == ["as_trained"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "0 runs were given; expected the directory of a finished run, or of two"),
        (("a", "b", "c"), "3 runs were given"),
        (("missing",), "there is no run in missing"),
        (("RUN", "--dataset", "mnits"), "unknown dataset 'mnits'; did you mean mnist"),
        (("a", "--corrupted-examples", "-1"), "--corrupted-examples is -1; expected 0 or more"),
    ],
)
def test_what_is_wrong_is_told_in_a_line_and_nothing_is_written(run, tmp_path, words, message):
    words = [run if word == "RUN" else word for word in words]
    done = call(*words, "--run-dir", "out", cwd=tmp_path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
    assert message in done.stderr
    assert not list(tmp_path.iterdir())
