"""What the report needs is left on disk, right and readable by NumPy alone."""

import dataclasses

import jax
import numpy as np
import pytest

from fidle_jax.nn import CNN, DNN
from fidle_jax.train.outcome import evaluate_test


@pytest.fixture(params=[CNN, DNN])
def outcome(request, squares, tmp_path):
    model = request.param(classes=3)
    images = squares.read("test").images
    variables = model.init(jax.random.key(0), images[:1] / 255.0)
    facts = evaluate_test(model, variables, squares, tmp_path)
    logits = model.apply(variables, images / 255.0)
    return facts, tmp_path, logits, squares.read("test"), variables


def test_loss_and_accuracy_are_those_of_the_whole_test_split(outcome):
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
        assert list(arrays["class_names"]) == ["left", "right", "below"]


def test_groups_are_saved_in_their_order_where_the_data_set_has_them(outcome, squares):
    _, directory, _, _, variables = outcome
    with np.load(directory / "evaluation.npz", allow_pickle=False) as arrays:
        assert "class_groups" not in arrays
    model = CNN(classes=3) if "conv_1" in variables["params"] else DNN(classes=3)
    grouped = dataclasses.replace(squares, class_groups={"low": (2,), "high": (1, 0)})
    evaluate_test(model, variables, grouped, directory)
    with np.load(directory / "evaluation.npz", allow_pickle=False) as arrays:
        assert arrays["group_names"].tolist() == ["low", "high"]
        assert arrays["class_groups"].tolist() == [1, 1, 0]


def test_maps_go_from_the_image_to_the_logits_layer_by_layer(outcome):
    _, directory, logits, split, variables = outcome
    with np.load(directory / "layers.npz", allow_pickle=False) as arrays:
        maps = sorted(name for name in arrays.files if name.startswith("map/"))
        np.testing.assert_allclose(arrays[maps[0]], split.images[0] / 255.0, atol=1e-6)
        np.testing.assert_allclose(arrays[maps[-1]], logits[0], atol=1e-5)
        assert [name.split(" ")[0] for name in maps] == [f"map/{i:02d}" for i in range(len(maps))]
        for name, params in variables["params"].items():
            if name.startswith("conv"):
                np.testing.assert_array_equal(arrays[f"kernel/{name}"], params["kernel"])
