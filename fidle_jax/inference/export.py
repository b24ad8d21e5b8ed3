"""Export a trained network to StableHLO or safetensors, with a model card and an example program.

`fidle_jax.inference.onnx_export` exports to ONNX.
"""

import functools
import json
import pprint
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import export
from jaxtyping import Array, Float, PyTree, UInt8

from fidle_jax.data import SIGN_SETS
from fidle_jax.data.signs import parse_name
from fidle_jax.inference.load import Run, map_batches, probabilities
from fidle_jax.inference.preprocess import image_kind, resize_method
from fidle_jax.nn import format_table, layer_table
from fidle_jax.nn.graph import trace_graph
from fidle_jax.report.html import load_template
from fidle_jax.report.network_page import Network
from fidle_jax.report.tables import as_text
from fidle_jax.train.config import Config, hyperparameters
from fidle_jax.train.recipes import NEUTRAL

TOLERANCE = 1e-5  # of a probability
BATCH_SIZE = 500
PLATFORMS = ("cpu", "cuda", "tpu")

# The card states these in other sections.
STATED_ELSEWHERE = ("dataset", "data", "model", "seed")

Predict = Callable[
    [UInt8[np.ndarray, "batch height width channel"]], Float[Array | np.ndarray, "batch class"]
]


def compare(
    predict: Predict,
    trained: Run,
    images: UInt8[np.ndarray, "n height width channel"],
    expected: Float[np.ndarray, "n class"],
) -> tuple[bool, str]:
    """Compare the exported network ``predict`` with the run's network on the run's test images.

    ``expected`` are the probabilities that the run stored. They are computed again at full precision if
    the run used an accelerator, which multiplies in reduced precision.

    Returns:
        Whether the predicted classes are equal and the probabilities within `TOLERANCE`, and a sentence
        for the model card.
    """
    with jax.default_matmul_precision("highest"):
        if trained.result.get("platform") != "cpu":
            expected = map_batches(trained.predict, images, BATCH_SIZE)
        found = map_batches(predict, images, BATCH_SIZE)
    difference = float(np.nan_to_num(np.abs(found - expected), nan=np.inf).max())
    others = int((found.argmax(-1) != expected.argmax(-1)).sum())
    same = (
        f"a different class for {others:,} of them" if others else "the same class for each image"
    )
    return difference <= TOLERANCE and not others, (
        f"On the run's {len(images):,} test images, the probabilities of the exported network and of the "
        f"run differ by at most {difference:.1e}, and both networks predict {same}."
    )


def metadata(trained: Run) -> dict[str, str]:
    """Return what an exported file states: the model, and as JSON its classes and image shape."""
    return {
        "model": trained.config.model.name,
        "classes": json.dumps(trained.class_names, ensure_ascii=False),
        "image_shape": json.dumps(trained.image_shape),
    }


def convert(trained: Run, format_: str) -> tuple[bytes, Predict]:
    """Return the bytes of the exported file, and a predict function loaded from these bytes."""
    if format_ == "onnx":
        from fidle_jax.inference.onnx_export import from_onnx, to_onnx

        data = to_onnx(trained)
        return data, from_onnx(data)
    if format_ == "stablehlo":
        data = to_stablehlo(trained)
        return data, from_stablehlo(data)
    data = to_safetensors(trained)
    return data, functools.partial(probabilities, trained.model, from_safetensors(data))


def to_safetensors(trained: Run) -> bytes:
    """Serialise parameters and batch statistics with names such as ``params/dense_1/kernel``."""
    import safetensors.numpy

    arrays = jax.tree.map(np.asarray, flatten_dict(trained.variables, sep="/"))
    return safetensors.numpy.save(arrays, metadata(trained))


def from_safetensors(data: bytes) -> PyTree:
    """Return the variables that `to_safetensors` serialised, as ``model.apply`` expects them."""
    import safetensors.numpy

    return unflatten_dict(safetensors.numpy.load(data), sep="/")


def to_stablehlo(trained: Run) -> bytes:
    """Serialise the function from uint8 images to probabilities with `jax.export`.

    The file contains the parameters and runs on all `PLATFORMS`, with any batch size. It uses XLA's
    convolutions, which suit all of them.
    """
    predict = functools.partial(probabilities, trained.model, trained.variables)
    shape = export.symbolic_shape(f"batch, {', '.join(map(str, trained.image_shape))}")
    # Accelerators multiply in reduced precision by default, each in its own way.
    with jax.default_matmul_precision("highest"):
        exporting = export.export(jax.jit(predict), platforms=PLATFORMS)
        exported = exporting(jax.ShapeDtypeStruct(shape, np.uint8))
    return bytes(exported.serialize())


def from_stablehlo(data: bytes) -> Predict:
    """Return the function that `to_stablehlo` serialised, compiled for the default device."""
    return jax.jit(export.deserialize(bytearray(data)).call)


def describe_network(trained: Run) -> Network:
    """Return what `fidle_jax.report.network_page.render_network` needs to know about a network.

    Raises:
        InputError: The network is neither `Compact` nor a sequence of this project's layers.
    """
    dataset = trained.config.data.dataset
    # The page may be published. It names the directory of a user's images, but not the path.
    name = Path(dataset).name if Path(dataset).is_absolute() else dataset
    return Network(
        kind=image_kind(dataset),
        name=trained.config.model.name,
        nodes=trace_graph(trained.model, trained.variables, trained.image_shape),
        layers=layer_table(trained.model, trained.image_shape),
        image_shape=trained.image_shape,
        class_names=trained.class_names,
        resize=resize_method(trained.config),
        treatment=parse_name(dataset)[1] if dataset in SIGN_SETS else None,
        result=trained.result | {"dataset": name},
    )


def model_card(
    trained: Run,
    command: str,
    format_: str,
    file: str,
    check: str,
    own: Mapping[str, Any] | None = None,
) -> str:
    """Return the model card of the exported ``file`` in Markdown.

    ``command`` started the run. ``check`` is a sentence about the comparison with the run. ``own`` is the
    description of a user's own images in config.json.

    References:
        Mitchell et al., "Model cards for model reporting" (2019).
    """
    config, result = trained.config, trained.result
    kind = image_kind(config.data.dataset)
    accuracy, examples = result["test_accuracy"], result["test_examples"]
    return load_template("model_card.md.j2", "fidle_jax.inference").render(
        kind=kind,
        sign=parse_name(config.data.dataset) if kind == "traffic sign" else None,
        config=config,
        own=own,
        folder=Path(own["path"]).name if own else "",
        how=resize_method(config),
        result=result,
        classes=trained.class_names,
        shape=", ".join(map(str, trained.image_shape)),
        layers=format_table(layer_table(trained.model, trained.image_shape)),
        settings=_settings(config),
        wrong=round(examples * (1 - accuracy)),
        error=np.sqrt(accuracy * (1 - accuracy) / examples),
        command=command,
        format=format_,
        file=file,
        check=check,
        jax_version=jax.__version__,
    )


def _settings(config: Config) -> dict[str, str]:
    """Return the settings that differ from the defaults and are not switched off."""
    usual = hyperparameters(Config()) | NEUTRAL
    return {
        name: as_text(value)
        for name, value in hyperparameters(config).items()
        if name not in STATED_ELSEWHERE and value is not None and value != usual[name]
    }


def example_program(trained: Run, format_: str, file: str) -> str:
    """Return a program that uses the exported ``file`` without this project.

    It prepares an image as `read_input` does, if its colours have 8 bits. It does not locate digits.
    """
    dataset, grey = trained.config.data.dataset, '.convert("L")'
    if dataset in SIGN_SETS:
        # The weights of scikit-image, with which the grey sets were made. Pillow's are different.
        grey = '.convert("L", (0.2125, 0.7154, 0.0721, 0))'
    treated = dataset in SIGN_SETS and parse_name(dataset)[1] not in ("RGB", "L")
    is_other = image_kind(dataset) == "image"
    return load_template(f"example_{format_}.py.j2", "fidle_jax.inference").render(
        file=file,
        how=resize_method(trained.config) if is_other else "",
        grey=grey if trained.image_shape[-1] == 1 else "",
        treated=dataset if treated else "",
        classes=pprint.pformat(trained.class_names, width=100, compact=True),
        last=layer_table(trained.model, trained.image_shape)[-1].name,
    )
