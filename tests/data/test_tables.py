"""Tables are complete, have names and units, and are split 60:20:20."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidle_jax.data.tables import CLASSIFICATION, REGRESSION, TABLES, load_table, three_parts
from fidle_jax.errors import InputError

LOADED = {name: load_table(name) for name in TABLES}


@pytest.mark.parametrize("name", TABLES)
def test_features_are_finite_float32_numbers_with_a_name_for_each_column(name):
    table = LOADED[name]
    assert table.features.dtype == np.float32
    assert np.isfinite(table.features).all()
    assert table.features.shape == (len(table.targets), len(table.feature_names))
    assert len(set(table.feature_names)) == len(table.feature_names)


@pytest.mark.parametrize("name", REGRESSION)
def test_regression_targets_are_float32_numbers_with_a_unit(name):
    table = LOADED[name]
    assert table.targets.dtype == np.float32
    assert np.isfinite(table.targets).all()
    assert table.unit
    assert not table.class_names


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_classification_targets_are_class_indices(name):
    table = LOADED[name]
    assert table.targets.dtype == np.int32
    assert set(table.targets) == set(range(len(table.class_names)))


def test_the_first_car_is_the_chevrolet_chevelle_malibu_of_1970_from_the_usa():
    cars = LOADED["autompg"]
    assert cars.features.shape == (392, 9)
    np.testing.assert_array_equal(cars.features[0], [8, 307, 130, 3504, 12, 70, 1, 0, 0])
    assert cars.targets[0] == 18


def test_each_car_has_one_origin():
    np.testing.assert_array_equal(LOADED["autompg"].features[:, -3:].sum(axis=1), 1)


def test_diabetes_is_in_the_original_units():
    patients = LOADED["diabetes"]
    age = patients.features[:, 0]
    assert (len(patients.targets), age.min(), age.max()) == (442, 19, 79)


def test_malignant_is_the_positive_class_and_the_rarer_one():
    tumours = LOADED["cancer"]
    assert tumours.class_names[1] == "malignant"
    assert list(np.bincount(tumours.targets)) == [357, 212]


def test_digits_are_64_pixels_from_0_to_16():
    digits = LOADED["digits"]
    assert digits.features.shape == (1797, 64)
    assert (digits.features.min(), digits.features.max()) == (0, 16)


def test_an_unknown_table_is_named_with_the_closest():
    with pytest.raises(InputError, match="unknown table 'autompq'; did you mean autompg"):
        load_table("autompq")


@given(name=st.sampled_from(sorted(TABLES)), seed=st.integers(0, 2**31))
def test_every_row_is_in_one_part_and_the_parts_are_60_20_and_20_percent(name, seed):
    table = LOADED[name]
    parts = three_parts(table, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(table.targets)))
    shares = [len(part) / len(table.targets) for part in parts]
    np.testing.assert_allclose(shares, [0.6, 0.2, 0.2], atol=0.01)


def test_every_part_has_the_same_share_of_each_class():
    tumours = LOADED["cancer"]
    for part in three_parts(tumours, 3):
        assert tumours.targets[part].mean() == pytest.approx(212 / 569, abs=0.01)


def test_the_parts_depend_only_on_the_seed():
    first, again, other = (three_parts(LOADED["cancer"], seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(again))
    assert not np.array_equal(first.test, other.test)


def test_every_part_contains_the_first_row_as_often_as_its_share():
    # If both splits used the same random bits, it would never be in the validation part.
    cars = LOADED["autompg"]
    found = [[0 in part for part in three_parts(cars, seed)] for seed in range(500)]
    np.testing.assert_allclose(np.mean(found, axis=0), [0.6, 0.2, 0.2], atol=0.06)
