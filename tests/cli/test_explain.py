"""Predictions are explained at the command line."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from fidle_jax.cli.explain import main

METHODS = ("answer", "saliency", "integrated_gradients", "grad_cam", "occlusion", "layers")


@pytest.mark.slow
def test_the_page_has_all_figures_and_the_numbers_agree_with_the_run(
    call, trained_run, evaluation, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(evaluation["images"][3, :, :, 0]).save("digit.png")
    words = ("digit.png", "--test", 0, "--target", 8, "--run-dir", "page")
    done = call(main, trained_run, *words)
    assert (done.status, done.err) == (0, "")
    *answers, last = done.out.splitlines()
    assert [line.split(":")[0] for line in answers] == ["digit.png", "test example 0"]
    assert all(re.fullmatch(r".*: \d, \d+\.\d %", line) for line in answers)
    assert last == "page: page/report.html"

    page = tmp_path / "page"
    figures = {f"{method}_{number}.png" for method in METHODS for number in (1, 2)}
    assert {path.name for path in (page / "figures").iterdir()} == figures
    html = (page / "report.html").read_text()
    assert html.count("data:image/png;base64,") == len(figures)
    assert html.count("What not to conclude: ") == len(METHODS)

    drawn, example = json.loads((page / "explanation.json").read_text())["images"]
    label, probabilities = evaluation["labels"][0], evaluation["probabilities"][0]
    assert (drawn["truth"], example["truth"]) == (None, str(label))
    np.testing.assert_allclose(list(example["probabilities"].values()), probabilities, atol=1e-5)
    assert example["answer"] == str(probabilities.argmax()) != example["target"] == "8"
    sums = example["integrated_gradients"]
    assert sums["sum"] == pytest.approx(sums["difference"], rel=0.05)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "there is no image; give image files, or --test with an example's index"),
        (("missing.png",), "cannot read missing.png: No such file or directory"),
        (("words.png",), "words.png is not an image"),
        (("blank.png",), "blank.png: no digit found"),
        (("--test", "1000000"), "--test is 1000000; it must be between 0 and 999"),
        (("--test", "0", "--target", "10"), "unknown class of --target '10'; "),
        (("--test", "0", "--target", 5000 * "1"), "unknown class of --target '111"),
        (("--test", "x"), "--test is 'x'; it must be a whole number"),
        (("--test", "0", "--run-dir", "taken"), "the run directory taken "),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_written(
    call, trained_run, tmp_path, monkeypatch, words, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.png").write_text("no image")
    Image.new("L", (40, 40), "white").save("blank.png")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    done = call(main, trained_run, *words)
    assert (done.status, done.out) == (2, "")
    assert message in done.error()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_directory_without_a_run_is_an_error(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call(main, "nothing", "--test", 0)
    assert (done.status, done.out) == (2, "")
    assert done.error().startswith("there is no run in nothing; ")
