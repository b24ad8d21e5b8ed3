"""The kernels need only JAX and its dependencies."""

import ast
import os
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from fidle_jax.kernels import arrays
from tests.kernels import miscompilations

ROOT = Path(__file__).parents[2]
KERNELS = ROOT / "fidle_jax" / "kernels"
# The tests of a user's method need the extra "test".
WITH_EXTRA = {"checks", "comparison", "drawn", "testing"}
MODULES = sorted(path.stem for path in KERNELS.glob("*.py") if path.stem not in WITH_EXTRA)


def imported_packages(path):
    """Return the packages that a module imports, except in a ``try`` block."""
    tree = ast.parse(path.read_text())
    optional = {
        id(each) for node in ast.walk(tree) if isinstance(node, ast.Try) for each in node.body
    }
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and id(node) not in optional:
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and id(node) not in optional:
            names.add(node.module)
    return names


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_jax_numpy_and_the_kernels(name):
    names = imported_packages(KERNELS / f"{name}.py")
    own = {each for each in names if each.startswith("fidle_jax")}
    assert all(each.split(".")[1] == "kernels" for each in own)
    assert not {each.rpartition(".")[2] for each in own} & WITH_EXTRA
    packages = {each.partition(".")[0] for each in names - own}
    allowed = {"jax", "jaxlib", "numpy"} | ({"jaxtyping"} if name == "arrays" else set())
    assert packages - set(sys.stdlib_module_names) <= allowed


def test_the_script_of_miscompilations_imports_only_jax_and_numpy():
    names = imported_packages(Path(miscompilations.__file__))
    packages = {each.partition(".")[0] for each in names}
    assert packages - set(sys.stdlib_module_names) == {"jax", "numpy"}


def test_the_annotations_are_plain_arrays_without_jaxtyping(monkeypatch):
    monkeypatch.setitem(sys.modules, "jaxtyping", None)  # importing it raises an ImportError
    module = runpy.run_path(arrays.__file__)
    for name in ("Images", "Kernel", "Output", "Argmax", "AnyImages"):
        assert module[name] is jax.Array


@pytest.mark.slow
def test_installing_without_dependencies_next_to_jax_is_enough_for_the_kernels(tmp_path):
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    pip = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, f"jax=={jax.__version__}"], check=True)
    subprocess.run([*pip, "--no-deps", ROOT], check=True)
    program = (
        "import jax.numpy as jnp\n"
        "from fidle_jax import kernels\n"
        "x, w = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 4))\n"
        "print(kernels.conv_pool(x, w).shape, kernels.max_pool(x).shape)\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=environment,
    )
    assert done.stdout == "(2, 3, 3, 4) (2, 4, 4, 3)\n"
