"""Image files are classified at the command line."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.inference.conftest import trained_run  # noqa: F401 - a fixture

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "predict.py"


@pytest.fixture(scope="module")
def predict(trained_run):  # noqa: F811
    """``predict(*words)``: the command, done, on the run."""

    def predict(*words, run=trained_run, **options):
        command = [sys.executable, str(EXPERIMENT), str(run), *map(str, words)]
        text = {"encoding": "utf-8", "errors": "surrogateescape"}  # as paths are decoded
        return subprocess.run(command, capture_output=True, timeout=120, **text, **options)

    return predict


@pytest.fixture(scope="module")
def digits(trained_run, tmp_path_factory):  # noqa: F811
    """A folder with 20 digits, and what the run's test took them for."""
    folder = tmp_path_factory.mktemp("digits")
    with np.load(trained_run / "evaluation.npz") as evaluation:
        images, probabilities = evaluation["images"][::50], evaluation["probabilities"][::50]
    for number, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(folder / f"{number:02d}.png")
    return folder, probabilities


def test_a_folder_is_answered_as_the_test_did_image_by_image(predict, digits):
    folder, probabilities = digits
    done = predict(folder, "--format", "json", "--top", 10)
    assert (done.returncode, done.stderr) == (0, "")
    records = json.loads(done.stdout)
    assert [record["file"] for record in records] == [f"{folder}/{n:02d}.png" for n in range(20)]
    for record, expected in zip(records, probabilities, strict=True):
        found = {answer["class"]: answer["probability"] for answer in record["classes"]}
        np.testing.assert_allclose([found[name] for name in "0123456789"], expected, atol=2e-6)
        assert list(found.values()) == sorted(found.values(), reverse=True)


def test_csv_has_a_row_for_each_image(predict, digits):
    folder, probabilities = digits
    done = predict(folder, "--format", "csv", "--top", 2)
    assert (done.returncode, done.stderr) == (0, "")
    header, *rows = csv.reader(io.StringIO(done.stdout))
    assert header == ["file", "class_1", "probability_1", "class_2", "probability_2"]
    assert [row[1] for row in rows] == [str(label) for label in probabilities.argmax(1)]
    np.testing.assert_allclose([float(row[2]) for row in rows], probabilities.max(1), atol=2e-6)


def test_the_table_is_for_people_and_what_could_not_be_read_is_told_beside_it(
    predict, digits, tmp_path
):
    folder, probabilities = digits
    (tmp_path / "broken.png").write_bytes((folder / "00.png").read_bytes()[:80])
    (tmp_path / "none").mkdir()
    Image.new("L", (50, 50), 200).save(tmp_path / "blank.png")
    done = predict(
        *(tmp_path / name for name in ("broken.png", "none", "missing.png", "blank.png")),
        folder / "00.png",
        "--top",
        1,
    )
    assert done.returncode == 1
    label = probabilities[0].argmax()
    header, line = done.stdout.splitlines()
    assert re.fullmatch(r"image +answer", header)
    assert line.split() == [
        f"{folder}/00.png",
        str(label),
        f"{100 * probabilities[0, label]:.1f}",
        "%",
    ]
    expected = (
        "none holds no",
        "broken.png is no whole",
        "missing.png cannot be",
        "blank.png: there is no digit",
    )
    for text, told in zip(expected, done.stderr.splitlines(), strict=True):
        assert told.startswith(f"error: {tmp_path}/{text}")


def test_standard_input_is_an_image_too(predict, digits):
    folder, probabilities = digits
    with (folder / "03.png").open() as stdin:
        done = predict("-", "--format", "csv", "--top", 1, stdin=stdin)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].startswith(f"-,{probabilities[3].argmax()},")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "expected a run's directory and then images: predict.py RUN IMAGE ..."),
        (("missing.png",), "missing.png cannot be read: No such file"),
        (("00.png", "--top", "11"), "--top is 11; expected 1 to 10, the number of classes"),
        (("00.png", "--format", "xml"), "invalid choice 'xml' for argument '--format'"),
        (
            ("00.png", "--sheet", "sheet.jpg"),
            "--sheet is sheet.jpg; expected a name that ends in .png",
        ),
        (
            ("00.png", "--sheet", "nowhere/sheet.png"),
            "in a folder that is not there; make it first",
        ),
        (("00.png", "--sheet", "00.png"), "--sheet: 00.png is there already; give another name"),
    ],
)
def test_where_nothing_is_answered_the_status_is_2_and_nothing_is_printed(
    predict, digits, words, expected
):
    done = predict(*words, cwd=digits[0])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert expected in done.stderr


def test_what_is_no_run_is_told(predict, digits, tmp_path):
    done = predict(digits[0], run=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"error: there is no run in [^\n]+\n", done.stderr)


def test_sheets_hold_all_images_and_overwrite_none(predict, digits, tmp_path):
    folder, _ = digits
    files = [folder / f"{n % 20:02d}.png" for n in range(121)]
    done = predict(*files, "--sheet", "sheet.png", "--format", "csv", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "sheet: sheet.png, sheet-2.png\n")
    assert len(done.stdout.splitlines()) == 122
    first, second = (Image.open(tmp_path / name) for name in ("sheet.png", "sheet-2.png"))
    assert first.width == second.width
    assert first.height > 10 * second.height
    assert predict(*files, "--sheet", "sheet.png", cwd=tmp_path).returncode == 2


def test_a_files_name_may_be_of_any_bytes(predict, digits, tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9, \n.png")
    Path(name).write_bytes((digits[0] / "00.png").read_bytes())
    done = predict(name, "missing.png", "--format", "csv", "--top", 1)
    assert done.returncode == 1
    assert [row[0] for row in csv.reader(io.StringIO(done.stdout))] == ["file", name]
    assert done.stderr == "error: missing.png cannot be read: No such file or directory\n"
