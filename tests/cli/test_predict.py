"""Image files are classified at the command line."""

import csv
import dataclasses
import io
import json
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from fidle_jax.cli.predict import main
from fidle_jax.inference import load


@pytest.fixture(scope="module")
def digits(evaluation, tmp_path_factory):
    """A folder with 20 digits, and their probabilities in the test of the run."""
    folder = tmp_path_factory.mktemp("digits")
    for number, image in enumerate(evaluation["images"][::50]):
        Image.fromarray(image[..., 0]).save(folder / f"{number:02d}.png")
    return folder, evaluation["probabilities"][::50]


@pytest.fixture
def predict(call, trained_run):
    return lambda *words, run=trained_run: call(main, run, *words)


def test_a_folder_has_the_probabilities_of_the_test_for_each_image(predict, digits):
    folder, probabilities = digits
    done = predict(folder, "--format", "json", "--top", 10)
    assert (done.status, done.err) == (0, "")
    records = json.loads(done.out)
    assert [record["file"] for record in records] == [f"{folder}/{n:02d}.png" for n in range(20)]
    for record, expected in zip(records, probabilities, strict=True):
        found = {answer["class"]: answer["probability"] for answer in record["classes"]}
        np.testing.assert_allclose([found[name] for name in "0123456789"], expected, atol=2e-6)
        assert list(found.values()) == sorted(found.values(), reverse=True)


def test_csv_has_a_row_for_each_image(predict, digits):
    folder, probabilities = digits
    done = predict(folder, "--format", "csv", "--top", 2)
    assert (done.status, done.err) == (0, "")
    header, *rows = csv.reader(io.StringIO(done.out))
    assert header == ["file", "class_1", "probability_1", "class_2", "probability_2"]
    assert [row[1] for row in rows] == [str(label) for label in probabilities.argmax(1)]
    np.testing.assert_allclose([float(row[2]) for row in rows], probabilities.max(1), atol=2e-6)


def test_the_table_lists_readable_images_and_each_other_one_gives_an_error(
    predict, digits, tmp_path
):
    folder, probabilities = digits
    (tmp_path / "broken.png").write_bytes((folder / "00.png").read_bytes()[:80])
    (tmp_path / "none").mkdir()
    Image.new("L", (50, 50), 200).save(tmp_path / "blank.png")
    names = ("none", "broken.png", "missing.png", "blank.png")
    done = predict(*(tmp_path / name for name in names), folder / "00.png", "--top", 1)
    assert done.status == 1
    label = probabilities[0].argmax()
    header, _, line = done.out.splitlines()
    assert re.fullmatch(r"image +answer", header)
    share = f"{100 * probabilities[0, label]:.1f}"
    assert line.split() == [f"{folder}/00.png", str(label), share, "%"]
    expected = (
        "{} has no image files",
        "{} is damaged",
        "cannot read {}:",
        "{}: no digit found",
    )
    for name, text, error in zip(names, expected, done.err.splitlines(), strict=True):
        assert error.startswith(f"error: {text.format(tmp_path / name)}")


def test_standard_input_is_an_image(predict, digits, monkeypatch):
    folder, probabilities = digits
    content = io.BytesIO((folder / "03.png").read_bytes())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=content))
    done = predict("-", "--format", "csv", "--top", 1)
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines()[1].startswith(f"-,{probabilities[3].argmax()},")


def test_a_closed_standard_input_is_an_error(predict, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    done = predict("-")
    assert (done.status, done.out) == (2, "")
    assert done.error().startswith("standard input is closed; pass an image to it")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "the images are missing; give one or more images"),
        (("missing.png",), "cannot read missing.png: No such file"),
        (("00.png", "--top", "11"), "--top is 11; expected 1 to 10, the number of classes"),
        (("00.png", "--format", "xml"), "--format is 'xml'; (known: table, csv, json)"),
        (
            ("00.png", "--sheet", "sheet.jpg"),
            "--sheet is sheet.jpg; expected a name that ends in .png",
        ),
        (
            ("00.png", "--sheet", "nowhere/sheet.png"),
            "the folder of --sheet nowhere/sheet.png does not exist; create it first",
        ),
        (("00.png", "--sheet", "00.png"), "--sheet: 00.png exists; give another name"),
    ],
)
def test_wrong_input_is_one_line_and_status_2_and_prints_nothing(
    predict, digits, monkeypatch, words, expected
):
    monkeypatch.chdir(digits[0])
    done = predict(*words)
    assert (done.status, done.out) == (2, "")
    assert expected in done.error()


def test_a_directory_without_a_run_is_an_error(predict, digits, tmp_path):
    done = predict(digits[0], run=tmp_path)
    assert (done.status, done.out) == (2, "")
    assert done.error().startswith("there is no run in ")


def test_a_sheet_shows_the_first_images_and_is_never_overwritten(
    predict, digits, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    files = [digits[0] / f"{n % 20:02d}.png" for n in range(121)]
    done = predict(*files, "--sheet", "sheet.png", "--format", "csv")
    assert (done.status, done.err) == (0, "sheet: sheet.png with 120 of 121 images\n")
    assert len(done.out.splitlines()) == 122
    with Image.open("sheet.png") as sheet:
        assert sheet.height > sheet.width
    assert predict(*files, "--sheet", "sheet.png").status == 2


NASTY = "\x1b]0;title\x07\u202e.png"


def test_control_characters_of_names_reach_the_terminal_only_escaped(predict, digits, tmp_path):
    path = tmp_path / NASTY
    path.write_bytes((digits[0] / "00.png").read_bytes())
    for done in (predict(path), predict(tmp_path / f"missing{NASTY}")):
        assert r"\x1b]0;title\x07\u202e.png" in done.out + done.err
        assert not set("\x1b\x07\u202e") & set(done.out + done.err)


@pytest.mark.parametrize(
    "name", ["\x1b]0;title\x07", "lone \ud800", "a" * 2_000_000], ids=["control", "lone", "long"]
)
def test_classes_may_have_any_names(predict, trained_run, digits, tmp_path, monkeypatch, name):
    trained = load.load(trained_run)
    monkeypatch.setattr(
        load, "load", lambda _: dataclasses.replace(trained, class_names=(name,) * 10)
    )
    path = tmp_path / NASTY
    path.write_bytes((digits[0] / "00.png").read_bytes())
    done = predict(path, "--format", "csv", "--sheet", tmp_path / "sheet.png")
    assert done.status == 0, done.err
    assert "Glyph" not in done.err
    assert (tmp_path / "sheet.png").exists()
    done.out.encode()


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_cells_of_csv_do_not_start_a_formula(predict, digits, tmp_path, monkeypatch, start):
    monkeypatch.chdir(tmp_path)
    Path(f"{start}1+1.png").write_bytes((digits[0] / "00.png").read_bytes())
    done = predict("." if start == "-" else f"{start}1+1.png", "--format", "csv")
    name = done.out.splitlines()[1].split(",")[0]
    assert name == f"'{start}1+1.png"


def test_a_file_name_may_contain_any_bytes(predict, digits, tmp_path, monkeypatch):
    # Files are decoded as paths are.
    bytes_out = io.BytesIO()
    stdout = io.TextIOWrapper(bytes_out)
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9, \n.png")
    Path(name).write_bytes((digits[0] / "00.png").read_bytes())
    monkeypatch.setattr(sys, "stdout", stdout)
    done = predict(name, "missing.png", "--format", "csv", "--top", 1)
    assert done.status == 1
    text = os.fsdecode(bytes_out.getvalue())
    assert [row[0] for row in csv.reader(io.StringIO(text))] == ["file", name]
    assert done.error() == "cannot read missing.png: No such file or directory"


@pytest.fixture
def labelled(evaluation, tmp_path):
    """A folder with 20 test images in class folders, and an image of an unknown class."""
    for row in range(0, 1000, 50):
        folder = tmp_path / str(evaluation["labels"][row])
        folder.mkdir(exist_ok=True)
        Image.fromarray(evaluation["images"][row, ..., 0]).save(folder / f"{row}.png")
    (tmp_path / "cat").mkdir()
    Image.fromarray(evaluation["images"][0, ..., 0]).save(tmp_path / "cat" / "0.png")
    return tmp_path


def test_the_accuracy_on_class_folders_follows_the_table(predict, evaluation, labelled):
    done = predict(labelled)
    assert (done.status, done.err) == (0, "")
    labels, predicted = evaluation["labels"][::50], evaluation["probabilities"][::50].argmax(1)
    correct = int((labels == predicted).sum())
    assert f"accuracy: {5 * correct:.2f} % ({correct} of 20 images; 95 % confidence" in done.out
    assert "not counted: 1 in folders that are no classes of the network (cat)" in done.out


def test_labels_are_a_column_and_the_accuracy_is_no_part_of_the_data(predict, labelled):
    as_csv = predict(labelled, "--format", "csv", "--top", 1)
    rows = list(csv.DictReader(io.StringIO(as_csv.out)))
    assert all(row["label"] == Path(row["file"]).parent.name for row in rows)
    records = json.loads(predict(labelled, "--format", "json").out)
    assert [row["label"] for row in records] == [row["label"] for row in rows]
    assert len(rows) == 21
    assert "accuracy: " in as_csv.err
