"""The lessons at the command line."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LESSONS = ROOT / "experiments" / "lesson"
FILES = sorted(path.stem for path in LESSONS.glob("[a-z]*.py") if path.stem != "all")


def call(*words, cwd):
    command = [sys.executable, str(LESSONS / words[0]), *map(str, words[1:])]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=590)


@pytest.fixture(scope="module")
def activations(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lesson")
    return folder / "run", call("activations.py", "--run-dir", "run", cwd=folder)


def test_a_lesson_prints_its_numbers_and_says_where_its_page_is(activations):
    run_dir, done = activations
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert any(re.fullmatch(r"largest slope of the sigmoid +0\.25", line) for line in lines)
    assert lines[-1] == "Activations and their derivatives; page: run/report.html"
    assert (run_dir / "report.html").exists()


def test_it_leaves_its_flags_numbers_and_figures(activations):
    run_dir, _ = activations
    config = json.loads((run_dir / "config.json").read_text())
    assert (config["experiment"], config["layers"]) == ("lesson/activations", 10)
    assert config["command"].endswith("activations.py --run-dir run")
    result = json.loads((run_dir / "result.json").read_text())
    assert result["sigmoids_leave"] == pytest.approx(0.25**10)
    figures = {path.name for path in (run_dir / "figures").iterdir()}
    assert figures == {"activations.png", "vanishing.png"}


def test_it_never_writes_over_another_run(activations):
    run_dir, _ = activations
    before = (run_dir / "report.html").stat().st_mtime_ns
    done = call("activations.py", "--run-dir", "run", cwd=run_dir.parent)
    assert done.returncode == 2
    assert re.fullmatch(r"error: the run directory run holds another run; [^\n]*\n", done.stderr)
    assert (run_dir / "report.html").stat().st_mtime_ns == before


def test_a_wrong_flag_is_told_in_a_line_and_nothing_is_written(tmp_path):
    done = call("activations.py", "--layers", "0", cwd=tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(r"error: --layers is 0; expected [^\n]*\n", done.stderr)
    assert not list(tmp_path.iterdir())


def test_the_table_of_experiments_has_every_lesson_and_every_file_that_it_names():
    text = (ROOT / "experiments" / "README.md").read_text()
    assert {name for name in FILES if f"`lesson/{name}.py`" in text} == set(FILES)
    for file in re.findall(r"`([\w/]+\.py)`", text):
        assert (ROOT / "experiments" / file).exists(), file
    for picture in re.findall(r'src="([^"]+)"', text):
        assert (ROOT / "experiments" / picture).exists(), picture


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lessons")
    return folder / "all", call("all.py", "--run-dir", "all", cwd=folder)


@pytest.mark.slow
def test_all_of_them_run_on_a_small_budget_and_one_page_leads_to_theirs(everything):
    folder, done = everything
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.splitlines()[-1]
        == f"{len(FILES)} of {len(FILES)} lessons; page: all/report.html"
    )
    page = (folder / "report.html").read_text()
    pages = re.findall(r'href="([^"]+)"', page)
    assert sorted(path.partition("/")[0] for path in pages) == FILES
    assert all((folder / path).exists() for path in pages)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FILES, ""])
def test_its_page_opens_in_a_browser_without_errors(everything, name, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no Chromium here; install chromium to open the pages")
    page = everything[0] / name / "report.html"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    done = subprocess.run(
        [browser, *flags, "--enable-logging=stderr", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"HOME": str(tmp_path)},
    )
    assert "</html>" in done.stdout
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]


ONE_IS_MISSING = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import all as lessons
lessons.LESSONS = {"missing": lessons.Entry("", False)} | {
    "activations": lessons.LESSONS["activations"]
}
lessons.exit_with(lessons.main, "interrupted")
"""


def test_where_one_fails_the_others_run_and_it_is_named(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", ONE_IS_MISSING, str(LESSONS), "--run-dir", "all"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: missing failed; why stands above"
    assert done.stdout.splitlines()[-1] == "1 of 2 lessons; page: all/report.html"
    page = (tmp_path / "all" / "report.html").read_text()
    assert 'href="activations/report.html"' in page
    assert "failed before it began" in page
