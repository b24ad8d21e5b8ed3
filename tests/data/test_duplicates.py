import io

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageEnhance

from fidle_jax.data.dataset import stratified_split
from fidle_jax.data.duplicates import find_groups, fingerprint, nearest_neighbour_accuracy
from fidle_jax.data.load import load_sample

SIDE = 64
# Crops and rotations of fine textures, and of some photographs such as chelsea, are not recognized.
PHOTOGRAPHS = ("astronaut", "camera", "cell", "coffee", "rocket")


def _photograph(name):
    return Image.fromarray(getattr(skimage.data, name)()).convert("RGB")


def _fingerprint(image):
    return fingerprint(np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)))


def _noise(count, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 32, 32, channels), dtype=np.uint8)


def _fingerprints(images):
    return np.stack([fingerprint(image) for image in images])


def _zeros(count):
    return np.zeros(count, np.int32)


def _jpeg(image):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=50)
    return Image.open(file)


def _crop(image):
    width, height = image.size
    return image.crop((width // 20, height // 20, width - width // 20, height - height // 20))


CHANGES = {
    "copy": lambda image: image,
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "JPEG": _jpeg,
    "crop of 90 %": _crop,
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "rotation": lambda image: image.rotate(3, Image.Resampling.BILINEAR),
}


@pytest.fixture(scope="module")
def tiles():
    """Unrelated images: tiles of photographs with structure."""
    images = []
    for name in ("astronaut", "coffee", "chelsea", "rocket", "motorcycle_left"):
        if hasattr(skimage.data, name):
            picture = np.asarray(_photograph(name))
            for y in range(0, picture.shape[0] - SIDE, SIDE):
                for x in range(0, picture.shape[1] - SIDE, SIDE):
                    images.append(picture[y : y + SIDE, x : x + SIDE])
    return _fingerprints([image for image in images if image.std() > 40])


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_photograph_is_in_the_group_of_the_original(change, tiles):
    originals = [_photograph(name) for name in PHOTOGRAPHS]
    changed = [CHANGES[change](image) for image in originals]
    pairs = np.stack([_fingerprint(image) for image in originals + changed])
    groups = find_groups(np.concatenate([pairs, tiles]), _zeros(len(pairs) + len(tiles)))
    count = len(originals)
    np.testing.assert_array_equal(groups[:count], groups[count : 2 * count])
    assert len(np.unique(groups[:count])) == count


@pytest.mark.parametrize(("count", "copies"), [(10, 3), (10, 10), (40, 3), (100, 5)])
def test_a_set_in_which_every_image_has_copies_has_a_group_for_each_image(count, copies):
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (2 * count, 8, 8, 3), dtype=np.uint8)
    originals = [Image.fromarray(each).resize((32, 32), Image.Resampling.BICUBIC) for each in small]
    changed = np.repeat(np.stack(originals), copies, axis=0)
    changed = changed * rng.uniform(0.85, 1.1, (len(changed), 1, 1, 1))
    images = (changed + rng.normal(0, 4, changed.shape)).clip(0, 255).astype(np.uint8)
    original = np.repeat(np.arange(2 * count), copies)
    groups = find_groups(_fingerprints(images), original % 2)
    assert len(set(zip(original.tolist(), groups.tolist(), strict=True))) == 2 * count
    assert len(set(zip((original % 2).tolist(), groups.tolist(), strict=True))) == 2 * count


@pytest.mark.parametrize("channels", [1, 3])
def test_random_images_are_groups_of_one_in_the_order_of_the_examples(channels):
    labels = np.arange(300, dtype=np.int32) % 3
    groups = find_groups(_fingerprints(_noise(300, channels)), labels)
    np.testing.assert_array_equal(groups, np.arange(300) // 3)
    for fraction in (0.1, 0.2):
        with_groups = stratified_split(labels, fraction, 0, groups)
        np.testing.assert_array_equal(with_groups[1], stratified_split(labels, fraction, 0)[1])


def test_few_handwritten_digits_have_duplicates():
    split = load_sample(0).read("train")
    groups = find_groups(_fingerprints(split.images), split.labels)
    pairs = np.unique(np.stack([split.labels, groups]), axis=1).shape[1]
    assert pairs > 0.97 * len(groups)


def test_equal_images_are_one_group_and_classes_are_separate():
    images = _fingerprints([*[np.full((24, 24, 3), 7, np.uint8)] * 50, *_noise(50)])
    labels = np.arange(100, dtype=np.int32) % 2
    groups = find_groups(images, labels)
    assert set(groups[:50]) == {0}
    np.testing.assert_array_equal(groups[50:], 1 + np.arange(50) // 2)


@pytest.mark.parametrize("sizes", [(), (1,), (1, 1, 1), (2, 3), (5, 1)])
def test_classes_of_any_size_are_accepted(sizes):
    labels = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    images = _noise(len(labels)).reshape(-1, 32, 32, 3)
    fingerprints = np.stack([*map(fingerprint, images)]) if sizes else np.zeros((0, 192), np.uint8)
    expected = [row for size in sizes for row in range(size)]
    np.testing.assert_array_equal(find_groups(fingerprints, labels), np.array(expected, np.int32))


def _tracks(count, frames):
    """Move a window slowly over ``count`` random textures and zoom in, like an approaching camera."""
    rng = np.random.default_rng(0)
    images = []
    for texture in rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8):
        picture = Image.fromarray(texture).resize((256, 256), Image.Resampling.BICUBIC)
        for frame in range(frames):
            shift, side = frame, 128 - frame // 2
            images.append(picture.crop((shift, shift, shift + side, shift + side)).resize((32, 32)))
    return _fingerprints([np.asarray(image) for image in images])


def test_frames_of_a_track_stay_together_in_any_order_of_the_files():
    fingerprints, tracks = _tracks(20, 30), np.repeat(np.arange(20), 30)
    order = np.random.default_rng(1).permutation(len(tracks))
    groups = find_groups(fingerprints[order], _zeros(len(order)))
    tracks = tracks[order]
    for track in range(20):
        assert np.bincount(groups[tracks == track]).max() >= 0.95 * 30
    assert len(np.unique(groups)) >= 10
    first = [np.flatnonzero(groups == group)[0] for group in range(groups.max() + 1)]
    assert first == sorted(first)


def test_nearest_neighbour_accuracy_drops_if_whole_tracks_are_held_out():
    fingerprints, tracks = _tracks(20, 10), np.repeat(np.arange(20), 10)
    labels = (np.arange(200) // 10 % 2).astype(np.int32)
    train, test = stratified_split(labels, 0.2, 0)
    assert nearest_neighbour_accuracy(fingerprints, labels, test, train) > 0.95
    train, test = stratified_split(labels, 0.2, 0, tracks)
    assert nearest_neighbour_accuracy(fingerprints, labels, test, train) < 0.9
