"""A finished run's directory gives back the network that was tested; anything else is told in one line."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fidle_jax
from fidle_jax.errors import InputError
from fidle_jax.inference.load import load


@pytest.fixture
def copied(trained_run, tmp_path):
    """A copy of the run to do harm to."""
    return shutil.copytree(trained_run, tmp_path / "run")


def told(run_dir):
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


def rewrite(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_probabilities_are_those_of_the_test(trained_run):
    trained = load(trained_run)
    with np.load(trained_run / "evaluation.npz") as evaluation:
        images, expected = evaluation["images"], evaluation["probabilities"]
    probabilities = trained.predict(images)
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    # Numbers from 0 to 1 are the same images.
    np.testing.assert_allclose(
        trained.predict(images[:9].astype(np.float32) / 255), expected[:9], atol=1e-6
    )


def test_the_network_gives_the_logits_of_these_probabilities(trained_run):
    trained = load(trained_run)
    images = np.random.default_rng(0).random((3, 28, 28, 1), np.float32)
    logits = trained.model.apply(trained.variables, jnp.asarray(images))
    np.testing.assert_allclose(jax.nn.softmax(logits), trained.predict(images), atol=1e-6)


def test_what_else_is_known_of_the_run_comes_along(trained_run):
    trained = fidle_jax.load(str(trained_run))
    assert trained.image_shape == (28, 28, 1)
    assert trained.class_names == tuple("0123456789")
    assert trained.config.data.dataset == "mnist"
    assert trained.result == json.loads((trained_run / "result.json").read_text())


def test_the_directory_is_only_read(trained_run):
    before = contents(trained_run)
    load(trained_run)
    assert contents(trained_run) == before


def test_a_run_may_be_moved(trained_run, copied):
    images = np.zeros((1, 28, 28, 1), np.uint8)
    np.testing.assert_array_equal(load(copied).predict(images), load(trained_run).predict(images))


def test_where_no_run_is_that_is_told(tmp_path):
    assert told(tmp_path).startswith(f"there is no run in {tmp_path}")
    assert told(tmp_path / "nowhere").startswith(f"there is no run in {tmp_path / 'nowhere'}")


def test_an_unfinished_run_is_told_with_the_command_that_goes_on(copied):
    (copied / "report.html").unlink()
    expected = f"python experiments/mnist_cnn.py --run-dir {copied} --resume"
    assert told(copied) == f"the run in {copied} is not finished; go on with it: {expected}"


def test_a_lesson_is_no_run(tmp_path):
    (tmp_path / "config.json").write_text('{"experiment": "lesson/activations", "layers": 10}')
    (tmp_path / "report.html").touch()
    assert told(tmp_path).startswith(f"{tmp_path} is a lesson's, which keeps no network")


@pytest.mark.parametrize("field", ["arrays", "structure"])
def test_a_damaged_checkpoint_is_told(copied, field):
    newest = max((copied / "checkpoints").iterdir(), key=lambda path: int(path.name))
    for path in newest.rglob("*"):
        if path.is_file() and (field == "structure" or path.parent.name == "d"):
            content = bytearray(path.read_bytes())
            content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
            path.write_bytes(content)
    assert told(copied).startswith(
        f"the last checkpoint in {copied} is damaged or of another version"
    )


def test_a_run_without_checkpoints_is_told(copied):
    shutil.rmtree(copied / "checkpoints")
    assert told(copied) == f"the run in {copied} has no checkpoint any more; run it again"


def test_a_missing_or_damaged_model_json_is_named(copied):
    path = copied / "model.json"
    for content in (path.read_bytes()[:100], b""):
        path.write_bytes(content)
        assert told(copied).startswith(f"{path}: not JSON")
    path.unlink()
    assert told(copied).startswith(f"{path}: No such file or directory")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model": "resnet"}, "unknown model 'resnet'"),
        ({"optimizer": "adagrad"}, "unknown optimizer 'adagrad'"),
        ({"dropout": [0.1]}, "dropout 0.1 does not fit the model 'cnn'"),
        ({"batch_size": "many"}, "cannot be read as a run's config"),
        ({"model": "dnn", "dropout": None}, "is damaged or of another version"),
    ],
)
def test_a_config_of_unknown_values_is_told(copied, change, expected):
    rewrite(copied / "config.json", **change)
    assert expected in told(copied)


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_config_or_result_that_is_no_json_is_told(copied, text):
    whole = (copied / "config.json").read_text()
    (copied / "config.json").write_text(text)
    assert f"{copied / 'config.json'} cannot be read" in told(copied)
    (copied / "config.json").write_text(whole)
    if text not in ("[]", "null"):
        (copied / "result.json").write_text(text)
        assert f"{copied / 'result.json'} cannot be read" in told(copied)
