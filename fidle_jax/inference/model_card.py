"""The model card of an exported network: what it is, what it was measured on, what it is not for.

After Mitchell et al., "Model cards for model reporting" (2019).
"""

from pathlib import PurePath
from typing import Any

import jax
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, UndefinedError

from fidle_jax.data import SIGN_SETS, TFDS_PREFIX
from fidle_jax.data.signs import parse_name
from fidle_jax.errors import InputError
from fidle_jax.inference.load import Trained
from fidle_jax.nn import format_table, layer_table
from fidle_jax.train.config import Config, hyperparameters
from fidle_jax.train.recipes import NEUTRAL

# What `fidle_jax.data.signs` does to a photograph, in words.
_TREATMENTS = {
    "RGB": "in colour",
    "RGB-HE": "in colour, the histogram of its value (of hue, saturation and value) equalised",
    "L": "grey (0.2125 red + 0.7154 green + 0.0721 blue)",
    "L-HE": "grey, its histogram equalised",
    "L-LHE": "grey, the histogram of each pixel's neighbourhood (a disk of radius 10) equalised",
    "L-CLAHE": "grey, by contrast limited adaptive histogram equalisation (scikit-image's defaults)",
}
# Said elsewhere on the card.
_NO_SETTINGS = ("dataset", "data", "model", "seed")


def model_card(
    trained: Trained, command: str, format_: str, file: PurePath | str, check: str
) -> str:
    """The card, in Markdown.

    Args:
        trained: the network.
        command: that made the run.
        format_: onnx, stablehlo or safetensors.
        file: the exported file's name.
        check: what came of comparing it with the run, a sentence.

    Raises:
        InputError: the run's result lacks something that a card says.
    """
    result = trained.result
    try:
        accuracy, examples = result["test_accuracy"], result["test_examples"]
        return template("model_card.md.j2").render(
            **_inputs(trained.config.data.dataset, trained.config.data.crop),
            config=trained.config,
            result=result,
            classes=trained.class_names,
            shape=", ".join(map(str, trained.image_shape)),
            layers=format_table(layer_table(trained.model, trained.image_shape)),
            settings=_settings(trained.config),
            wrong=round(examples * (1 - accuracy)),
            error=np.sqrt(accuracy * (1 - accuracy) / examples),
            command=command,
            format=format_,
            file=str(file),
            check=check,
            jax_version=jax.__version__,
        )
    except (KeyError, UndefinedError) as error:
        raise InputError(
            f"the run's result.json lacks what a model card says ({error}); run it again"
        ) from error


def template(name: str):
    """The template of that file name, for text in which nothing is escaped."""
    environment = Environment(
        loader=PackageLoader("fidle_jax.inference", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name)


def kind_of(dataset: str) -> str:
    """What images of a data set show: digits, signs or, as far as is known here, other things."""
    if dataset in SIGN_SETS:
        return "signs"
    # TFDS takes a version after a colon.
    return "digits" if dataset.removeprefix(TFDS_PREFIX).split(":")[0] == "mnist" else "other"


def _inputs(dataset: str, crop: str | None) -> dict[str, str]:
    words = {"kind": kind_of(dataset), "crop": "", "size": "", "treatment": ""}
    if words["kind"] == "signs":
        size, treatment = parse_name(dataset)
        words["size"], words["treatment"] = f"{size}x{size}", _TREATMENTS[treatment]
        margin = " with a margin of about a tenth of its size around it"
        words["crop"] = ", cropped to the sign" if crop == "roi" else margin
    return words


def _settings(config: Config) -> dict[str, str]:
    """What was set, but for what is switched off or as it always is."""
    usual = hyperparameters(Config()) | NEUTRAL
    return {
        name: _in_words(value)
        for name, value in hyperparameters(config).items()
        if name not in _NO_SETTINGS and value is not None and value != usual[name]
    }


def _in_words(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_in_words, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
