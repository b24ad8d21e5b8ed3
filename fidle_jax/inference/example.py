"""A short program that uses an exported network without this project."""

import pprint

from fidle_jax.data import SIGN_SETS
from fidle_jax.data.signs import parse_name
from fidle_jax.inference.load import Trained
from fidle_jax.inference.model_card import kind_of, template
from fidle_jax.nn import layer_table

# Pillow's own weights of the colours are others than those the signs' grey sets were made with.
_AS_HERE = ("RGB", "L")
_GREY = {"signs": '.convert("L", (0.2125, 0.7154, 0.0721, 0))'}


def example_program(trained: Trained, format_: str, file: str) -> str:
    """The program's text; beside ``file``, an export in ``format_``, it runs as it stands."""
    dataset = trained.config.data.dataset
    grey = _GREY.get(kind_of(dataset), '.convert("L")')
    return template(f"example_{format_}.py.j2").render(
        file=file,
        grey=grey if trained.image_shape[-1] == 1 else "",
        treated=dataset if dataset in SIGN_SETS and parse_name(dataset)[1] not in _AS_HERE else "",
        classes=pprint.pformat(trained.class_names, width=100, compact=True),
        last=layer_table(trained.model, trained.image_shape)[-1].name,
    )
