"""Networks with random parameters and batch statistics, in place of trained ones."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from fidle_jax.inference.load import Run
from fidle_jax.nn import make_model
from fidle_jax.train.config import ResolvedConfig

# Height and width differ, so that swapped axes are noticed.
SHAPES = {
    "cnn": (15, 18, 1),
    "dnn": (7, 9, 3),
    "v1": (11, 14, 3),
    "v2": (22, 25, 3),
    "v3": (13, 9, 1),
    "compact": (19, 16, 3),
    "tiny": (16, 19, 1),
}
CLASSES = 7
RESULT = {
    "experiment": "gtsrb_cnn",
    "dataset": "32x32-RGB",
    "variant": "full",
    "train_examples": 35_219,
    "validation_examples": 3_990,
    "test_examples": 12_630,
    "epochs": 13,
    "best_epoch": 12,
    "best_validation_accuracy": 0.9975,
    "test_accuracy": 0.99,
    "test_loss": 0.0421,
    "parameters": 871_979,
    "seed": 4,
    "devices": 1,
    "platform": "cpu",
    "versions": {"python": "3.11.7", "fidle-jax": "0.1.0", "jax": "0.10.2"},
}


def random_network(name: str, width: float = 1.0) -> Run:
    """Return a network of that name for images of `SHAPES`."""
    shape = SHAPES[name]
    model = make_model(name, CLASSES, shape, width=width)
    return as_trained(model, shape, ResolvedConfig().replace(model=name, width=width))


def as_trained(model, shape: tuple[int, int, int], config: ResolvedConfig) -> Run:
    """Return any network with random variables."""
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), images)
    rng = np.random.default_rng(0)
    variables = jax.tree_util.tree_map_with_path(functools.partial(_random, rng), variables)

    names = tuple(f"class {number}" for number in range(CLASSES))
    return Run(variables, model, shape, names, config, dict(RESULT), Path())


def _random(rng, path, leaf):
    name = path[-1].key
    if name == "kernel":
        # He et al. (2015). Otherwise, all probabilities would become equal, or 0 or 1.
        values = rng.normal(size=leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1]))
    elif name in ("scale", "var"):
        values = rng.uniform(0.5, 1.5, leaf.shape)
    else:
        values = rng.normal(size=leaf.shape) * 0.2
    return jnp.asarray(values, leaf.dtype)


def random_images(shape: tuple[int, int, int], count: int) -> np.ndarray:
    """Return ``count`` images of noise."""
    return np.random.default_rng(1).integers(0, 256, (count, *shape), np.uint8)
