"""Recipes: settings that belong together. A flag that is given replaces a recipe's value."""

from collections.abc import Mapping
from typing import Any

from fidle_jax.data import SIGN_SETS, is_own

Settings = dict[str, Any]

DIGITS: dict[str, Settings] = {
    # The course's setting for the full set (sequence 2, notebooks MNIST1 and MNIST2).
    "course": {
        "epochs": 16,
        "batch_size": 512,
        "learning_rate": 1e-3,
        "optimizer": "adam",
        "schedule": "constant",
    },
    # The fewest epochs whose mean validation accuracy is at least 99 %.
    "fast": {
        "epochs": 2,
        "batch_size": 256,
        "learning_rate": 2e-2,
        "optimizer": "muon",
        "schedule": "cosine",
        "label_smoothing": 0.1,
        "dropout": (0.0, 0.0, 0.0),
        "shift": 1.0 / 28,
    },
    # The embedded sample is 15 times smaller: smaller batches, more epochs, augmentation.
    "sample": {
        "epochs": 60,
        "batch_size": 64,
        "learning_rate": 3e-3,
        "optimizer": "adam",
        "schedule": "cosine",
        "warmup_epochs": 2.0,
        "dropout": (0.0, 0.0, 0.2),
        "shift": 2.0 / 28,
        "rotation": 10.0,
        "scaling": 0.1,
        "shear": 0.1,
        "elastic": 2.0 / 28,
    },
    # Long training of the network cnn on the full set: nine minutes on one core.
    "best": {
        "epochs": 150,
        "batch_size": 128,
        "learning_rate": 5e-3,
        "optimizer": "adamw",
        "schedule": "cosine",
        "warmup_epochs": 2.0,
        "ema_decay": 0.999,
        "dropout": (0.0, 0.0, 0.0),
        "shift": 2.0 / 28,
        "rotation": 10.0,
        "scaling": 0.1,
        "shear": 0.1,
        "elastic": 0.06,
        "cutout": 0.25,
    },
}
# For the networks with batch norms, which allow a larger learning rate.
DIGITS["small"] = {name: value for name, value in DIGITS["best"].items() if name != "dropout"} | {
    "epochs": 90,
    "learning_rate": 1e-2,
    "weight_decay": 0.01,
    "warmup_epochs": 1.0,
}
# On validation data, less cutout was slightly better for the smallest network.
DIGITS["tiny"] = DIGITS["small"] | {"epochs": 120, "cutout": 0.1}

# Trains compact_small on all tracks in seven minutes on two cores. Its values were selected with a fifth of
# the tracks held out.
_FAST: Settings = {
    "crop": "roi",
    "epochs": 11,
    "batch_size": 128,
    "learning_rate": 3e-3,
    "optimizer": "adamw",
    "weight_decay": 0.02,
    "schedule": "cosine",
    "warmup_epochs": 1.0,
    "label_smoothing": 0.1,
    "ema_decay": 0.998,
    "shift": 0.1,
    "rotation": 15.0,
    "scaling": 0.25,
    "shear": 0.15,
    "brightness": 0.3,
    "contrast": 1.0,
    "colour": 0.2,
    "shadow": 0.6,
    "flips": 0.5,
}

# For longer training.
_STRONGER: Settings = {"ema_decay": 0.999, "contrast": 1.5, "colour": 0.3, "shadow": 0.7}

SIGNS: dict[str, Settings] = {
    # The course's setting (notebook GTSRB5).
    "course": DIGITS["course"] | {"batch_size": 64},
    "fast": _FAST,
    # Longer training of compact_small: 70 minutes on one core.
    "small": _FAST | _STRONGER | {"epochs": 50, "cutout": 0.2},
    # Longer training of compact: an hour on one core.
    "best": _FAST | _STRONGER | {"width": 1.5, "epochs": 30, "cutout": 0.35},
}

# Own images of any kind. `adapt_to_images` adds the settings that depend on the data.
_IMAGES: Settings = {
    "optimizer": "adamw",
    "weight_decay": 0.02,
    "schedule": "cosine",
    "warmup_epochs": 1.0,
    "label_smoothing": 0.1,
    "shift": 0.1,
    "rotation": 10.0,
    "scaling": 0.2,
    "shear": 0.1,
    "brightness": 0.2,
    "contrast": 0.3,
    "colour": 0.1,
    "cutout": 0.2,
}
IMAGES: dict[str, Settings] = {"images": _IMAGES, **DIGITS}

# The networks for which recipes were selected. The other recipes are for any network.
_DIGIT_NETWORKS = {"fast": ("cnn",), "best": ("cnn",), "small": ("small",), "tiny": ("tiny",)}
_SIGN_NETWORKS = {
    "fast": ("compact_small", "compact"),
    "small": ("compact_small",),
    "best": ("compact",),
}

_WARPS = ("shift", "rotation", "scaling", "shear", "elastic")
_OTHERS = ("blur", "brightness", "contrast", "colour", "shadow", "cutout", "flips")
_NONE: Settings = dict.fromkeys((*_WARPS, *_OTHERS), 0.0)
AUGMENTATIONS: dict[str, Settings] = {
    "none": _NONE,
    # Notebook GTSRB4. Its shear is a change of the aspect ratio here.
    "course": _NONE | {"shift": 0.1, "rotation": 10.0, "scaling": 0.2, "shear": 0.1},
}

VALIDATION_FRACTION = 0.1

# Values of the settings that a recipe does not contain.
NEUTRAL: Settings = _NONE | {
    "crop": "full",
    "width": 1.0,
    "warmup_epochs": 0.0,
    "weight_decay": 0.0,
    "label_smoothing": 0.0,
    "clip_norm": 0.0,
    "ema_decay": 0.0,
}


def recipes_for(dataset: str) -> dict[str, Settings]:
    """Return the recipes by name: for traffic signs, for own images, or for all other data sets."""
    return SIGNS if dataset in SIGN_SETS else IMAGES if is_own(dataset) else DIGITS


def usual_recipe(dataset: str, model: str | None, variant: str) -> str:
    """Return the name of the recipe of a run with ``--recipe auto``."""
    if is_own(dataset):
        return "images"
    if dataset in SIGN_SETS:
        return "fast" if model in ("compact", "compact_small") else "course"
    if variant == "sample":
        return "sample"
    return model if model in ("small", "tiny") else "course"


def selected_for(dataset: str, recipe: str) -> tuple[str, ...]:
    """Return the networks for which a recipe was selected, or none if it is for any network."""
    return (_SIGN_NETWORKS if dataset in SIGN_SETS else _DIGIT_NETWORKS).get(recipe, ())


def recipe_settings(settings: Mapping[str, Any], examples: int, side: int) -> Settings:
    """Return the values of the settings that are not given.

    Args:
        settings: At least dataset, model, recipe, hold_out and augmentation.
        examples, side: Number of training images and their larger side, for own images.
    """
    dataset, recipe, model = settings["dataset"], settings["recipe"], settings["model"]
    values = NEUTRAL | recipes_for(dataset).get(recipe, {})
    if recipe == "images":
        values |= adapt_to_images(examples, side)
    values["validation_fraction"] = 0.0 if settings["hold_out"] == "test" else VALIDATION_FRACTION
    values |= AUGMENTATIONS.get(settings["augmentation"], {})
    if model != "cnn":
        values.pop("dropout", None)  # the recipes' rates are for the three layers of cnn
    if model != "compact":
        values["width"] = 1.0
    return values


def adapt_to_images(examples: int, side: int) -> Settings:
    """Return the settings of the recipe "images" that depend on the number and the size of the images.

    They were chosen such that two cores train for at most a few minutes on up to 5,000 images. Small sets
    need small batches for enough steps, and large images a narrow network.
    """
    batch_size = next(
        (size for most, size in ((200, 8), (2000, 32), (10_000, 64)) if examples <= most), 128
    )
    epochs = min(max(round(14_000 / max(examples, 1)), 12), 60)
    steps = epochs * max(examples / batch_size, 1)
    return {
        "batch_size": batch_size,
        "epochs": epochs,
        "learning_rate": round(3e-3 * (batch_size / 128) ** 0.5, 5),
        "ema_decay": round(min(max(1 - 20 / steps, 0.9), 0.998), 4),
        "width": 1.0 if side <= 48 else 0.6 if side <= 80 else 0.35,
    }
