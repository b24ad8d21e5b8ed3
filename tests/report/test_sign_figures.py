import numpy as np
import pandas as pd

from fidle_jax.report import signs
from fidle_jax.report.tables import TEST, VALIDATION


def test_classes_have_both_counts_the_largest_first():
    figure = signs.class_counts(np.array([0, 1, 1, 1]), np.array([0, 0, 1]), ("a", "b"))
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b  1", "a  0"]
    assert [text.get_text() for text in axes.texts] == ["3 / 1", "1 / 2"]
    assert [bar.get_width() for bar in axes.patches] == [3, 1, 1, 2]


def test_the_ends_of_a_histogram_include_what_is_outside():
    panel = ("x", (np.array([-5.0, 300.0]), np.array([100.0])), np.arange(0, 256, 5))
    (axes,) = signs.histograms([panel]).axes
    train, test = (patch.get_data().values for patch in axes.patches)
    assert (train[0], train[-1], train.sum()) == (50, 50, 100)
    assert test.sum() == 100


def test_elements_are_evenly_spaced():
    assert signs.evenly_spaced(np.arange(9), 3).tolist() == [1, 4, 7]
    assert signs.evenly_spaced(np.array([9]), 3).tolist() == [9, 9, 9]


def noise(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), np.uint8)


def test_products_of_grey_copies_are_correlations():
    images = noise(5)
    grey = images.reshape(5, 16, 2, 16, 2, 3).mean((2, 4, 5)).reshape(5, -1)
    copies = signs.grey_copies(images)
    np.testing.assert_allclose(copies @ copies.T, np.corrcoef(grey), atol=1e-5)


def test_brightness_and_contrast_do_not_matter_and_a_single_grey_level_has_correlation_0():
    dark, bright = noise(1) // 4, noise(1) // 4 * 3 + 20
    copies = signs.grey_copies(np.concatenate([dark, bright, np.full_like(dark, 7)]))
    np.testing.assert_allclose(copies @ copies.T, [[1, 1, 0], [1, 1, 0], [0, 0, 0]], atol=1e-5)


def test_the_nearest_photographs_in_all_tracks_and_in_other_tracks_are_found():
    # Three tracks of similar frames. The third track is similar to the first.
    scenes = noise(2).astype(int)
    frames = np.concatenate([scenes[[k]] + noise(4, seed) % 20 for seed, k in enumerate((0, 1, 0))])
    train = signs.grey_copies(np.clip(frames, 0, 255).astype(np.uint8))
    groups = np.repeat([0, 1, 2], 4)
    test = train[[5]]
    nearest = signs.find_nearest(train, groups, test)
    assert (nearest.index != np.arange(12)).all()
    assert set(nearest.index[groups == 1]) <= {4, 5, 6, 7}
    assert set(groups[nearest.elsewhere[groups == 0]]) == {2}
    assert (groups[nearest.elsewhere] != groups).all()
    assert nearest.test_index.tolist() == [5]
    np.testing.assert_allclose(nearest.test_correlation, 1, atol=1e-3)
    expected = (train * train[nearest.index]).sum(axis=1)
    np.testing.assert_allclose(nearest.correlation, expected, atol=1e-5)


def test_each_setting_has_the_mean_accuracies_and_their_gap():
    flags = {"model": "v1", "dataset": "24x24-L", "crop": "full", "flips": 0.0}
    rows = [
        {
            "setting": f"{kind} {flips}",
            "flags": flags | {"hold_out": kind, "epochs": 16, "flips": flips},
            "epochs": 16,
            "seed": seed,
            "train_seconds": 9.0,
            VALIDATION: accuracy + 0.01 * seed,
            TEST: 0.94,
        }
        for seed in (1, 0)
        for kind, flips, accuracy in (("groups", 0.0, 0.94), ("examples", 0.0, 0.98))
    ]
    examples, groups = signs.gap_rows(pd.DataFrame(rows))
    assert examples == {
        "setting": "v1, 24x24-L, 16 epochs, random examples held out",
        "seeds": "0, 1",
        "validation": "98.50 ± 0.71",
        "test": "94.00 ± 0.00",
        "gap": "+4.50",
    }
    assert groups["setting"] == "v1, 24x24-L, 16 epochs, whole tracks held out"
    assert groups["gap"] == "+0.50"
    rows[0]["flags"]["flips"], rows[0]["setting"] = 0.5, "other"
    settings = [row["setting"] for row in signs.gap_rows(pd.DataFrame(rows))[1:]]
    assert settings == [f"{groups['setting']}, --flips {flips}" for flips in (0.0, 0.5)]
