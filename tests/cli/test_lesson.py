"""The command line of the lessons."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fidle_jax.cli.lesson import main
from fidle_jax.errors import InputError
from fidle_jax.lessons.flags import LESSONS
from fidle_jax.lessons.page import teach
from tests.browser import faults_on_a_phone

ROOT = Path(__file__).parents[2]
ENTRIES = ROOT / "experiments" / "lesson"


@pytest.fixture
def call(capfd, monkeypatch):
    """Run a lesson in this process. Return its exit code, stdout and stderr."""
    # Output to a captured stdout cannot be reconfigured, and tests share their compilation cache.
    monkeypatch.setattr("fidle_jax.cli.terminal._set_up_output", lambda: None)
    monkeypatch.setattr("fidle_jax.cli.terminal.enable_compilation_cache", lambda: None)

    def run(name, *words):
        with pytest.raises(SystemExit) as leave:
            main(name, list(words))
        return leave.value.code, *capfd.readouterr()

    return run


@pytest.fixture
def in_tmp_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_lesson_prints_its_key_numbers_and_writes_its_files(call, in_tmp_path):
    code, out, err = call("activations", "--run-dir", "run", "--layers", "8")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert any(re.fullmatch(r"largest slope of the sigmoid +0\.25", line) for line in lines)
    assert lines[-1] == "Activations and their derivatives; page: run/report.html"

    run_dir = in_tmp_path / "run"
    config = json.loads((run_dir / "config.json").read_text())
    assert (config["experiment"], config["layers"]) == ("lesson/activations", 8)
    command = "python experiments/lesson/activations.py --run-dir run --layers 8"
    assert config["command"] == command
    result = json.loads((run_dir / "result.json").read_text())
    assert result["gradient_after_sigmoids"] == pytest.approx(0.25**8)
    figures = {path.name for path in (run_dir / "figures").iterdir()}
    assert figures == {"activations.png", "vanishing.png"}
    page = (run_dir / "report.html").read_text()
    assert command in page

    # A second run does not overwrite the first.
    code, _, err = call("activations", "--run-dir", "run")
    assert code == 2
    assert re.fullmatch(r"error: the run directory run holds another run; [^\n]*\n", err)
    assert (run_dir / "report.html").read_text() == page


def test_a_wrong_flag_is_reported_in_one_line_and_nothing_is_written(call, in_tmp_path):
    code, _, err = call("activations", "--layers", "0")
    assert code == 2
    assert re.fullmatch(r"error: --layers is 0; it must be between 2 and 100\n", err)
    assert not list(in_tmp_path.iterdir())


def test_help_shows_the_flags_without_importing_jax_or_matplotlib():
    show = "import sys; from fidle_jax.cli.lesson import main\ntry: main('losses', ['--help'])"
    check = f"{show}\nexcept SystemExit: print({{'jax', 'matplotlib'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert "--logits" in done.stdout
    assert done.stdout.splitlines()[-1] == "set()"


def test_every_lesson_has_an_entry_file():
    assert {path.stem for path in ENTRIES.glob("*.py")} == {*LESSONS, "all"}
    for path in ENTRIES.glob("*.py"):
        assert f'main("{path.stem}")' in path.read_text()


def test_the_table_of_experiments_names_every_lesson_and_only_existing_files():
    text = (ROOT / "experiments" / "README.md").read_text()
    assert {name for name in LESSONS if f"`lesson/{name}.py`" in text} == set(LESSONS)
    for file in re.findall(r"`([\w/]+\.py)`", text):
        assert (ROOT / "experiments" / file).exists(), file
    for picture in re.findall(r'src="([^"]+)"', text):
        assert (ROOT / "experiments" / picture).exists(), picture


def test_if_a_lesson_fails_the_others_run_and_it_is_named(call, in_tmp_path, monkeypatch):
    def fail(flags):
        raise InputError("the data is missing")

    monkeypatch.setattr(
        "fidle_jax.cli.lesson.LESSONS", {name: LESSONS[name] for name in ("losses", "activations")}
    )
    monkeypatch.setattr("fidle_jax.lessons.losses.teach", fail)
    code, out, err = call("all", "--run-dir", "all")
    assert code == 1
    assert err.splitlines()[0] == "error: the data is missing"
    assert err.splitlines()[-1] == "error: losses failed; the errors are above"
    assert out.splitlines()[-1] == "1 of 2 lessons; page: all/report.html"
    page = (in_tmp_path / "all" / "report.html").read_text()
    assert 'href="activations/report.html"' in page
    assert "It failed; the terminal shows the error." in page


def test_the_prose_shows_all_figures_and_tables():
    lesson, page = teach("activations", LESSONS["activations"]())
    assert sum(len(section.shown) for section in page.sections) == len(lesson.shown)


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lessons")
    command = [sys.executable, str(ENTRIES / "all.py"), "--run-dir", "all"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=590)
    return folder / "all", done


@pytest.mark.slow
def test_all_lessons_run_on_a_small_budget_and_one_page_links_to_theirs(everything):
    folder, done = everything
    assert done.returncode == 0, done.stderr
    count = len(LESSONS)
    assert done.stdout.splitlines()[-1] == f"{count} of {count} lessons; page: all/report.html"
    pages = re.findall(r'href="([^"]+)"', (folder / "report.html").read_text())
    assert sorted(path.partition("/")[0] for path in pages) == sorted(LESSONS)
    assert all((folder / path).exists() for path in pages)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*LESSONS, ""])
def test_a_page_opens_on_a_phone_without_errors_and_barriers(everything, browser, name):
    page = everything[0] / name / "report.html"
    assert faults_on_a_phone(browser, page.read_text()) == []
