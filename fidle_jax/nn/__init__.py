"""Flax layers over the kernels, models built from them, and the table of a model.

Importing this package is fast: JAX is imported when one of its names is used.
"""

import importlib
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from fidle_jax.nn.adapted import adapt
    from fidle_jax.nn.layers import BatchNorm, Conv, Dense, Dropout, Flatten, MaxPool
    from fidle_jax.nn.models import CNN, DNN, MODELS, Compact, NormedCNN, make_model
    from fidle_jax.nn.table import Row, format_table, layer_table

ModelName = Literal["cnn", "compact", "compact_small", "dnn", "small", "tiny", "v1", "v2", "v3"]

__all__ = [
    "CNN",
    "DNN",
    "MODELS",
    "BatchNorm",
    "Compact",
    "Conv",
    "Dense",
    "Dropout",
    "Flatten",
    "MaxPool",
    "ModelName",
    "NormedCNN",
    "Row",
    "adapt",
    "format_table",
    "layer_table",
    "make_model",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in ("layers", "models", "table", "adapted"):
            members = vars(importlib.import_module(f"fidle_jax.nn.{module}"))
            if name in members:
                return members[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
