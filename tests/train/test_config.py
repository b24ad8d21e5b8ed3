"""Configs: recipes fill in missing values, and wrong values are named."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidle_jax.errors import InputError
from fidle_jax.nn import MODELS
from fidle_jax.train.command_line import changed_settings, command_line
from fidle_jax.train.config import SETTINGS, Config, check, hyperparameters, resolve, to_json
from fidle_jax.train.config_json import convert, from_json
from fidle_jax.train.recipes import recipes_for


def make_config(**settings):
    return Config().replace(**settings)


def resolved(variant="full", **settings):
    return resolve(make_config(**settings), variant).settings()


@pytest.mark.parametrize(
    ("given", "variant", "expected"),
    [
        (
            {},
            "full",
            {
                "recipe": "course",
                "epochs": 16,
                "batch_size": 512,
                "learning_rate": 1e-3,
                "optimizer": "adam",
                "schedule": "constant",
                "dropout": None,
                "shift": 0,
                "label_smoothing": 0,
            },
        ),
        ({}, "sample", {"recipe": "sample", "epochs": 60}),
        ({"recipe": "course"}, "sample", {"recipe": "course", "epochs": 16}),
        (
            {"dataset": "24x24-L", "model": "v1"},
            "full",
            {"recipe": "course", "epochs": 16, "batch_size": 64, "crop": "full"},
        ),
        ({"dataset": "32x32-RGB", "model": "compact"}, "full", {"recipe": "fast", "crop": "roi"}),
        (
            {"dataset": "32x32-RGB", "model": "compact_small"},
            "full",
            {"recipe": "fast", "width": 1.0},
        ),
        ({"model": "tiny"}, "full", {"recipe": "tiny", "learning_rate": 1e-2, "dropout": None}),
        ({"model": "small"}, "sample", {"recipe": "sample"}),
        ({"dataset": "32x32-RGB", "model": "compact", "crop": "full"}, "full", {"crop": "full"}),
        ({"epochs": 3}, "full", {"epochs": 3}),
        ({"shift": 0.0}, "sample", {"shift": 0.0}),
        # An augmentation replaces the recipe's values, and a flag one of the augmentation's.
        (
            {"augmentation": "course", "rotation": 5.0},
            "sample",
            {"shift": 0.1, "rotation": 5.0, "scaling": 0.2, "elastic": 0.0},
        ),
        ({"augmentation": "none"}, "sample", {"shift": 0.0, "rotation": 0.0, "epochs": 60}),
        # The recipes' dropout is for cnn only, their width for compact only.
        ({}, "sample", {"dropout": (0.0, 0.0, 0.2)}),
        ({"model": "dnn"}, "sample", {"dropout": None}),
        ({"model": "dnn", "dropout": (0.1, 0.1)}, "sample", {"dropout": (0.1, 0.1)}),
        ({"dataset": "32x32-RGB", "recipe": "best", "model": "compact"}, "full", {"width": 1.5}),
        ({"dataset": "32x32-RGB", "recipe": "best", "model": "v1"}, "full", {"width": 1.0}),
        (
            {"dataset": "32x32-RGB", "recipe": "best", "model": "v1", "width": 2.0},
            "full",
            {"width": 2.0},
        ),
        ({"hold_out": "test"}, "full", {"validation_fraction": 0.0}),
        ({}, "full", {"validation_fraction": 0.1}),
    ],
)
def test_a_recipe_sets_what_is_not_given(given, variant, expected):
    found = resolved(variant, **given)
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("dataset", "recipe"),
    [(dataset, recipe) for dataset in ("mnist", "24x24-L") for recipe in recipes_for(dataset)],
)
def test_a_resolved_config_is_complete(dataset, recipe):
    config = resolve(make_config(dataset=dataset, recipe=recipe), "full")
    missing = {name for name, value in config.settings().items() if value is None}
    optional = {
        "archives",
        "data_dir",
        "run_dir",
        "devices",
        "dropout",
        "augmentation",
        "image_size",
        "from",
    }
    assert missing <= optional
    check(config)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"epochs": -1}, "--epochs is -1; it must be at least 0"),
        ({"batch_size": 0}, "--batch-size is 0; it must be at least 1"),
        ({"learning_rate": math.nan}, "--learning-rate is nan"),
        ({"learning_rate": -0.1}, "--learning-rate is -0.1"),
        ({"learning_rate": math.inf}, "--learning-rate is inf"),
        ({"seed": -1}, "--seed is -1"),
        ({"validation_fraction": 1.0}, "--validation-fraction is 1.0; it must be between 0 and"),
        ({"label_smoothing": 1.0}, "--label-smoothing is 1.0"),
        ({"clip_norm": -1.0}, "--clip-norm is -1.0"),
        ({"elastic": math.nan}, "--elastic is nan; it must be between 0 and 1"),
        ({"rotation": 1e40}, "--rotation is 1e+40"),
        ({"epochs": 10**320}, "--epochs is 1"),
        ({"optimizer": "adm"}, "unknown optimizer 'adm'; did you mean adam"),
        ({"schedule": "cosin"}, "did you mean cosine"),
        ({"model": "cn"}, "did you mean cnn"),
        ({"recipe": "bets"}, "did you mean best"),
        ({"dataset": "24x24-L", "recipe": "sample"}, "unknown recipe 'sample'"),
        ({"parallel": "pmp"}, "did you mean pmap"),
        ({"class_weights": "invers"}, "did you mean inverse"),
        ({"loader": "steam"}, "did you mean stream"),
        ({"compute_dtype": "float16"}, "did you mean bfloat16"),
        ({"devices": 0}, "--devices is 0; it must be at least 1"),
        ({"accumulate": 0}, "--accumulate is 0; it must be at least 1"),
        ({"data": "ful"}, "did you mean full"),
        ({"dataset": "24x24-L", "crop": "ro"}, "did you mean roi"),
        ({"hold_out": "group"}, "did you mean groups"),
        ({"augmentation": "non"}, "did you mean none"),
        ({"width": 0.0}, "--width is 0.0; it must be between 0.05 and 100"),
        ({"flips": 1.5}, "--flips is 1.5; it must be between 0 and 1"),
        ({"crop": "roi"}, "--crop is roi, but mnist has no annotated regions; give --crop full"),
        (
            {"hold_out": "test", "validation_fraction": 0.2},
            "--validation-fraction is 0.2; it must be 0 or left out, because --hold-out test",
        ),
        ({"resume": True}, "--resume needs --run-dir"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(changes, named):
    with pytest.raises(InputError) as caught:
        check(make_config(**changes))
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_setting_is_named():
    with pytest.raises(InputError, match="unknown flag 'epoch'; did you mean epochs"):
        make_config(epoch=1)


@given(
    seed=st.integers(0, 2**32 - 1),
    epochs=st.none() | st.integers(0, 1000),
    dropout=st.none() | st.tuples(st.floats(0, 0.9), st.floats(0, 0.9)),
    archives=st.none() | st.just(Path("some where")),
)
def test_a_config_survives_json(seed, epochs, dropout, archives):
    config = make_config(seed=seed, epochs=epochs, dropout=dropout, archives=archives)
    restored = from_json(json.loads(json.dumps(to_json(config))))
    assert restored == config.replace(archives=archives and archives.absolute())


def test_other_entries_of_a_config_file_are_ignored_but_a_missing_one_is_an_error():
    values = to_json(Config())
    assert from_json(values | {"command": "python x.py"}) == Config()
    del values["ema_decay"]
    with pytest.raises(InputError, match="it has no ema_decay, so another program or version"):
        from_json(values)


def test_a_config_of_an_older_version_has_the_values_that_change_nothing():
    values = to_json(Config().replace(blur=0.1))
    del values["blur"]
    assert from_json(values) == Config().replace(blur=0.0)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("weight_decay", 0, 0.0),
        ("batch_size", 8, 8),
        ("dropout", [0, 0.5], (0.0, 0.5)),
        ("dropout", 0, (0.0,)),
        ("model", "cnn", "cnn"),
        ("archives", "/x", Path("/x")),
        ("learning_rate", None, None),
        ("learning_rate", "fast", "learning-rate is 'fast'; it must be a number"),
        ("batch_size", 8.5, "batch-size is 8.5; it must be a whole number"),
        ("batch_size", True, "batch-size is True; it must be a whole number"),
        ("model", 3, "model is 3; it must be text"),
        ("dropout", ["x"], "dropout is 'x'; it must be a number"),
    ],
)
def test_values_are_converted_to_the_type_of_their_flag_or_named(name, value, expected):
    try:
        found = convert(name, value)
    except InputError as error:
        found = str(error)
    assert (found, type(found)) == (expected, type(expected))


def test_hyperparameters_are_the_settings_that_determine_the_result():
    found = hyperparameters(make_config(run_dir=Path("a"), shift=0.5))
    assert found["shift"] == 0.5
    assert found["class_weights"] == "auto"
    assert found["seed"] == 0
    assert SETTINGS.keys() - found.keys() == {
        *("archives", "data_dir", "run_dir", "resume", "checkpoint_seconds"),
        *("profile", "progress", "debug", "devices", "parallel", "loader"),
    }


def test_a_config_is_written_as_the_flags_that_differ_from_the_defaults():
    config = make_config(model="dnn", dropout=(0.5, 0.1), progress=False, profile=True, epochs=3)
    words = command_line(changed_settings(config, make_config(epochs=3)))
    expected = ["--model", "dnn", "--dropout", "0.5", "0.1", "--profile", "--no-progress"]
    assert words == expected


def test_the_models_that_can_be_named_are_the_models_that_exist():
    assert set(SETTINGS["model"].choices) == set(MODELS)
