"""Runs are evaluated and compared at the command line."""

import json
import re

import pytest

from fidle_jax.cli.evaluate import main
from tests.cli.conftest import files_of
from tests.trained import train_sample


def numbers_of(run_dir):
    return json.loads((run_dir / "evaluation.json").read_text())


@pytest.mark.slow
def test_an_evaluation_has_its_numbers_tables_and_figures(call, trained_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = files_of(trained_run)
    done = call(main, trained_run, "--run-dir", "out", "--corrupted-examples", 100)
    assert (done.status, done.err) == (0, "")
    assert files_of(trained_run) == before

    found, result = numbers_of(tmp_path / "out"), (trained_run / "result.json").read_text()
    result = json.loads(result)
    assert (found["dataset"], found["variant"], found["examples"]) == ("mnist", "sample", 1000)
    (accuracy,) = found["accuracy"]
    assert accuracy["accuracy"] == pytest.approx(result["test_accuracy"])
    assert accuracy["interval"][0] < accuracy["accuracy"] < accuracy["interval"][1]
    assert f"{100 * accuracy['accuracy']:.2f} %" in done.out

    first, second = found["calibration"]
    assert first["nll"] == pytest.approx(result["test_loss"], abs=1e-4)
    assert first["temperature"] == 1 != second["temperature"]
    # On other examples than the hold-out set, it need not be better, but it is hardly worse.
    assert second["nll"] < first["nll"] + 0.01

    corruptions = {each["corruption"]: each for each in found["robustness"]}
    assert list(corruptions) == ["shift", "rotation", "noise", "blur", "contrast"]
    assert all(each["examples"] == 100 for each in corruptions.values())
    assert all(len(each["accuracy"]) == 6 for each in corruptions.values())
    assert corruptions["shift"]["accuracy"][-1] < 0.9
    assert [each["batch_size"] for each in found["speed"]] == [1, 8, 64, 512]
    assert all(0 < each["milliseconds"] <= each["slow_milliseconds"] for each in found["speed"])

    assert done.out.splitlines()[-1] == "page: out/report.html"
    figures = {path.stem for path in (tmp_path / "out" / "figures").iterdir()}
    assert figures == {"reliability", "robustness", "corruptions"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('src="data:image/png;base64,') == len(figures)
    assert not re.search(r'(src|href)="(?!data:)', page)

    before = files_of(tmp_path / "out")
    done = call(main, trained_run, "--run-dir", "out")
    assert done.status == 2
    assert done.error().startswith("the run directory out ")
    assert files_of(tmp_path / "out") == before


@pytest.mark.slow
def test_two_runs_are_compared_on_the_same_examples(call, trained_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ("--epochs", "1", "--validation-fraction", "0")
    train_sample(tmp_path / "dnn", *flags, experiment="mnist_dnn")
    words = ("--run-dir", "out", "--no-latency", "--corrupted-examples", 0)
    done = call(main, trained_run, "dnn", *words)
    assert (done.status, done.err) == (0, "")
    found = numbers_of(tmp_path / "out")
    first, second = (each["correct"] for each in found["accuracy"])
    (compared,) = found["comparison"]
    assert compared["both"] + compared["only_first"] == first
    assert compared["both"] + compared["only_second"] == second
    assert compared["p_value"] < 0.05
    figures = {path.stem for path in (tmp_path / "out" / "figures").iterdir()}
    assert figures == {"only_first", "only_second", "reliability"}
    assert "note: No temperature was fitted for B (dnn): the run has no hold-out set" in done.out
    states = [each["state"] for each in found["calibration"] if each["network"] == "B (dnn)"]
    assert states == ["as trained"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "got 0 runs; expected one or two; give the directories of finished runs"),
        (("a", "b", "c"), "got 3 runs"),
        (("missing",), "there is no run in missing"),
        (("RUN", "--dataset", "mnits"), "unknown dataset 'mnits'; did you mean mnist"),
        (("a", "--corrupted-examples", "-1"), "--corrupted-examples is -1; it must be at least 0"),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_written(
    call, trained_run, tmp_path, monkeypatch, words, message
):
    monkeypatch.chdir(tmp_path)
    words = [trained_run if word == "RUN" else word for word in words]
    done = call(main, *words, "--run-dir", "out")
    assert (done.status, done.out) == (2, "")
    assert message in done.error()
    assert not list(tmp_path.iterdir())
