"""The settings of a run by their origin: the user, the recipe, or a default."""

from typing import Any, NamedTuple

from fidle_jax.data import is_own
from fidle_jax.train.config import SETTINGS, Config
from fidle_jax.train.recipes import NEUTRAL, recipe_settings

IDENTITY = ("dataset", "data", "model", "recipe")  # always stated
PLACES = ("archives", "data_dir")  # they don't change the result


class Origins(NamedTuple):
    """Settings with their values as in config.json."""

    user: dict[str, Any]  # data, network and recipe, and what differs from the other two
    recipe: dict[str, Any]  # values of the recipe, and of the augmentation preset
    others: dict[str, Any]  # defaults, and settings that don't change the result


def settings_by_origin(config: dict[str, Any], examples: int, side: int) -> Origins:
    """Divide the settings of config.json by the values that recipe and defaults would have given.

    Args:
        config: Content of config.json.
        examples, side: Number of training images and their larger side, for own images.
    """
    defaults = Config().settings()
    dataset = config.get("dataset") or ""
    recipe = recipe_settings(defaults | config, examples, side)
    if is_own(dataset) and config.get("class_weights") == "effective":
        recipe["class_weights"] = "effective"  # the value of auto for unbalanced classes
    expected = defaults | {"class_weights": "none"} | recipe
    found = Origins({}, {}, {})
    for name in (each for each in SETTINGS if each in config):
        value, usual = config[name], expected[name]
        usual = list(usual) if isinstance(usual, tuple) else usual
        if name in IDENTITY:
            found.user[name] = value
        elif name in PLACES or SETTINGS[name].group == "run":
            found.others[name] = value
        elif value is None and usual is not None:
            continue  # a Python object replaces it
        elif value != usual:
            found.user[name] = value
        elif name in recipe and name != "validation_fraction" and value != NEUTRAL.get(name):
            found.recipe[name] = value
        else:
            found.others[name] = value
    return found
