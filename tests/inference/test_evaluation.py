import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidle_jax.data import Split, StoredSplit
from fidle_jax.inference import evaluation, load
from fidle_jax.train import run as run_module
from fidle_jax.train.config import ResolvedConfig


@pytest.fixture(scope="module")
def trained(trained_run):
    return load.load(trained_run)


def noise(count, shape=(28, 28, 1)):
    return np.random.default_rng(count).integers(0, 256, (count, *shape), np.uint8)


@pytest.mark.parametrize("count", [1, evaluation.AT_ONCE, 2 * evaluation.AT_ONCE + 1])
def test_logits_are_those_of_the_trained_network_for_any_number_of_images(trained, count):
    images = noise(count)
    logits = evaluation.make_forward(trained)(images)
    assert logits.shape == (count, 10)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(chances, trained.predict(images), atol=1e-5)


def in_memory(groups):
    labels = np.repeat(np.arange(3), 40).astype(np.int32)
    tracks = np.arange(120, dtype=np.int32) // 10 if groups else None
    return Split(np.arange(120, dtype=np.uint8).reshape(120, 1, 1, 1), labels, tracks)


@given(
    groups=st.booleans(),
    hold_out=st.sampled_from(["groups", "examples"]),
    fraction=st.sampled_from([0.0, 0.1, 0.4]),
    scale=st.sampled_from([0.5, 0.999, 1.0]),
    seed=st.integers(0, 5),
)
def test_a_run_is_split_as_in_its_training(groups, hold_out, fraction, scale, seed):
    config = ResolvedConfig().replace(
        hold_out=hold_out, validation_fraction=fraction, scale=scale, seed=seed
    )
    whole = in_memory(groups)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "load_dataset", lambda *_, **__: FakeSet(whole))
        found = evaluation.training_parts(config)
    expected = run_module.hold_out(run_module.take_share(whole, scale), config)
    for part, same in zip(found, expected, strict=True):
        np.testing.assert_array_equal(part.images, same.images)
        np.testing.assert_array_equal(part.labels, same.labels)


class FakeSet:
    open = None

    def __init__(self, whole):
        self.whole = whole

    def read(self, split):
        assert split == "train"
        return self.whole


def test_a_run_that_chose_its_epoch_on_the_test_set_held_nothing_out(trained):
    config = trained.config.replace(hold_out="test", validation_fraction=0.0)
    train, held_out = evaluation.training_parts(config)
    assert (len(train.labels), len(held_out.labels)) == (4000, 0)


def test_the_sample_is_divided_as_the_result_says(trained):
    train, held_out = evaluation.training_parts(trained.config)
    counts = trained.result["train_examples"], trained.result["validation_examples"]
    assert (len(train.labels), len(held_out.labels)) == counts
    assert evaluation.count_seen(held_out.images, train) == 0


def test_images_that_were_trained_on_are_counted():
    known, others = noise(1200, (4, 4, 1)), noise(7, (4, 4, 1))
    train = StoredSplit(np.zeros(1200, np.int32), None, lambda rows: known[rows])
    asked = np.concatenate([others, known[[0, 1199]], known[[3]], known[[3]]])
    assert evaluation.count_seen(asked, train) == 4
