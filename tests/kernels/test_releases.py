"""Releases of JAX: what the installed one computes, and how the excluded ones are reported."""

import importlib
import inspect
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import jax
import pytest
from packaging.requirements import Requirement

from fidle_jax import kernels
from fidle_jax.kernels import releases
from tests.kernels import miscompilations

ROOT = Path(__file__).parents[2]

# Runs a script as if an excluded release of JAX were installed.
WITH_RELEASE = """
import runpy, sys
import jax
jax.__version__ = sys.argv[1]
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def outcomes():
    return dict(miscompilations.run(miscompilations.PROGRAMS))


@pytest.mark.parametrize("name", miscompilations.PROGRAMS)
def test_installed_release_computes_correctly(outcomes, name):
    assert outcomes[name] == "ok"


def test_hangs_and_crashes_are_detected():
    names = ["matmul", "no_such_program"]
    hang, crash = (outcome for _, outcome in miscompilations.run(names, timeout=0.01))
    assert hang.startswith("hang: ")
    assert crash.startswith(("hang: ", "crash: "))
    assert dict(miscompilations.run(["no_such_program"]))["no_such_program"].startswith("crash: ")


def test_wrong_results_are_detected():
    def wrong():
        miscompilations.assert_equal([1.0, 2.0], [1.0, 3.0])

    assert miscompilations.outcome_of(wrong).startswith(
        "wrong: AssertionError: Mismatched elements: 1 / 2"
    )


def test_installed_release_is_not_excluded():
    assert releases.release_problem() is None


@pytest.mark.parametrize("version", ["0.9.0", "0.10.1", "0.12.0", "0.12.0.1", "0.10.20", "unknown"])
def test_other_releases_have_no_problem(version):
    assert releases.release_problem(version) is None


@pytest.mark.parametrize("suffix", ["", ".dev20260601", "+cuda12"])
@pytest.mark.parametrize("release", releases.EXCLUDED)
def test_problem_is_one_line_with_a_remedy(release, suffix):
    problem = releases.release_problem(release + suffix)
    assert problem.startswith(f"jax {release}{suffix} {releases.EXCLUDED[release]}; ")
    assert "; run: pip install " in problem
    assert "\n" not in problem


def test_pyproject_excludes_the_same_releases():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [Requirement(line) for line in project["dependencies"]]
    for extra in ("cuda", "tpu"):
        requirements += [Requirement(line) for line in project["optional-dependencies"][extra]]
    found = [requirement for requirement in requirements if requirement.name in ("jax", "jaxlib")]
    assert sorted(requirement.name for requirement in found) == ["jax", "jax", "jax", "jaxlib"]
    for requirement in found:
        assert requirement.specifier == Requirement(releases.requirement()).specifier


def test_lowest_allowed_release_supports_the_lowest_python():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11"
    assert releases.LOWEST == "0.10"  # JAX 0.10 supports Python 3.11, later releases do not


def test_excluded_jaxlib_is_reported(monkeypatch):
    release = next(iter(releases.EXCLUDED))
    monkeypatch.setattr(releases.jaxlib.version, "__version__", release)
    with pytest.warns(releases.ReleaseWarning, match=f"^jaxlib {release} "):
        releases.warn_if_excluded()


def test_usable_release_is_not_reported():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        releases.warn_if_excluded()


def test_import_warns_once(monkeypatch):
    release = next(iter(releases.EXCLUDED))
    monkeypatch.setattr(jax, "__version__", release)
    with pytest.warns(releases.ReleaseWarning, match=f"^jax {release} ") as warned:
        importlib.reload(kernels)
    assert len(warned) == 1


def test_run_prints_the_warning_once(tmp_path):
    release = next(iter(releases.EXCLUDED))
    script = ROOT / "experiments" / "mnist_cnn.py"
    # Fails after JAX is imported, before it computes anything.
    flags = ["--archives", tmp_path / "missing", "--data", "full", "--run-dir", tmp_path / "run"]
    done = subprocess.run(
        [sys.executable, "-c", WITH_RELEASE, release, script, "--data-dir", tmp_path, *flags],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PATH": "", "PYTHONPATH": f"{ROOT}:{script.parent}", "HOME": str(tmp_path)},
    )
    lines = done.stderr.splitlines()
    assert lines[0] == f"warning: {releases.release_problem(release)}"
    assert lines[1].startswith("error: ")
    assert len(lines) == 2


def test_jax_version_is_the_default():
    parameters = inspect.signature(releases.release_problem).parameters
    assert parameters["version"].default == jax.__version__
