"""The preparation of the traffic signs as a person meets it, on small archives."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SMALL = """
import runpy, sys, time, types
sys.path.insert(0, {data_tests!r})
import made_up_gtsrb
from fidle_jax.data import gtsrb, gtsrb_photos, signs
made_up_gtsrb.install(types.SimpleNamespace(setattr=setattr))
gtsrb.EXAMPLES = made_up_gtsrb.EXAMPLES
signs.NAMES, signs.MIRRORED = signs.NAMES[:2], {{0: 1, 1: 0}}
gtsrb_photos.CHUNK = 8
"""
PAUSE_HALF_WAY = """
whole = gtsrb.each_photo
def each_photo(*args, **settings):
    for number, photo in enumerate(whole(*args, **settings)):
        if number == 10:
            print("half-way", flush=True, file=sys.__stdout__)
            time.sleep(60)
        yield photo
gtsrb.each_photo = each_photo
"""
START = """
sys.path.insert(0, {experiments!r})
sys.argv = ["experiments/gtsrb_prepare.py", *sys.argv[1:]]
runpy.run_path({script!r}, run_name="__main__")
"""


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    sys.path.append(str(Path(__file__).parents[1] / "data"))
    import made_up_gtsrb

    folder = tmp_path_factory.mktemp("archives")
    made_up_gtsrb.write(folder, made_up_gtsrb.members())
    return folder


def start(*flags, pause=""):
    code = (SMALL + START).replace(
        "\nsys.path.insert(0, {exp", f"{pause}\nsys.path.insert(0, {{exp"
    )
    code = code.format(
        data_tests=str(Path(__file__).parents[1] / "data"),
        experiments=str(EXPERIMENTS),
        script=str(EXPERIMENTS / "gtsrb_prepare.py"),
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, flags)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "80", "FIDLE_JAX_ARCHIVES": ""},
    )


def call(*flags):
    """Of the file itself, for what is found before any archive is read."""
    return subprocess.run(
        [sys.executable, EXPERIMENTS / "gtsrb_prepare.py", *map(str, flags)],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "80", "FIDLE_JAX_ARCHIVES": ""},
        timeout=120,
    )


def write_run(folder, dataset="24x24-L", seed=0, **changes):
    folder.mkdir()
    config = {"dataset": dataset, "model": "v1", "hold_out": "examples", "seed": seed} | changes
    result = {"dataset": dataset, "epochs": 2, "seed": seed}
    result |= {"best_validation_accuracy": 0.99, "test_accuracy": 0.9}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def test_help_names_the_courses_eight_sets():
    done = call("--help")
    assert done.returncode == 0
    words = " ".join(done.stdout.replace("│", " ").split())
    assert (
        "24x24-L 24x24-RGB 48x48-L 48x48-RGB 24x24-L-LHE 24x24-RGB-HE 48x48-L-LHE 48x48-RGB-HE"
    ) in words


def test_each_set_has_a_line_and_the_page_is_written(archives, tmp_path):
    report = tmp_path / "pages" / "signs.html"
    flags = ("--archives", archives, "--data-dir", tmp_path / "data", "--report", report)
    sets = ("--datasets", "24x24-L", "32x32-RGB-HE", "24x24-L")
    run = write_run(tmp_path / "run")
    process = start(*flags, *sets, "--runs", run)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    first, second, third, last = out.splitlines()
    shape = r": prepared in \d+\.\d s, \d+ MB, read in \d+\.\d s$"
    assert re.match("24x24-L" + shape, first)
    assert re.match("32x32-RGB-HE" + shape, second)
    assert third.startswith("24x24-L: prepared already, ")
    assert last.startswith(f"page: {report} (")
    assert err.count("\n") == 1
    assert err.startswith("warning: GTSRB_Final_Training_Images.zip, ")
    page = report.read_text()
    assert page.count("<img") > 10
    assert "99.00\N{NO-BREAK SPACE}%" in page


def test_an_interrupt_is_one_line_and_status_130_and_no_set_is_half_prepared(archives, tmp_path):
    data_dir = tmp_path / "data"
    flags = ("--archives", archives, "--data-dir", data_dir, "--report", tmp_path / "p.html")
    process = start(*flags, "--datasets", "24x24-L", pause=PAUSE_HALF_WAY)
    assert process.stdout.readline() == "half-way\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    warning, line = err.splitlines()
    assert warning.startswith("warning: ")
    assert line.startswith("interrupted; the same command goes on")
    assert out == ""
    assert not list((data_dir / "fidle_gtsrb" / "24x24-L").iterdir())
    assert not (tmp_path / "p.html").exists()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--datasets", "24x24-RBG"], "unknown data set '24x24-RBG'; did you mean 24x24-RGB"),
        (["--crop", "rio"], "did you mean roi"),
        (["--dataset", "24x24-L"], "Unrecognized options: --dataset"),
        (["--archives", "no/such/folder"], "no/such/folder"),
        (["--runs", "no/run"], "no/run is no run directory"),
        (["--report", "."], "the page . cannot be written (Is a directory)"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(flags, named, tmp_path):
    report = [] if "--report" in flags else ["--report", tmp_path / "p.html"]
    done = call(*flags, *report, "--data-dir", tmp_path / "data")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert named in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_runs_that_cannot_stand_side_by_side_are_refused_before_anything_is_read(tmp_path):
    digits = write_run(tmp_path / "digits", dataset="mnist")
    done = call("--runs", digits)
    assert done.returncode == 2
    assert done.stderr == f"error: {digits} is of mnist; give --runs of traffic signs\n"
    plain, weighted = (
        write_run(tmp_path / kind, seed=seed, class_weights=kind)
        for seed, kind in enumerate(("none", "inverse"))
    )
    done = call("--runs", plain, weighted)
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"error: {weighted} (--class-weights inverse) and {plain} (--class-weights none) would share"
    )
    assert done.stderr.count("\n") == 1


def test_debug_shows_the_traceback(tmp_path):
    done = call("--crop", "rio", "--debug")
    assert (done.returncode, "Traceback" in done.stderr) == (2, True)
