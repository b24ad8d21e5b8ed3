import numpy as np

from fidle_jax.report import likeness


def noise(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), np.uint8)


def test_products_of_grey_copies_are_correlations():
    images = noise(5)
    grey = images.reshape(5, 16, 2, 16, 2, 3).mean((2, 4, 5)).reshape(5, -1)
    copies = likeness.grey_copies(images)
    np.testing.assert_allclose(copies @ copies.T, np.corrcoef(grey), atol=1e-5)


def test_brightness_and_contrast_do_not_matter_and_a_single_grey_level_has_correlation_0():
    dark, bright = noise(1) // 4, noise(1) // 4 * 3 + 20
    copies = likeness.grey_copies(np.concatenate([dark, bright, np.full_like(dark, 7)]))
    np.testing.assert_allclose(copies @ copies.T, [[1, 1, 0], [1, 1, 0], [0, 0, 0]], atol=1e-5)


def test_the_nearest_photographs_in_all_tracks_and_in_other_tracks_are_found():
    # Three tracks of similar frames. The third track is similar to the first.
    scenes = noise(2).astype(int)
    frames = np.concatenate([scenes[[k]] + noise(4, seed) % 20 for seed, k in enumerate((0, 1, 0))])
    train = likeness.grey_copies(np.clip(frames, 0, 255).astype(np.uint8))
    groups = np.repeat([0, 1, 2], 4)
    test = train[[5]]
    nearest = likeness.find_nearest(train, groups, test)
    assert (nearest.index != np.arange(12)).all()
    assert set(nearest.index[groups == 1]) <= {4, 5, 6, 7}
    assert set(groups[nearest.elsewhere[groups == 0]]) == {2}
    assert (groups[nearest.elsewhere] != groups).all()
    assert nearest.test_index.tolist() == [5]
    np.testing.assert_allclose(nearest.test_correlation, 1, atol=1e-3)
    expected = (train * train[nearest.index]).sum(axis=1)
    np.testing.assert_allclose(nearest.correlation, expected, atol=1e-5)
