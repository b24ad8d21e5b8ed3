"""An exported network is compared with the run's on all test images; a wrong one does not pass."""

import jax.numpy as jnp
import numpy as np
import pytest

from fidle_jax.errors import InputError
from fidle_jax.inference.agreement import compare
from tests.inference.random_networks import random_images, random_network

IMAGES = random_images((7, 9, 3), 1203)  # more than two batches


@pytest.fixture(scope="module")
def trained():
    return random_network("dnn")


@pytest.fixture
def run_dir(tmp_path, trained):
    probabilities = np.asarray(trained.predict(IMAGES))
    np.savez(tmp_path / "evaluation.npz", images=IMAGES, probabilities=probabilities)
    return tmp_path


def test_the_network_itself_agrees_on_every_image(trained, run_dir):
    images, difference, others = agreement = compare(trained.predict, trained, run_dir)
    assert agreement.holds()
    assert (images, others) == (1203, 0)
    assert difference < 1e-6


def test_one_image_of_all_that_differs_is_found(trained, run_dir):
    def wrong(images):
        last = (images == IMAGES[-1]).all((1, 2, 3))
        return jnp.where(last[:, None], trained.predict(images)[:, ::-1], trained.predict(images))

    agreement = compare(wrong, trained, run_dir)
    assert agreement.other_classes == 1
    assert agreement.difference > 1e-3
    assert not agreement.holds()


def test_probabilities_that_are_a_little_off_do_not_agree_though_the_classes_do(trained, run_dir):
    agreement = compare(lambda x: trained.predict(x) * 0.9999, trained, run_dir)
    assert agreement.other_classes == 0
    assert agreement.difference == pytest.approx(1e-4 * _largest(trained), rel=0.01)
    assert not agreement.holds()


def _largest(trained):
    return float(trained.predict(IMAGES).max())


def test_what_is_no_number_does_not_agree(trained, run_dir):
    def undefined(images):
        return np.full((len(images), 7), np.nan, np.float32)

    agreement = compare(undefined, trained, run_dir)
    assert agreement.difference == np.inf
    assert not agreement.holds()


def test_what_an_accelerator_rounded_is_asked_for_again(trained, run_dir):
    rounded = np.asarray(trained.predict(IMAGES)).astype(np.float16)
    np.savez(run_dir / "evaluation.npz", images=IMAGES, probabilities=rounded)
    assert not compare(trained.predict, trained, run_dir).holds()
    on_gpu = trained._replace(result=trained.result | {"platform": "gpu"})
    assert compare(trained.predict, on_gpu, run_dir).holds()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", None])
def test_a_test_that_left_nothing_readable_is_one_line(trained, run_dir, content):
    path = run_dir / "evaluation.npz"
    path.write_bytes(content) if content is not None else path.unlink()
    with pytest.raises(InputError, match=r"evaluation\.npz") as caught:
        compare(trained.predict, trained, run_dir)
    assert "\n" not in str(caught.value)
