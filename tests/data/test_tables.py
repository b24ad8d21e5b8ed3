import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidle_jax.data.tables import CLASSIFICATION, REGRESSION, TABLES, load_table, three_parts
from fidle_jax.errors import InputError

LOADED = {name: load_table(name) for name in TABLES}


@pytest.fixture
def tables():
    return LOADED


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_float32_numbers_all_of_them_finite_with_a_name_for_each_column(tables, name):
    table = tables[name]
    assert table.features.dtype == np.float32
    assert np.isfinite(table.features).all()
    assert table.features.shape == (len(table.targets), len(table.feature_names))
    assert len(set(table.feature_names)) == len(table.feature_names)


@pytest.mark.parametrize("name", REGRESSION)
def test_targets_of_a_regression_are_float32_numbers_with_a_unit(tables, name):
    table = tables[name]
    assert table.targets.dtype == np.float32
    assert np.isfinite(table.targets).all()
    assert table.unit
    assert not table.class_names


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_targets_of_a_classification_are_the_places_of_their_classes(tables, name):
    table = tables[name]
    assert table.targets.dtype == np.int32
    assert set(table.targets) == set(range(len(table.class_names)))


def test_the_first_car_is_the_chevrolet_chevelle_malibu_of_1970_from_the_usa(tables):
    cars = tables["autompg"]
    assert cars.features.shape == (392, 9)
    np.testing.assert_array_equal(cars.features[0], [8, 307, 130, 3504, 12, 70, 1, 0, 0])
    assert cars.targets[0] == 18


def test_each_car_is_from_one_place(tables):
    np.testing.assert_array_equal(tables["autompg"].features[:, -3:].sum(axis=1), 1)


def test_diabetes_is_in_its_own_units(tables):
    patients = tables["diabetes"]
    age = patients.features[:, 0]
    assert (len(patients.targets), age.min(), age.max()) == (442, 19, 79)


def test_malignant_is_the_positive_class_and_the_rarer_one(tables):
    tumours = tables["cancer"]
    assert tumours.class_names[1] == "malignant"
    assert list(np.bincount(tumours.targets)) == [357, 212]


def test_digits_are_64_pixels_from_0_to_16(tables):
    digits = tables["digits"]
    assert digits.features.shape == (1797, 64)
    assert (digits.features.min(), digits.features.max()) == (0, 16)


def test_an_unknown_table_is_named_with_the_nearest():
    with pytest.raises(InputError, match="unknown table 'autompq'; did you mean autompg"):
        load_table("autompq")


@given(name=st.sampled_from(sorted(TABLES)), seed=st.integers(0, 2**31))
def test_every_row_is_in_one_part_and_the_parts_are_three_fifths_a_fifth_and_a_fifth(name, seed):
    table = LOADED[name]
    parts = three_parts(table, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(table.targets)))
    shares = [len(part) / len(table.targets) for part in parts]
    np.testing.assert_allclose(shares, [0.6, 0.2, 0.2], atol=0.01)


def test_each_class_has_its_share_in_every_part(tables):
    tumours = tables["cancer"]
    for part in three_parts(tumours, 3):
        assert tumours.targets[part].mean() == pytest.approx(212 / 569, abs=0.01)


def test_the_seed_alone_makes_the_parts(tables):
    first, again, other = (three_parts(tables["cancer"], seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(again))
    assert not np.array_equal(first.test, other.test)


def test_the_first_row_is_in_each_part_as_often_as_its_share(tables):
    # It was in no validation part where both cuts were made by the same random bits.
    cars = tables["autompg"]
    found = [[0 in part for part in three_parts(cars, seed)] for seed in range(500)]
    np.testing.assert_allclose(np.mean(found, axis=0), [0.6, 0.2, 0.2], atol=0.06)
