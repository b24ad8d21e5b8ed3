"""Configs: what a recipe leaves open is filled in, what is wrong is named."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidle_jax.errors import InputError
from fidle_jax.nn import MODELS as MODELS_THERE_ARE
from fidle_jax.train.config import (
    MODELS,
    Config,
    check,
    differences,
    from_json,
    options,
    resolve,
    to_json,
)
from fidle_jax.train.recipes import recipes_for


def test_full_data_take_the_courses_own_setting():
    config = resolve(Config(), "full")
    assert (config.epochs, config.batch_size, config.learning_rate) == (16, 512, 1e-3)
    assert (config.optimizer, config.schedule, config.dropout) == ("adam", "constant", None)
    assert (config.shift, config.rotation, config.label_smoothing) == (0, 0, 0)


def test_the_sample_takes_its_own_recipe_and_a_named_recipe_is_taken_anywhere():
    assert resolve(Config(), "sample").recipe == "sample"
    assert resolve(Config(recipe="course"), "sample").recipe == "course"


@pytest.mark.parametrize(
    ("dataset", "recipe"),
    [(dataset, recipe) for dataset in ("mnist", "24x24-L") for recipe in recipes_for(dataset)],
)
def test_a_resolved_config_leaves_open_but_paths_devices_and_the_models_own_dropout(
    dataset, recipe
):
    config = resolve(Config(dataset=dataset, recipe=recipe), "full")
    still_open = {k for k, v in dataclasses.asdict(config).items() if v is None}
    paths = {"archives", "data_dir", "run_dir"}
    assert still_open <= paths | {"devices", "dropout", "augmentation"}
    check(config)


def test_traffic_signs_have_recipes_of_their_own():
    course = resolve(Config(dataset="24x24-L", model="v1"), "full")
    assert (course.recipe, course.epochs, course.batch_size) == ("course", 16, 64)
    fast = resolve(Config(dataset="32x32-RGB", model="compact"), "full")
    assert (fast.recipe, fast.crop, course.crop) == ("fast", "roi", "full")
    assert resolve(dataclasses.replace(fast, crop="full"), "full").crop == "full"
    with pytest.raises(InputError, match="unknown recipe 'sample'"):
        check(Config(dataset="24x24-L", recipe="sample"))


def test_an_augmentation_stands_in_for_the_recipes_and_a_flag_for_a_value_of_it():
    config = resolve(Config(augmentation="course", rotation=5.0), "sample")
    assert (config.shift, config.rotation, config.scaling, config.elastic) == (0.1, 5.0, 0.2, 0.0)
    plain = resolve(Config(augmentation="none"), "sample")
    assert (plain.shift, plain.rotation, plain.epochs) == (0.0, 0.0, 60)


def test_the_recipes_dropout_is_the_cnns_alone():
    assert len(resolve(Config(), "sample").dropout) == 3
    assert resolve(Config(model="dnn"), "sample").dropout is None
    assert resolve(Config(model="dnn", dropout=(0.1, 0.1)), "sample").dropout == (0.1, 0.1)


def test_the_recipes_width_is_compacts_alone():
    best = Config(dataset="32x32-RGB", recipe="best")
    assert resolve(dataclasses.replace(best, model="compact"), "full").width == 1.5
    assert resolve(dataclasses.replace(best, model="v1"), "full").width == 1.0
    assert resolve(dataclasses.replace(best, model="v1", width=2.0), "full").width == 2.0


def test_a_flag_that_is_given_replaces_the_recipes_value():
    assert resolve(Config(epochs=3), "full").epochs == 3
    assert resolve(Config(shift=0.0), "sample").shift == 0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"epochs": -1}, "--epochs is -1"),
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"learning_rate": math.nan}, "--learning-rate is nan"),
        ({"learning_rate": -0.1}, "--learning-rate is -0.1"),
        ({"learning_rate": math.inf}, "--learning-rate is inf"),
        ({"seed": -1}, "--seed is -1"),
        ({"validation_fraction": 1.0}, "--validation-fraction is 1.0"),
        ({"label_smoothing": 1.0}, "--label-smoothing is 1.0"),
        ({"clip_norm": -1.0}, "--clip-norm is -1.0"),
        ({"elastic": math.nan}, "--elastic is nan; expected a number from 0 to 1"),
        ({"rotation": 1e40}, "--rotation is 1e+40"),
        ({"epochs": 10**320}, "--epochs is 1"),
        ({"optimizer": "adm"}, "did you mean adam"),
        ({"schedule": "cosin"}, "did you mean cosine"),
        ({"model": "cn"}, "did you mean cnn"),
        ({"recipe": "bets"}, "did you mean best"),
        ({"parallel": "pmp"}, "did you mean pmap"),
        ({"class_weights": "invers"}, "did you mean inverse"),
        ({"loader": "steam"}, "did you mean stream"),
        ({"compute_dtype": "float16"}, "did you mean bfloat16"),
        ({"devices": 0}, "--devices is 0; expected 1 or more"),
        ({"accumulate": 0}, "--accumulate is 0; expected 1 or more"),
        ({"data": "ful"}, "did you mean full"),
        ({"dataset": "24x24-L", "crop": "ro"}, "did you mean roi"),
        ({"hold_out": "group"}, "did you mean groups"),
        ({"augmentation": "non"}, "did you mean none"),
        ({"width": 0.0}, "--width is 0.0; expected a number from 0.05 to 100"),
        ({"flips": 1.5}, "--flips is 1.5; expected a number from 0 to 1"),
        ({"crop": "roi"}, "--crop is roi, which mnist has not annotated; expected full"),
        (
            {"hold_out": "test", "validation_fraction": 0.2},
            "--validation-fraction is 0.2; expected 0, or no such flag, as --hold-out test",
        ),
        ({"resume": True}, "--resume needs --run-dir"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(changes, named):
    with pytest.raises(InputError) as caught:
        check(Config(**changes))
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@given(
    seed=st.integers(0, 2**32 - 1),
    epochs=st.none() | st.integers(0, 1000),
    dropout=st.none() | st.tuples(st.floats(0, 0.9), st.floats(0, 0.9)),
    archives=st.none() | st.just(Path("some where")),
)
def test_a_config_survives_json(seed, epochs, dropout, archives):
    config = Config(seed=seed, epochs=epochs, dropout=dropout, archives=archives)
    restored = from_json(json.loads(json.dumps(to_json(config))))
    assert restored == dataclasses.replace(config, archives=archives and archives.absolute())


def test_what_a_config_file_holds_beyond_the_fields_is_passed_over():
    assert from_json(to_json(Config()) | {"command": "python x.py"}) == Config()


def test_differences_name_what_changes_the_result_and_nothing_else():
    saved = resolve(Config(run_dir=Path("a")), "full")
    asked = dataclasses.replace(saved, run_dir=Path("b"), devices=2, parallel="pmap", epochs=17)
    assert differences(asked, saved) == ["--epochs 17 (the run has 16)"]


def test_options_are_all_that_decides_what_is_computed():
    config = Config(run_dir=Path("a"), shift=2.0)
    assert options(config)["shift"] == 2.0
    assert options(config)["class_weights"] == "none"
    assert not {"run_dir", "data_dir", "resume", "devices", "progress"} & options(config).keys()


def test_the_models_that_may_be_named_are_those_there_are():
    assert set(MODELS) == set(MODELS_THERE_ARE)
