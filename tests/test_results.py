"""The results in the READMEs: each number is that of kept runs, or its line says that they are not kept."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from fidle_jax.cli.parse import parse_flags
from fidle_jax.report.html import rounded
from fidle_jax.report.tables import TEST, average_over_seeds, percent, read_runs
from fidle_jax.sweep.plan import load_defaults
from fidle_jax.train.config import hyperparameters, resolve

ROOT = Path(__file__).parents[1]
README, EXPERIMENTS = ROOT / "README.md", ROOT / "experiments" / "README.md"
TRIALS = ROOT / "experiments" / "TRIALS.md"
RESULT = re.compile(r"(\d+\.(\d+))(?: ± [\d.]+)? %")
KEPT = re.compile(r"\]\(([\w/]*results/\w+\.json)\)")
SEEDS = re.compile(r"\(seeds? (\d+)(?:( to | and )(\d+))?\)")
COMMAND = re.compile(r"`(\w+)\.py (.*?) --seed N`")


def kept_row(path):
    """Return the average over the seeds of a file of results, and the seeds."""
    runs = read_runs([path])
    (row,) = average_over_seeds(runs).to_dict("records")
    return pd.Series(row), sorted(runs["seed"])


def tables(text):
    """Yield the paragraph before each Markdown table, and its rows as dictionaries."""
    for before, head, body in re.findall(
        r"((?:^(?!\|).+\n)*)\n?^\|(.+)\|\n\|[ |-]+\|\n((?:\|.+\n)+)", text, re.MULTILINE
    ):
        names = [name.strip() for name in head.split("|")]
        cells = ([cell.strip() for cell in line[1:-2].split(" |")] for line in body.splitlines())
        yield before, [dict(zip(names, row, strict=False)) for row in cells]


def faults(row, folder):
    """Return the cells of a row of results that differ from its kept runs."""
    found = KEPT.search(row["runs"])
    if not found:
        return [] if "not kept" in row["runs"] else [f"no runs: {row}"]
    kept, seeds = kept_row(folder / found[1])
    number = RESULT.search(row["test accuracy"])
    stated = SEEDS.search(row["test accuracy"])
    assert number, row
    assert stated, row
    listed = [int(seed) for seed in (stated[1], stated[3]) if seed]
    if stated[2] == " to ":
        listed = [*range(listed[0], listed[1] + 1)]
    expected = {"test accuracy": f"{percent(kept, TEST, len(number[2]))} %"}
    expected |= {"seconds": rounded(kept["train_seconds"]), "parameters": f"{kept['parameters']:,}"}
    actual = row | {"test accuracy": number[0]}
    different = [
        f"{name} is {actual[name]}, kept: {value}"
        for name, value in expected.items()
        if name in row and actual[name] != value
    ]
    different += [] if listed == seeds else [f"seeds are {stated[0]}, kept: {seeds}"]
    if command := COMMAND.search(row.get("command", "")):
        flags = flags_of(command[1], command[2].split())
        different += [
            f"{name} is {value} with {command[0]}, kept: {kept['flags'][name]}"
            for name, value in flags.items()
            if kept["flags"][name] != value
        ]
    return different


def flags_of(experiment, words):
    """Return the flags of a command with its recipe, without the seed."""
    config = parse_flags("", load_defaults(ROOT / "experiments" / f"{experiment}.py"), words)
    flags = hyperparameters(resolve(config, "full"))
    del flags["seed"]
    return flags


@pytest.mark.parametrize("path", [README, EXPERIMENTS], ids=["README", "experiments"])
def test_tables_of_results_agree_with_the_kept_runs(path):
    checked = 0
    for before, rows in tables(path.read_text()):
        if "runs" in rows[0]:
            assert [fault for row in rows for fault in faults(row, path.parent)] == []
            checked += len(rows)
        elif any("test" in name for name in rows[0]):
            assert "runs not kept" in before, f"{before}: name the kept runs"
    assert checked >= 3


@pytest.mark.parametrize(
    "path", [README, EXPERIMENTS, TRIALS], ids=["README", "experiments", "trials"]
)
def test_means_in_the_text_are_those_of_kept_runs(path):
    rows = [kept_row(file)[0] for file in (ROOT / "experiments" / "results").glob("*.json")]
    text = re.sub(r"^\|.*", "", path.read_text(), flags=re.MULTILINE)
    for number, decimals in re.findall(r"(\d+\.(\d+)\s±\s[\d.]+)\s%", text):
        values = [percent(row, TEST, len(decimals)) for row in rows]
        assert " ".join(number.split()) in values


def test_a_wrong_number_is_found():
    row = {"test accuracy": "85.83 ± 0.68 % (seeds 0 to 2)", "seconds": "48.9"}
    row |= {"parameters": "42,358", "runs": "[results](results/fashion_cnn.json)"}
    folder = EXPERIMENTS.parent
    assert faults(row, folder) == []
    wrong = {
        "test accuracy": "85.83 ± 0.66 % (seeds 0 and 1)",
        "seconds": "48",
        "parameters": "42,359",
    }
    assert len(faults(row | wrong, folder)) == 4
    command = "`mnist_cnn.py --recipe fast --label-smoothing 0.2 --validation-fraction 0 --seed N`"
    row = {"test accuracy": "99.22 ± 0.07 % (seeds 0 to 29)", "command": command}
    row["runs"] = "[results](results/mnist_fast.json)"
    (fault,) = faults(row, folder)
    assert fault.startswith("label_smoothing is 0.2 with ")
    assert len(faults(row | {"runs": "kept somewhere"}, folder)) == 1


def test_each_file_of_results_has_one_setting_and_is_in_a_table():
    files = sorted((ROOT / "experiments" / "results").glob("*.json"))
    shown = KEPT.findall(EXPERIMENTS.read_text())
    assert [file.name for file in files] == sorted({Path(name).name for name in shown})
    for file in files:
        runs = read_runs([file])
        assert len(average_over_seeds(runs)) == 1
        records = json.loads(file.read_text())["runs"]
        assert len({record["seed"] for record in records}) == len(records)
        for record in records:
            correct = record["test_accuracy"] * record["test_examples"]
            assert correct == pytest.approx(round(correct), abs=1e-6)
            assert record["hold_out"] != "test"
            assert f"--seed {record['seed']}" in record["command"] or record["seed"] == 0
