import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidle_jax.inference.comparison import accuracy_interval, compare


def rights(both, only_first, only_second, neither):
    counts = (both, only_first, only_second, neither)
    first = np.repeat([True, True, False, False], counts)
    return first, np.repeat([True, False, True, False], counts)


@given(st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_at_the_ends_of_wilsons_interval_the_share_is_just_196_deviations_off(counts):
    right, examples = counts
    share = right / examples
    for end, extreme in zip(accuracy_interval(right, examples), (0, examples), strict=True):
        deviation = np.sqrt(end * (1 - end) / examples)
        if right == extreme:
            assert end == pytest.approx(extreme / examples, abs=1e-9)
        else:
            assert abs(end - share) == pytest.approx(1.959964 * deviation, rel=1e-5, abs=1e-12)


def test_every_example_is_counted_once():
    found = compare(*rights(50, 4, 7, 3))
    assert (found.both, found.only_first, found.only_second, found.neither) == (50, 4, 7, 3)
    assert found.difference == pytest.approx(3 / 64)


def test_few_disagreements_are_tested_exactly():
    found = compare(*rights(90, 1, 8, 1))
    assert found.exact
    assert found.p_value == pytest.approx(2 * (1 + 9) / 2**9)


def test_many_by_chi_squared_with_a_correction():
    found = compare(*rights(900, 10, 30, 60))
    assert not found.exact
    # (|10 - 30| - 1)² / 40 = 9.025, and chi-squared of one degree of freedom exceeds that as rarely.
    assert found.p_value == pytest.approx(0.002663, abs=1e-6)


@pytest.mark.parametrize("apart", [0, 10, 20])
def test_networks_that_are_right_equally_often_do_not_differ(apart):
    assert compare(*rights(100, apart, apart, 5)).p_value == 1


def test_networks_that_never_differed_may_still_differ_a_little():
    # 1.96 times √(1 / 52) / √52: half an example more in each cell of 50 examples.
    low, high = compare(*rights(50, 0, 0, 0)).interval
    assert (low, high) == pytest.approx((-1.95996 / 52, 1.95996 / 52), rel=1e-5)


def test_chance_alone_seldom_looks_like_a_difference():
    rng = np.random.default_rng(0)
    found = [compare(*rng.random((2, 500)) < 0.9) for _ in range(1000)]
    assert np.mean([each.p_value < 0.05 for each in found]) < 0.06
    # And the interval of the difference, which is 0, holds it.
    holds = [each.interval.low <= 0 <= each.interval.high for each in found]
    assert 0.93 < np.mean(holds) < 0.98


@given(st.tuples(*[st.integers(0, 60)] * 4).filter(any))
def test_the_order_of_the_two_changes_the_sign_alone(counts):
    first, second = rights(*counts)
    found, turned = compare(first, second), compare(second, first)
    assert turned.p_value == pytest.approx(found.p_value)
    assert turned.difference == -found.difference
    assert turned.interval.low == pytest.approx(-found.interval.high)
    assert -1 <= found.interval.low <= found.interval.high <= 1
    assert 0 <= found.p_value <= 1
