"""Flax modules over the kernels, the models built of them, and the table of a model."""

from fidle_jax.nn.compact import Compact
from fidle_jax.nn.layers import BatchNorm, Conv, Dense, Dropout, Flatten, MaxPool
from fidle_jax.nn.models import CNN, DNN, MODELS, NormedCNN, make_model
from fidle_jax.nn.table import Row, format_table, layer_table

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
    "NormedCNN",
    "Row",
    "format_table",
    "layer_table",
    "make_model",
]
