"""A finished run gives back the network that was tested. Any other directory gives a one-line error."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import fidle_jax
from fidle_jax.errors import InputError
from fidle_jax.files import read_json, write_json
from fidle_jax.inference.load import classify, load, map_batches
from fidle_jax.train import run_dir as run_dirs


@pytest.fixture
def copied(trained_run, tmp_path):
    """A copy of the run that may be damaged."""
    return shutil.copytree(trained_run, tmp_path / "run")


def error_of(run_dir):
    with pytest.raises(InputError) as caught:
        load(run_dir)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def contents(folder):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_probabilities_are_those_of_the_test(trained, evaluation):
    images, expected = evaluation["images"], evaluation["probabilities"]
    np.testing.assert_allclose(trained.predict(images), expected, atol=1e-6)
    shares = images[:9].astype(np.float32) / 255
    np.testing.assert_allclose(trained.predict(shares), expected[:9], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda images: images[:, :, :, 0], slice(3)),
        (lambda images: images[0], slice(1)),
        (lambda images: images[0, :, :, 0], slice(1)),
        (lambda images: images[:0], slice(0)),
        (lambda images: jnp.asarray(images / 255, jnp.float32), slice(3)),
        (lambda images: (images / 255).tolist(), slice(3)),
    ],
)
def test_single_images_greyscale_without_channels_and_floats_are_accepted(
    trained, evaluation, change, same
):
    images = evaluation["images"][:3]
    found = trained.predict(change(images))
    np.testing.assert_allclose(found, evaluation["probabilities"][:3][same], atol=1e-6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 28, 28, 1), np.int64), "the images have type int64; expected uint8"),
        (np.zeros((2, 28, 28, 1), np.uint16), "the images have type uint16; expected uint8"),
        (np.zeros((2, 28, 28, 1), bool), "the images have type bool; expected uint8"),
        (np.full((2, 28, 28, 1), 255.0), "the images have values from 255 to 255; expected floats"),
        (
            np.full((2, 28, 28, 1), -0.1),
            "the images have values from -0.1 to -0.1; expected floats",
        ),
        (
            np.full((2, 28, 28, 1), np.nan),
            "the images have values from nan to nan; expected floats",
        ),
        (
            np.zeros((2, 1, 28, 28), np.uint8),
            "the images have shape (2, 1, 28, 28); expected (batch, 28",
        ),
        (
            np.zeros((2, 784), np.uint8),
            "the images have shape (2, 784); expected (batch, 28, 28, 1)",
        ),
        (np.zeros((2, 28, 28, 3), np.uint8), "the images have shape (2, 28, 28, 3); expected"),
        (
            np.zeros((2, 5, 28, 28, 1), np.uint8),
            "the images have shape (2, 5, 28, 28, 1); expected",
        ),
        (np.uint8(3), "the images have shape (); expected (batch, 28, 28, 1)"),
        (["a.png"], "cannot read a.png: No such file"),
    ],
)
def test_images_of_another_shape_type_or_range_are_an_error(trained, images, message):
    with pytest.raises(InputError) as caught:
        trained.predict(images)
    assert str(caught.value).startswith(message)


def test_the_model_returns_the_logits(trained):
    images = np.random.default_rng(0).random((3, 28, 28, 1), np.float32)
    logits = trained.model.apply(trained.variables, jnp.asarray(images))
    np.testing.assert_allclose(jax.nn.softmax(logits), trained.predict(images), atol=1e-6)


def test_shape_class_names_config_and_result_are_loaded(trained_run):
    trained = fidle_jax.load(str(trained_run))
    assert trained.image_shape == (28, 28, 1)
    assert trained.class_names == tuple("0123456789")
    assert trained.config.data.dataset == "mnist"
    assert trained.result == run_dirs.read_result(trained_run)


def test_a_file_that_changed_after_the_run_is_named_in_a_warning(copied, caplog):
    names = json.loads((copied / "model.json").read_text())
    (copied / "model.json").write_text(json.dumps(names | {"class_names": list("9876543210")}))
    load(copied)
    assert "model.json of the run in" in caplog.text


@pytest.mark.parametrize(
    "shape",
    [[28, 28, 3], [28, 28, 0], [28000, 28000, 1], [10**30, 28, 1], [28.0, 28, 1], [14, 28, 1]],
)
def test_another_image_shape_than_that_of_the_network_is_an_error(copied, shape):
    model = json.loads((copied / "model.json").read_text())
    (copied / "model.json").write_text(json.dumps(model | {"image_shape": shape}))
    assert error_of(copied)


@pytest.mark.parametrize("order", ["<", ">"])
def test_arrays_of_any_byte_order_are_classified_alike(trained, evaluation, order):
    images = (evaluation["images"][:3] / 255).astype(f"{order}f4")
    np.testing.assert_allclose(trained.predict(images), evaluation["probabilities"][:3], atol=1e-6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([[1, 2], [3]], "are not an array of numbers"),
        (np.ma.masked_less(np.ones((28, 28)), 2), "have masked values"),
        (np.zeros((28, 28), np.longdouble), "have type float128"),
        ([Image.new("L", (28, 28)), np.zeros((28, 28, 1))], "are not an array of numbers"),
        (np.full((28, 28), None), "have type object"),
    ],
)
def test_images_that_are_no_plain_arrays_are_an_error(trained, images, message):
    with pytest.raises(InputError, match=message):
        trained.predict(images)


def test_the_directory_is_not_changed(trained_run):
    before = contents(trained_run)
    load(trained_run)
    assert contents(trained_run) == before


def test_a_run_may_be_moved(trained, copied):
    images = np.zeros((1, 28, 28, 1), np.uint8)
    np.testing.assert_array_equal(load(copied).predict(images), trained.predict(images))


@pytest.mark.parametrize("number", [1, 5, 256, 257, 600])
def test_classify_returns_the_probabilities_of_the_test_for_any_number(trained, evaluation, number):
    found = classify(trained, evaluation["images"][:number])
    np.testing.assert_allclose(found, evaluation["probabilities"][:number], atol=1e-6)


@pytest.mark.parametrize("number", [1, 4, 5, 9])
def test_all_batches_have_the_same_size_and_padding_is_dropped(number):
    images, sizes = np.arange(number, dtype=np.uint8).reshape(-1, 1, 1, 1), set()

    def brightness(batch):
        sizes.add(len(batch))
        return batch.sum(axis=(1, 2, 3))

    assert map_batches(brightness, images, 4).tolist() == list(range(number))
    assert sizes == {4}


def test_a_missing_run_is_an_error(tmp_path):
    for run_dir in (tmp_path, tmp_path / "nowhere"):
        assert error_of(run_dir).startswith(f"there is no run in {run_dir}")


def test_an_unfinished_run_is_an_error_with_the_command_that_continues_it(copied):
    (copied / "report.html").unlink()
    command = f"python experiments/mnist_cnn.py --run-dir {copied} --resume"
    assert error_of(copied) == f"the run in {copied} is not finished; continue it: {command}"


def test_a_lesson_is_an_error(tmp_path):
    (tmp_path / "config.json").write_text('{"experiment": "lesson/activations", "layers": 10}')
    (tmp_path / "report.html").touch()
    assert error_of(tmp_path).startswith(f"{tmp_path} belongs to a lesson, which saves no network")


@pytest.mark.parametrize("field", ["arrays", "structure"])
def test_a_damaged_checkpoint_is_an_error(copied, field):
    step = json.loads((copied / "result.json").read_text())["steps"]
    newest = copied / "checkpoints" / str(step)
    for path in newest.rglob("*"):
        if path.is_file() and (field == "structure" or path.parent.name == "d"):
            content = bytearray(path.read_bytes())
            content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
            path.write_bytes(content)
    expected = f"checkpoint {step} in {copied} is damaged or of another version"
    assert error_of(copied).startswith(expected)


@pytest.mark.parametrize("gone", ["", "{step}"])
def test_without_the_checkpoint_that_the_result_names_there_is_an_error(copied, gone):
    step = json.loads((copied / "result.json").read_text())["steps"]
    shutil.rmtree(copied / "checkpoints" / gone.format(step=step))
    assert error_of(copied) == (
        f"checkpoint {step} in {copied} is missing, but result.json names it; restore it, or run again"
    )


def test_a_missing_or_damaged_model_json_is_an_error(copied):
    path = copied / "model.json"
    for content in (path.read_bytes()[:100], b""):
        path.write_bytes(content)
        assert error_of(copied).startswith(f"{path} cannot be read")
    path.unlink()
    assert error_of(copied).startswith(f"{path} cannot be read (No such file or directory)")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model": "resnet"}, "unknown model 'resnet'"),
        ({"optimizer": "adagrad"}, "unknown optimizer 'adagrad'"),
        ({"dropout": [0.1]}, "dropout 0.1 does not fit the model 'cnn'"),
        ({"batch_size": "many"}, "config.json cannot be read"),
        ({"model": "dnn", "dropout": None}, "is damaged or of another version"),
    ],
)
def test_unknown_values_of_the_config_are_an_error(copied, change, expected, monkeypatch):
    identity = run_dirs.identity(copied)
    monkeypatch.setattr(run_dirs, "identity", lambda _: identity)
    path = copied / "config.json"
    write_json(path, read_json(path, {}) | change)
    assert expected in error_of(copied)


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_an_unreadable_config_is_an_error(copied, text):
    (copied / "config.json").write_text(text)
    assert error_of(copied).startswith(f"{copied / 'config.json'} cannot be read")


@pytest.mark.parametrize("text", ["", "{", "{}"])
def test_an_unreadable_result_is_an_error(copied, text):
    (copied / "result.json").write_text(text)
    assert str(copied / "result.json") in error_of(copied)
