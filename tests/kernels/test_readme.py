import re
from pathlib import Path

import pytest

from fidle_jax import kernels
from fidle_jax.kernels import methods
from fidle_jax.kernels.releases import EXCLUDED

TEXT = (Path(kernels.__file__).parent / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("index", range(len(SNIPPETS)))
def test_a_snippet_runs_and_has_the_shapes_of_its_comments(index, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for library in ("equinox", "haiku", "keras"):
        if f"import {library}" in SNIPPETS[index]:
            monkeypatch.setenv("KERAS_BACKEND", "jax")
            pytest.importorskip(library)
    monkeypatch.setattr(methods, "_METHODS", dict(methods._METHODS))
    names = {"__name__": "snippet"}
    exec(SNIPPETS[index], names)
    for line in SNIPPETS[index].splitlines():
        if shape := re.match(r"(\w+) = .*# .*?(\(\d[\d, ]*\))$", line):
            assert str(names[shape[1]].shape) == shape[2]


def test_there_are_snippets_with_shapes():
    assert len(SNIPPETS) == 11
    assert len(re.findall(r"# .*\(\d[\d, ]*\)\n", SNIPPETS[5])) == 3


def test_the_methods_that_auto_selects_are_those_of_the_comments(capsys):
    exec(SNIPPETS[7], {})
    assert capsys.readouterr().out.split() == re.findall(r"# (\w+)$", SNIPPETS[7], re.MULTILINE)


@pytest.mark.parametrize("name", ["TestMine", "TestRmsNorm"])
def test_the_own_kernels_pass_tests_of_their_classes(name, monkeypatch):
    monkeypatch.setattr(methods, "_METHODS", dict(methods._METHODS))
    names = {"__name__": "snippet"}
    exec(next(each for each in SNIPPETS if name in each), names)
    for test in ("test_errors_in_float32", "test_calls_outside_of_jit", "test_drawn_shapes"):
        names[name].setUpClass()
        assert names[name](test).run().wasSuccessful()


def test_the_tables_have_all_methods_and_excluded_releases():
    rows = [line for line in TEXT.splitlines() if line.startswith("| `")]
    named = set(re.findall(r"`(\w+)`", " ".join(row.split("|")[1] for row in rows[1:])))
    pools = set(kernels.POOLS["max_pool"])
    assert (
        named == {"auto"} | set(kernels.conv_methods()) | set(kernels.conv_pool_methods()) | pools
    )
    for release in EXCLUDED:
        assert re.search(rf"^\| .*{re.escape(release)}\b", TEXT, re.MULTILINE)
