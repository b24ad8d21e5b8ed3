"""The test of a run, and the arrays for its report, which NumPy can read without pickle."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from fidle_jax.data import Split
from fidle_jax.data.augment import NO_AUGMENTATION, Augmentation, scale
from fidle_jax.nn import CNN, DNN, Conv
from fidle_jax.train import outcome as outcome_module
from fidle_jax.train.outcome import evaluate_test, write_augmented
from fidle_jax.train.step import Task, init_state, train_step


@pytest.fixture(params=[CNN, DNN])
def outcome(request, squares, tmp_path):
    model = request.param(classes=3)
    images = squares.read("test").images
    variables = model.init(jax.random.key(0), scale(images[:1]))
    facts = evaluate_test(model, variables, squares, tmp_path)
    logits = model.apply(variables, scale(images))
    return facts, tmp_path, logits, squares.read("test"), variables


def test_loss_and_accuracy_cover_the_whole_test_split(outcome):
    facts, _, logits, split, _ = outcome
    picked = np.asarray(jax.nn.log_softmax(logits))[np.arange(31), split.labels]
    assert facts["test_loss"] == pytest.approx(-picked.mean(), rel=1e-5)
    assert facts["test_accuracy"] == (np.argmax(logits, -1) == split.labels).mean()


def test_images_labels_and_probabilities_are_saved(outcome):
    _, directory, logits, split, _ = outcome
    with np.load(directory / "evaluation.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["images"], split.images)
        np.testing.assert_array_equal(arrays["labels"], split.labels)
        np.testing.assert_allclose(arrays["probabilities"], jax.nn.softmax(logits), atol=1e-6)


def test_a_large_test_set_is_evaluated_in_parts_with_the_same_result(
    outcome, squares, tmp_path, monkeypatch
):
    facts, directory, *_, variables = outcome
    monkeypatch.setattr(outcome_module, "TEST_BYTES", 1)
    monkeypatch.setattr(outcome_module, "EVAL_BATCH_SIZE", 7)
    (tmp_path / "parts").mkdir()
    model = CNN(classes=3) if "conv_1" in variables["params"] else DNN(classes=3)
    stored = dataclasses.replace(squares, read=pytest.fail)
    found = evaluate_test(model, variables, stored, tmp_path / "parts")
    assert found == pytest.approx(facts, rel=1e-5)
    for name in ("images", "labels", "probabilities"):
        with (
            np.load(directory / "evaluation.npz") as whole,
            np.load(tmp_path / "parts" / "evaluation.npz") as parts,
        ):
            np.testing.assert_allclose(parts[name], whole[name], atol=1e-6)


def test_feature_maps_are_saved_from_the_image_to_the_logits(outcome):
    _, directory, logits, split, variables = outcome
    with np.load(directory / "layers.npz", allow_pickle=False) as arrays:
        maps = sorted(name for name in arrays.files if name.startswith("map/"))
        np.testing.assert_allclose(arrays[maps[0]], split.images[0] / 255.0, atol=1e-6)
        np.testing.assert_allclose(arrays[maps[-1]], logits[0], atol=1e-5)
        assert [name.split(" ")[0] for name in maps] == [f"map/{i:02d}" for i in range(len(maps))]
        for name, params in variables["params"].items():
            if name.startswith("conv"):
                np.testing.assert_array_equal(arrays[f"kernel/{name}"], params["kernel"])


class Block(nn.Module):
    """A convolution inside a module."""

    @nn.compact
    def __call__(self, x):
        return Conv(4, name="conv")(x)


class Nested(nn.Module):
    """A model that consists of modules."""

    @nn.compact
    def __call__(self, x, *, train=False, example_index=None):
        x = Block(name="block")(x)
        return nn.Dense(3, name="dense")(x.reshape(x.shape[0], -1))


def test_nested_layers_are_saved_too(squares, tmp_path):
    variables = Nested().init(jax.random.key(0), scale(squares.read("test").images[:1]))
    evaluate_test(Nested(), variables, squares, tmp_path)
    with np.load(tmp_path / "layers.npz", allow_pickle=False) as arrays:
        kernel = variables["params"]["block"]["conv"]["kernel"]
        np.testing.assert_array_equal(arrays["kernel/block/conv"], kernel)
        found = {name.split(" ")[1] for name in arrays.files if name.startswith("map/")}
        assert found == {"input", "block", "block/conv", "dense"}


class Spy(nn.Module):
    """A model that stores its training batch as batch statistics."""

    @nn.compact
    def __call__(self, x, *, train=False, example_index=None):
        seen = self.variable("batch_stats", "seen", lambda: jnp.zeros((31, *x.shape[1:])))
        seen.value = x if train else seen.value
        return nn.Dense(3)(x.reshape(x.shape[0], -1))


def augmented(train, ranges, directory, seed=0):
    write_augmented(train, ranges, seed, directory)
    with np.load(directory / "augmented.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def test_augmented_versions_are_the_inputs_of_the_first_training_step(squares, tmp_path):
    ranges = Augmentation(
        shift=2,
        rotation=20,
        brightness=0.2,
        contrast=0.5,
        colour=0.2,
        cutout=0.3,
        flips=0.5,
        mirrored=(1, 0, 2),
    )
    found = augmented(squares.read("train"), ranges, tmp_path, seed=7)
    task = Task(Spy(), optax.sgd(0.1), ranges)
    state = init_state(task.model, (12, 12, 1), task.optimizer, seed=7)
    batch = np.repeat(found["image"][None], 31, 0), np.repeat(found["label"], 31)
    batch = *batch, np.ones(31, np.float32), np.arange(31)
    after = jax.jit(lambda *arrays: train_step(task, *arrays))(state, *(x[None] for x in batch))
    seen = after.batch_stats["seen"]
    np.testing.assert_allclose(found["versions"] / 255, seen, atol=0.5001 / 255)
    assert len(np.unique(found["versions"], axis=0)) == 31
    assert set(found["labels"].tolist()) == {0, 1}


def uniform_except(striped, n=40):
    """Return uniform images from dark to bright. Images in ``striped`` have stripes (level, depth)."""
    images = np.repeat(np.arange(n, dtype=np.uint8)[:, None, None, None], 12, 1).repeat(12, 2)
    for index, (level, depth) in striped.items():
        stripes = level + np.arange(12, dtype=np.uint8) % 2 * depth
        images[index] = stripes[None, :, None]
    return images


def test_the_augmented_image_is_bright_and_sharp_and_has_the_highest_contrast(tmp_path):
    images = uniform_except({3: (0, 60), 5: (150, 90), 12: (150, 60), 21: (150, 50)})
    images[9, :6], images[9, 6:] = 50, 250  # high contrast, but only one edge
    train = Split(images, np.arange(40, dtype=np.int32) % 3)
    found = augmented(train, Augmentation(brightness=0.1), tmp_path)
    np.testing.assert_array_equal(found["image"], images[5])
    assert found["label"] == 2


def test_with_flips_the_augmented_image_has_a_class_that_a_flip_changes(tmp_path):
    images = uniform_except({3: (150, 50), 4: (150, 50)})
    train = Split(images, np.array([0, 1] * 20, np.int32))
    for mirrored, chosen in (((2, 1, 0), 4), ((-1, 2, 1), 3), ((0, 1, 2), 3)):
        ranges = Augmentation(flips=0.5, mirrored=mirrored)
        found = augmented(train, ranges, tmp_path)
        assert found["label"] == train.labels[chosen], mirrored


def test_without_augmentation_no_file_is_written(squares, tmp_path):
    write_augmented(squares.read("train"), NO_AUGMENTATION, 0, tmp_path)
    assert not list(tmp_path.iterdir())
