"""The program beside an export is whole, and makes of an image what the run's data set did."""

import ast
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from fidle_jax.data.signs import treat
from fidle_jax.inference.example import example_program
from tests.inference.random_networks import random_network

FORMATS = ("onnx", "stablehlo", "safetensors")


def _program(network: str, dataset: str, format_: str) -> str:
    trained = random_network(network)
    config = trained.config.replace(dataset=dataset)
    return example_program(trained._replace(config=config), format_, f"model.{format_}")


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(("network", "dataset"), [("v3", "24x24-L"), ("dnn", "tfds:cifar10")])
def test_every_program_is_python_that_imports_nothing_of_this_project(network, dataset, format_):
    program = _program(network, dataset, format_)
    modules = {
        name
        for node in ast.walk(ast.parse(program))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else _names(node))
    }
    assert modules <= {
        "json",
        "sys",
        "pathlib",
        "numpy",
        "PIL",
        "onnxruntime",
        "jax",
        "safetensors",
    }
    assert f'"model.{format_}"' in program


def _names(node):
    return [each.name for each in node.names]


@pytest.mark.parametrize("format_", FORMATS[:2])
@pytest.mark.parametrize(("network", "dataset"), [("v3", "24x24-L"), ("compact", "32x32-RGB")])
def test_photographs_of_signs_become_what_the_runs_set_holds(network, dataset, format_, tmp_path):
    photograph = np.random.default_rng(0).integers(0, 256, (61, 47, 3), np.uint8)
    Image.fromarray(photograph).save(tmp_path / "sign.png")
    size, treatment = int(dataset[:2]), dataset.split("-")[1]
    found = _image_of(_program(network, dataset, format_), tmp_path / "sign.png", size)
    expected = treat(photograph, size, treatment)
    difference = np.abs(found.astype(int) - expected.squeeze())
    assert difference.max() <= 1  # Pillow rounds elsewhere


def _image_of(program: str, file, size: int) -> np.ndarray:
    """What the program's lines about the image make of a file."""
    lines = [line for line in program.splitlines() if line.startswith("image = ")]
    names = {"Image": Image, "sys": SimpleNamespace(argv=["", file]), "width": size, "height": size}
    exec("\n".join(lines), names)
    return np.asarray(names["image"])


@pytest.mark.parametrize("format_", FORMATS[:2])
def test_what_the_program_does_not_do_to_an_image_it_says(format_):
    assert "48x48-RGB-HE" in _program("compact", "48x48-RGB-HE", format_)
    assert "treated further" not in _program("compact", "48x48-RGB", format_)


def test_the_layer_computed_by_hand_is_the_last():
    assert "params/dense_3/kernel" in _program("dnn", "mnist", "safetensors")
    assert "params/dense_2/kernel" in _program("compact", "32x32-RGB", "safetensors")
