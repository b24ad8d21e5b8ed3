"""The READMEs: their Python snippets run, and their commands, flags and files exist."""

import ast
import contextlib
import functools
import io
import re
import runpy
import sys
import textwrap
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from fidle_jax.kernels import methods

ROOT = Path(__file__).parents[1]
READMES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in [ROOT / "README.md", *ROOT.glob("[ef]*/**/README.md")]
}
SOURCES = ("experiments", "fidle_jax", "tests")
SCRIPT = re.compile(r"(experiments/[\w/]+\.py)((?: +[^\s;&|#`]+)*)")


def code_blocks(text):
    """Return the fenced and the indented code blocks, dedented."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    indented = re.findall(r"(?<=\n\n)(?: {4}.*\n(?:\n(?= {4}))?)+", rest)
    return [textwrap.dedent(block) for block in fenced + indented]


def is_python(block):
    return re.match(r"(import|from) \w", block) is not None


SNIPPETS = [
    pytest.param(
        block,
        id=f"{name}-{number}",
        # A sweep trains several networks in processes of their own.
        marks=[pytest.mark.slow] if "sweep(" in block else [],
    )
    for name, text in READMES.items()
    for number, block in enumerate(filter(is_python, code_blocks(text)))
]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A working directory that contains the experiments."""
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(methods, "_METHODS", dict(methods._METHODS))  # a snippet registers one
    return tmp_path


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_python_snippets_run_as_printed(snippet, workplace, request):
    # Libraries of the extra "bench", and experiment trackers.
    for library in ("equinox", "haiku", "keras", "wandb", "mlflow", "aim"):
        if f"import {library}" in snippet:
            pytest.importorskip(library)
    tree = ast.parse(snippet)
    if "slurm" in snippet:  # without a cluster, only the imports can run
        imports = (ast.Import, ast.ImportFrom)
        tree.body = [statement for statement in tree.body if isinstance(statement, imports)]
    if '"photos/"' in snippet:
        _write_photos(workplace)
    for run_dir in re.findall(r'\bload\("([^"]+)"\)', snippet):
        (workplace / run_dir).symlink_to(request.getfixturevalue("trained_run"))
    exec(compile(tree, "README", "exec"), {"__name__": "readme"})


def _write_photos(folder):
    """Write two classes of small images to photos/, and one more image."""
    rng = np.random.default_rng(0)
    for index, name in enumerate(("dark", "light")):
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(100 * index, 150 + 100 * index, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{i}.png")
    Image.fromarray(pixels).save(folder / "new.jpg")


@functools.cache
def flags_of(script):
    """Return the flags that the script's --help explains."""
    output = io.StringIO()
    paths = [str((ROOT / script).parent), *sys.path]
    with (
        contextlib.redirect_stdout(output),
        mock.patch.object(sys, "argv", [script, "--help"]),
        mock.patch.object(sys, "path", paths),
        pytest.raises(SystemExit) as leave,
    ):
        runpy.run_path(str(ROOT / script), run_name="__main__")
    assert leave.value.code in (0, None)
    lines = re.findall(r"^[│\s]*((?:-h, )?--[a-z].*)$", output.getvalue(), re.MULTILINE)
    return {flag for line in lines for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", line)}


def commands():
    """Yield each script in a command of a README, with the words that follow it."""
    for name, text in READMES.items():
        inline = re.findall(r"`([^`\n]+)`", text)
        for block in (*code_blocks(text), *inline):
            if not is_python(block):
                for script, words in SCRIPT.findall(block.replace("\\\n", " ")):
                    yield name, script, words.split()


@pytest.mark.parametrize("script", sorted({script for _, script, _ in commands()}))
def test_commands_name_existing_scripts_and_flags(script):
    assert (ROOT / script).is_file()
    for name, other, words in commands():
        if other == script:
            separator = words.index("--") if "--" in words else len(words)
            check_flags(name, script, words[:separator])
            if "--" in words:  # the flags of a sweep's runs
                runs = re.search(r"--experiment (\w+)", " ".join(words))
                experiment = runs.group(1) if runs else "mnist_cnn"
                check_flags(name, f"experiments/{experiment}.py", words[separator + 1 :])


def check_flags(name, script, words):
    unknown = {word.split("=")[0] for word in words if word.startswith("--")} - flags_of(script)
    assert not unknown, f"{name}: {script} has no flags {unknown}"


@pytest.mark.parametrize("name", READMES)
def test_files_and_links_exist(name):
    text, folder = READMES[name], (ROOT / name).parent
    files = [str(path) for source in SOURCES for path in (ROOT / source).rglob("*.*")]
    files += map(str, ROOT.glob("*"))
    mentioned = re.findall(r"`([\w./-]+\.(?:py|sh|toml|tsv|md|j2))`", text)
    mentioned += re.findall(r"(?:python|pytest|bash|sbatch)[^\n`]* ([\w/]+/[\w.]+\.\w+)", text)
    missing = [each for each in mentioned if not any(f.endswith(f"/{each}") for f in files)]
    links = re.findall(r'(?:\]\(|src=")([^)"#:]+)[)"#]', text)
    missing += [link for link in links if not (folder / link).exists()]
    assert not missing


def test_the_readmes_contain_snippets_and_commands():
    assert SNIPPETS
    assert len(list(commands())) > 20
