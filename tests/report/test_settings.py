import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidle_jax.report.settings import IDENTITY, settings_by_origin
from fidle_jax.train.config import Config, resolve, to_json

CHANGED = {
    "epochs": 3,
    "learning_rate": 0.02,
    "dropout": (0.1, 0.2, 0.3),
    "hold_out": "test",
    "seed": 7,
    "shift": 0.3,
    "weight_decay": 0.1,
    "class_weights": "inverse",
    "parallel": "pmap",
}


def origins(variant="full", examples=1000, side=64, **settings):
    config = to_json(resolve(Config().replace(**settings), variant))
    return settings_by_origin(json.loads(json.dumps(config)), examples, side)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"variant": "sample"},
        {"recipe": "best"},
        {"model": "dnn"},
        {"dataset": "32x32-RGB", "model": "compact"},
        {"dataset": "48x48-L-CLAHE", "model": "v2", "recipe": "best"},
        {"dataset": "photos/", "model": "compact"},
        {"dataset": "photos/", "model": "compact", "recipe": "course"},
    ],
    ids=str,
)
def test_without_flags_only_data_network_and_recipe_are_the_users(settings):
    found = origins(**settings)
    assert tuple(found.user) == IDENTITY
    assert {"epochs", "batch_size", "optimizer"} <= found.recipe.keys()


@given(st.sets(st.sampled_from(list(CHANGED))))
def test_settings_that_differ_are_the_users(names):
    found = origins(**{name: CHANGED[name] for name in names})
    assert found.user.keys() - set(IDENTITY) == names


def test_values_that_the_recipe_does_not_need_are_others():
    found = origins("sample", run_dir=None, data_dir=Path("data"), progress=False)
    assert found.recipe["shift"] == 2 / 28
    assert {"weight_decay", "cutout", "data_dir", "progress"} <= found.others.keys()


def test_a_preset_is_the_users_and_its_values_are_not():
    found = origins(augmentation="course")
    assert found.user["augmentation"] == "course"
    assert found.recipe["rotation"] == 10.0


def test_settings_that_an_object_replaces_are_left_out():
    config = to_json(resolve(Config(), "full")) | {"optimizer": None, "learning_rate": None}
    found = settings_by_origin(config, 1000, 28)
    assert not {"optimizer", "learning_rate"} & set().union(*found)


def test_recipes_for_own_images_depend_on_their_number_and_size():
    config = to_json(resolve(Config().replace(dataset="photos/", model="compact"), "full"))
    assert "epochs" not in settings_by_origin(config, 1000, 64).user
    assert "epochs" in settings_by_origin(config, 200, 64).user
