"""Convolutional networks of the Fidle course in functional JAX.

import fidle_jax as fj

data = fj.load_data("photos/")
run = fj.train(data, model="compact", epochs=10)
run = fj.load(run.run_dir)
"""

import importlib
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fidle_jax import train
    from fidle_jax.inference.interface import load_data
    from fidle_jax.inference.load import load

__all__ = ["load", "load_data", "train"]
__version__ = "0.1.0"


class CallablePackage(types.ModuleType):
    """The class of the package `fidle_jax.train`, which is also a function."""

    def __call__(self, data: Any, /, **settings: Any) -> Any:
        """Train a network. The docstring of `fidle_jax.train` describes the arguments."""
        from fidle_jax.inference.interface import train

        return train(data, **settings)


def __getattr__(name: str) -> Any:
    # Importing this package must be fast, so JAX is only imported here.
    if name == "train":
        return importlib.import_module("fidle_jax.train")
    if name in __all__:
        module = "interface" if name == "load_data" else "load"
        return getattr(importlib.import_module(f"fidle_jax.inference.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
