import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from fidle_jax.kernels import hashing

# The bits of a fixed key do not change: a chance below this is a pattern, not bad luck.
UNLIKELY = 1e-4
# The sizes of the CNN's first dropout at half its usual batch; the plainest keys are the hardest.
EXAMPLES, ELEMENTS = 256, 13 * 13 * 8
KEYS = [jax.random.key(0), jax.random.key(1), jax.random.fold_in(jax.random.key(0), 7)]


hash_bits = jax.jit(hashing.hash_bits, static_argnums=2)
permutation = jax.jit(hashing.permutation, static_argnums=1)


def _bits(key, examples=EXAMPLES, elements=ELEMENTS):
    return np.asarray(hash_bits(key, jnp.arange(examples), elements))


def _correlation(a, b):
    """Of two arrays of 32-bit words, in standard deviations of what independent ones would give."""
    a, b = (words.astype(np.float64).ravel() / 2**32 - 0.5 for words in (a, b))
    return 12 * math.sqrt(a.size) * np.mean(a * b)


@pytest.mark.parametrize("key", KEYS)
def test_each_of_the_32_bits_is_set_half_the_time(key):
    bits = _bits(key)
    set_count = np.array([((bits >> i) & 1).sum() for i in range(32)])
    half = bits.size / 2
    chi_square = ((set_count - half) ** 2 / half + (bits.size - set_count - half) ** 2 / half).sum()
    assert scipy.stats.chi2.sf(chi_square, 32) > UNLIKELY


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("byte", range(4))
def test_each_value_of_each_byte_comes_equally_often(key, byte):
    counts = np.bincount((_bits(key).ravel() >> (8 * byte)) & 255, minlength=256)
    assert scipy.stats.chisquare(counts).pvalue > UNLIKELY


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("lag", [1, 2, 3, 8, 13 * 8, 128])
def test_neighbouring_elements_and_neighbouring_examples_are_uncorrelated(key, lag):
    bits = _bits(key)
    assert abs(_correlation(bits[:, lag:], bits[:, :-lag])) < 4.5
    assert abs(_correlation(bits[lag:], bits[:-lag])) < 4.5


@pytest.mark.parametrize(("one", "other"), [(0, 1), (0, 2), (1, 2)])
def test_keys_as_near_as_two_seeds_give_uncorrelated_bits(one, other):
    assert abs(_correlation(_bits(KEYS[one]), _bits(KEYS[other]))) < 4.5


def test_words_repeat_no_more_often_than_by_chance():
    words = _bits(KEYS[2])
    repeats = words.size - np.unique(words).size
    assert scipy.stats.poisson.sf(repeats - 1, words.size**2 / 2**33) > UNLIKELY


@settings(max_examples=15)
@given(st.lists(st.integers(0, 2**31 - 1), min_size=5, max_size=5))
def test_an_examples_bits_depend_on_key_index_and_element_alone(indices):
    indices = np.array(indices, np.int32)
    together = hash_bits(KEYS[2], indices, 7)
    alone = [hash_bits(KEYS[2], indices[i : i + 1], 4)[0] for i in range(5)]
    np.testing.assert_array_equal(together[:, :4], alone)
    assert together.dtype == jnp.uint32


def test_the_bits_stay_what_they_were_in_earlier_versions():
    bits = hashing.hash_bits(jax.random.key(0), jnp.arange(2), 3)
    expected = [[0, 1492470133, 911671261], [604019821, 19936761, 2571377106]]
    np.testing.assert_array_equal(bits, expected)
    with jax.enable_x64(True):
        wide = hashing.hash_bits(jax.random.key(0), jnp.arange(2), 3)
    np.testing.assert_array_equal(wide, expected)


@pytest.mark.parametrize("implementation", ["rbg", "unsafe_rbg"])
def test_keys_of_jaxs_other_generators_serve_too(implementation):
    one, other = (jax.random.key(seed, impl=implementation) for seed in (3, 4))
    assert abs(_correlation(_bits(one), _bits(other))) < 4.5


@pytest.mark.parametrize("size", [0, 1, 2, 1000])
def test_a_permutation_holds_every_number_once(size):
    @settings(max_examples=15)
    @given(st.integers(0, 2**32 - 1))
    def check(seed):
        order = permutation(jax.random.key(seed), size)
        assert order.dtype == jnp.int32
        np.testing.assert_array_equal(np.sort(order), np.arange(size))

    check()


def test_a_permutation_of_a_whole_data_set_depends_on_the_key_alone():
    first, again, other = (permutation(jax.random.key(seed), 60_000) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    # Two random orders agree in one place on average.
    assert (first == other).sum() < 10
    assert (first == np.arange(60_000)).sum() < 10


def test_all_24_orders_of_four_come_equally_often():
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(jnp.arange(4800))
    orders = jax.jit(jax.vmap(lambda key: hashing.permutation(key, 4)))(keys)
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert counts.size == math.factorial(4)
    assert scipy.stats.chisquare(counts).pvalue > UNLIKELY


def test_where_a_number_lands_is_uniform_over_the_seeds():
    keys = jax.vmap(jax.random.key)(jnp.arange(2000))
    orders = jax.jit(jax.vmap(lambda key: hashing.permutation(key, 10)))(keys)
    for place in (0, 9):
        counts = np.bincount(orders[:, place], minlength=10)
        assert scipy.stats.chisquare(counts).pvalue > UNLIKELY
