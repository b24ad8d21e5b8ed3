import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fidle_jax.lessons.standardise import restore, scale_of, standardise

TABLES = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 20), st.integers(1, 4)),
    elements=st.floats(-1e6, 1e6, width=32),
)


def test_a_column_has_mean_0_and_deviation_1():
    columns = np.random.default_rng(0).normal([3, 3000], [1, 800], (500, 2)).astype(np.float32)
    found = standardise(columns, scale_of(columns))
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(axis=0), 1, rtol=1e-5)


def test_other_rows_are_measured_by_the_training_part():
    train = np.float32([[0], [2]])
    np.testing.assert_array_equal(standardise(np.float32([[5]]), scale_of(train)), [[4]])


@given(value=st.floats(-(2.0**100), 2.0**100, width=32), rows=st.integers(1, 50))
def test_a_column_that_never_varies_is_0(value, rows):
    column = np.full((rows, 1), value, np.float32)
    # Rounding of the mean may leave what is no more than the last digits of double precision.
    found = standardise(column, scale_of(column))
    np.testing.assert_allclose(found, 0, atol=max(abs(value), 1) * 1e-14)


def test_a_row_off_a_column_that_never_varied_keeps_its_distance():
    scale = scale_of(np.full((4, 1), 7, np.float32))
    np.testing.assert_array_equal(standardise(np.float32([[9]]), scale), [[2]])


@given(TABLES)
def test_no_table_of_numbers_gives_one_that_is_none(table):
    found = standardise(table, scale_of(table))
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


@given(TABLES)
def test_what_is_restored_is_what_was_standardised(table):
    scale = scale_of(table)
    back = restore(standardise(table, scale), scale)
    np.testing.assert_allclose(back, table, rtol=1e-5, atol=1e-5 * (1 + np.abs(table).max()))


def test_targets_without_columns_are_scaled_alike():
    targets = np.float32([10, 20, 30])
    scale = scale_of(targets)
    assert scale.mean == pytest.approx(20)
    np.testing.assert_allclose(restore(standardise(targets, scale), scale), targets, rtol=1e-6)
